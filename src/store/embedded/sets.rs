//! Sets.

use super::call::Call;
use super::collection::Set;
use super::commands::Outcome;
use super::hashes::random_rows;
use super::keyspace::NEVER;
use super::object::Object;
use super::options::{integer_within, signed_count};
use super::refusal::Refusal;
use crate::resp::args::Args;
use crate::resp::write;

pub(super) fn sadd(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let added = call.change_set(&args[1], |set| args.from(2).iter().filter(|member| set.put(member, b"")).count())?;
    write::integer(out, added as i64);
    Ok(())
}

pub(super) fn srem(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let removed = call.change_set(&args[1], |set| args.from(2).iter().filter(|member| set.remove(member)).count())?;
    write::integer(out, removed as i64);
    Ok(())
}

pub(super) fn smembers(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let protocol = call.protocol;
    let set = call.set(&args[1])?;
    write::set(out, protocol, set.map_or(0, Set::len));
    set.into_iter().flat_map(Set::iter).for_each(|(member, _)| write::bulk(out, member));
    Ok(())
}

pub(super) fn sismember(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let there = call.set(&args[1])?.is_some_and(|set| set.contains(&args[2]));
    write::integer(out, i64::from(there));
    Ok(())
}

pub(super) fn smismember(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let set = call.set(&args[1])?;
    write::array(out, args.len() - 2);
    for member in args.from(2).iter() {
        write::integer(out, i64::from(set.is_some_and(|set| set.contains(member))));
    }
    Ok(())
}

pub(super) fn scard(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let length = call.set(&args[1])?.map_or(0, Set::len);
    write::integer(out, length as i64);
    Ok(())
}

pub(super) fn spop(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    if args.len() > 3 {
        return Err(Refusal::Syntax);
    }
    let protocol = call.protocol;
    let Some(count) = args.get(2) else {
        match pop(call, &args[1], 1)?.first() {
            Some(member) => write::bulk(out, member),
            None => write::nil(out, protocol),
        }
        return Ok(());
    };
    let count = integer_within(count, 0, i64::MAX, "ERR value is out of range, must be positive")?;
    let popped = pop(call, &args[1], count)?;
    write::set(out, protocol, popped.len());
    popped.iter().for_each(|member| write::bulk(out, member));
    Ok(())
}

fn pop(call: &mut Call<'_>, key: &[u8], count: i64) -> Result<Vec<Vec<u8>>, Refusal> {
    call.change_set(key, |set| {
        let popped: Vec<Vec<u8>> =
            random_rows(set.len(), count).into_iter().map(|number| set.at(number).0.to_vec()).collect();
        for member in &popped {
            set.remove(member);
        }
        popped
    })
}

pub(super) fn srandmember(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    if args.len() > 3 {
        return Err(Refusal::Syntax);
    }
    let protocol = call.protocol;
    let count = args.get(2).map(signed_count).transpose()?;
    let set = call.set(&args[1])?;
    match (count, set) {
        (None, Some(set)) => write::bulk(out, set.at(fastrand::usize(..set.len())).0),
        (None, None) => write::nil(out, protocol),
        (Some(_), None) => write::array(out, 0),
        (Some(count), Some(set)) => {
            let chosen = random_rows(set.len(), count);
            write::array(out, chosen.len());
            chosen.iter().for_each(|&number| write::bulk(out, set.at(number).0));
        }
    }
    Ok(())
}

pub(super) fn smove(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let (from, to, member) = (&args[1], &args[2], &args[3]);
    let Some(there) = call.set(from)?.map(|set| set.contains(member)) else {
        write::integer(out, 0);
        return Ok(());
    };
    call.set(to)?;
    if there && from != to {
        call.change_set(from, |set| set.remove(member))?;
        call.change_set(to, |set| set.put(member, b""))?;
    }
    write::integer(out, i64::from(there));
    Ok(())
}

/// How sets are combined.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Combine {
    Intersect,
    Unite,
    Subtract,
}

pub(super) fn sinter(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    answer(call, args, out, Combine::Intersect)
}

pub(super) fn sunion(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    answer(call, args, out, Combine::Unite)
}

pub(super) fn sdiff(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    answer(call, args, out, Combine::Subtract)
}

pub(super) fn sinterstore(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    store(call, args, out, Combine::Intersect)
}

pub(super) fn sunionstore(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    store(call, args, out, Combine::Unite)
}

pub(super) fn sdiffstore(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    store(call, args, out, Combine::Subtract)
}

fn answer(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>, how: Combine) -> Outcome {
    let protocol = call.protocol;
    let result = combine(call, &args.from(1).iter().collect::<Vec<_>>(), how, usize::MAX)?;
    write::set(out, protocol, result.len());
    result.iter().for_each(|(member, _)| write::bulk(out, member));
    Ok(())
}

fn store(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>, how: Combine) -> Outcome {
    let result = combine(call, &args.from(2).iter().collect::<Vec<_>>(), how, usize::MAX)?;
    let length = result.len();
    if length == 0 {
        call.take(&args[1]);
    } else {
        call.put(&args[1], Object::Set(Box::new(result)), NEVER);
    }
    write::integer(out, length as i64);
    Ok(())
}

pub(super) fn sintercard(call: &mut Call<'_>, args: Args<'_>, out: &mut Vec<u8>) -> Outcome {
    let count = integer_within(&args[1], 1, i64::MAX, "ERR numkeys should be greater than 0")?;
    let count = usize::try_from(count).ok().filter(|&count| count <= args.len() - 2);
    let count = count.ok_or(Refusal::Other("ERR Number of keys can't be greater than number of args"))?;
    let limit = card_limit(args.from(2 + count))?;
    let keys: Vec<&[u8]> = args.from(2).iter().take(count).collect();
    let result = combine(call, &keys, Combine::Intersect, limit)?;
    write::integer(out, result.len() as i64);
    Ok(())
}

/// `[LIMIT n]`, where 0 is none.
fn card_limit(args: Args<'_>) -> Result<usize, Refusal> {
    let (mut limit, mut position) = (0, 0);
    while let Some(word) = args.get(position) {
        let number = args.get(position + 1).filter(|_| word.eq_ignore_ascii_case(b"limit"));
        let number = number.ok_or(Refusal::Syntax)?;
        limit = integer_within(number, 0, i64::MAX, "ERR LIMIT can't be negative")?;
        position += 2;
    }
    Ok(if limit == 0 { usize::MAX } else { limit as usize })
}

/// The combination of the sets at `keys`, at most `limit` members of it. Each key's type is checked first.
fn combine(call: &mut Call<'_>, keys: &[&[u8]], how: Combine, limit: usize) -> Result<Set, Refusal> {
    for key in keys {
        call.set(key)?;
    }
    let call = &*call;
    let sets: Vec<Option<&Set>> =
        keys.iter().map(|key| call.peek(key).and_then(|entry| entry.object.as_set())).collect();
    Ok(match how {
        Combine::Unite => {
            let members = sets.iter().flatten().flat_map(|set| set.iter());
            collect(members)
        }
        Combine::Subtract => {
            let others = &sets[1..];
            let members = sets[0].into_iter().flat_map(Set::iter);
            let left = members.filter(|(member, _)| !others.iter().flatten().any(|set| set.contains(member)));
            collect(left)
        }
        Combine::Intersect => {
            let Some(sets) = sets.into_iter().collect::<Option<Vec<&Set>>>() else {
                return Ok(Set::default());
            };
            let smallest = sets.iter().min_by_key(|set| set.len()).expect("there is a key");
            let common = smallest.iter().filter(|(member, _)| sets.iter().all(|set| set.contains(member)));
            collect(common.take(limit))
        }
    })
}

fn collect<'a>(members: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Set {
    let mut result = Set::default();
    for (member, _) in members {
        result.put(member, b"");
    }
    result
}
