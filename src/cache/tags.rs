//! Tags: names under which keys are invalidated together, across all proxies of one upstream.
//!
//! The store has for each tag an *index* of its keys and a *mark*, the number of its newest invalidation, and one *sequence*
//! that counts invalidations. A load cannot know its tags beforehand, for they depend on the row. So:
//!
//! - *A load* 1. takes its lease; 2. notes the sequence; 3. reads the row; 4. puts its key into the index of each tag, and
//!   sees the tag's mark there; 5. fills under its lease, unless a mark is above the number that it has noted.
//! - *An invalidation* 1. raises the sequence; 2. raises the tag's mark to it, and sets the index aside; 3. deletes the
//!   values and the leases of the keys in it.
//!
//! Why nothing slips through, though no step holds two keys at once:
//!
//! 1. The application commits v2 and invalidates tag t, while a load that has read v1 is under way.
//! 2. If the mark was raised before the load's 4th step, the load sees it, and stores nothing.
//! 3. If it was raised after, the index that was set aside has the load's key: its lease is deleted, and the fill is refused;
//!    or it is stored already, and deleted.
//! 4. A load whose 2nd step came after the mark reads v2, for v2 was committed before the sequence was raised.
//!
//! A load that stores nothing (too large, no row) takes all steps the same: others may wait for what it found.
//!
//! An index is set aside by giving it another name, and never changes afterwards. So a key that is filled again while the
//! invalidation is at work stands in the next index; and what a proxy that dies has set aside is worked off by the next
//! invalidation of the tag, which is told of all lists.
//!
//! *No row* has no columns to make tags of. Such an absence stands under its route's tags as they are written
//! (`category:{category_id}`), and an invalidation of `category:5` takes in every pattern that could have made it: a product
//! that is new in category 5 is found.
//!
//! # A key's tags end no earlier than the key
//!
//! An index knows each key for as long as anything may live that is stored now ([`Route::longest_life`]), and forgets it then, so
//! that it stays little larger than what lives. What gives a value a longer life (a client's EXPIRE, PERSIST or GETEX, a read of a
//! `sliding` route) must therefore enter the key anew, in all its tags, *before* it does so; and again *after* it, for an
//! invalidation may have set an index aside in between. No step gives a longer life than the longest, counted from then.
//!
//! The key alone tells some of its tags. The others (those made of columns, and those that clients name for a key of a route with
//! tags) are *noted* beside the value: by the fill, in the same step that stores it, so that a note is never of another value;
//! and it lives as long as the value. What replaces a value (a refresh) is noted with the tags of its own row, and with those that
//! clients have named for the key: it enters them all anew, as whatever prolongs a value does, and no load drops what a client
//! has said. What is filled where nothing was begins anew. A SET over a loaded value leaves its note: too many tags cost a DEL of what would be loaded
//! again. (To enter keys for some longest life of all, and cut every prolongation off there, would need no notes. But a value
//! that is read for ever has no longest life, and an index with room for it would hold more that is gone than lives.)
//!
//! What RENAME, COPY and MOVE take along from a key of a route with tags keeps all its tags under its new name; if that is no
//! key of such a route, for as long as it was to live then. Who tags a key that is on no route with tags (WEIR TAG, WEIR SET) tags
//! it for as long as it is to live at that moment, and does so again after prolonging it: of those keys nothing is noted.
//!
//! `tests/model` holds the engine to this, with each of the rules switched off in turn to see that it is needed.

use super::Engine;
use super::route::{Route, Routes};
use crate::clock::Clock;
use crate::config::{TagPart, TagPattern};
use crate::database::Loaded;
use crate::store::{ListId, Sequence, Store, StoreError, StoreKey, Tagged};
use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Keys of one step of an invalidation.
const PAGE: usize = 1000;

/// A route's tags, ready to be made.
pub struct RouteTags {
    patterns: Vec<Pattern>,
}

struct Pattern {
    text: Bytes,
    parts: Vec<Part>,
}

enum Part {
    Literal(String),
    /// Which part of the key.
    Key(usize),
    /// Which of the route's [`tag columns`](tag_columns).
    Column(usize),
}

/// The columns that a route's tags are made of, each once.
pub fn tag_columns(tags: &[TagPattern]) -> Vec<String> {
    let mut columns: Vec<String> = Vec::new();
    for name in tags.iter().flat_map(TagPattern::columns) {
        if !columns.iter().any(|known| known == name) {
            columns.push(name.to_owned());
        }
    }
    columns
}

impl RouteTags {
    /// Of tags as written; `names` are the key's parts.
    pub fn new(tags: &[TagPattern], names: &[&str]) -> Self {
        let columns = tag_columns(tags);
        let place = |names: &[&str], wanted: &str| names.iter().position(|name| *name == wanted);
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        let part = |part: &TagPart| match part {
            TagPart::Literal(text) => Part::Literal(text.clone()),
            TagPart::Parameter(name) => Part::Key(place(names, name).expect("the configuration knows the key's parts")),
            TagPart::Column(name) => Part::Column(place(&columns, name).expect("every column was gathered")),
        };
        let pattern =
            |tag: &TagPattern| Pattern { text: tag.text.clone().into(), parts: tag.parts.iter().map(part).collect() };
        RouteTags { patterns: tags.iter().map(pattern).collect() }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether there are tags that the key alone tells.
    pub fn has_key_tags(&self) -> bool {
        self.patterns.iter().any(|pattern| !pattern.has_columns())
    }

    /// The tags that a key with these parts has whatever its row is.
    pub fn of_key(&self, key: &[&str]) -> BTreeSet<Bytes> {
        self.patterns
            .iter()
            .filter(|pattern| !pattern.has_columns())
            .filter_map(|pattern| pattern.made(key, &[]))
            .collect()
    }

    /// Those that it has by what was loaded for it.
    pub fn of_row(&self, key: &[&str], loaded: &Loaded) -> BTreeSet<Bytes> {
        let found = loaded.value.is_some() && !loaded.tag_cells.is_empty();
        let mut tags = BTreeSet::new();
        for pattern in self.patterns.iter().filter(|pattern| pattern.has_columns()) {
            if found {
                tags.extend(loaded.tag_cells.iter().filter_map(|cells| pattern.made(key, cells)));
            } else {
                tags.insert(pattern.text.clone());
            }
        }
        tags
    }

    /// The tags of what was loaded for a key with these parts, each once.
    pub fn of(&self, key: &[&str], loaded: &Loaded) -> BTreeSet<Bytes> {
        let mut tags = self.of_key(key);
        tags.extend(self.of_row(key, loaded));
        tags
    }
}

impl Pattern {
    fn has_columns(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Column(_)))
    }

    /// The tag; none where a column is NULL.
    fn made(&self, key: &[&str], cells: &[Option<Bytes>]) -> Option<Bytes> {
        let mut tag = Vec::with_capacity(self.text.len());
        for part in &self.parts {
            match part {
                Part::Literal(text) => tag.extend_from_slice(text.as_bytes()),
                Part::Key(index) => tag.extend_from_slice(key[*index].as_bytes()),
                Part::Column(index) => tag.extend_from_slice(cells[*index].as_ref()?),
            }
        }
        Some(tag.into())
    }

    /// Whether the pattern could have made `tag`: its literals stand in it, in their order.
    fn could_make(&self, tag: &[u8]) -> bool {
        let mut rest = tag;
        let last = self.parts.len() - 1;
        self.parts.iter().enumerate().all(|(index, part)| {
            let Part::Literal(text) = part else { return true };
            let text = text.as_bytes();
            let found = match index {
                0 => rest.starts_with(text).then_some(0),
                _ if index == last => rest.ends_with(text).then(|| rest.len() - text.len()),
                _ => memchr::memmem::find(rest, text),
            };
            found.inspect(|at| rest = &rest[at + text.len()..]).is_some()
        }) && (rest.is_empty() || !matches!(self.parts[last], Part::Literal(_)))
    }
}

impl Routes {
    /// These tags, and the patterns under which absences stand that may be no more.
    pub fn with_absences(&self, tags: &[&[u8]]) -> BTreeSet<Bytes> {
        let mut all: BTreeSet<Bytes> = tags.iter().map(|tag| Bytes::copy_from_slice(tag)).collect();
        for pattern in self.iter().flat_map(|route| &route.tags.patterns).filter(|pattern| pattern.has_columns()) {
            if tags.iter().any(|tag| pattern.could_make(tag)) {
                all.insert(pattern.text.clone());
            }
        }
        all
    }
}

/// Why what a load found may not be stored, though the lease may still stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untagged {
    /// One of its tags was invalidated meanwhile.
    Invalidated,
    /// It has more than [limits] max_tags.
    TooMany,
    /// The store did not do it.
    Upstream,
}

impl Untagged {
    /// Label `reason` of `weir_fills_refused_total`.
    pub fn reason(self) -> &'static str {
        match self {
            Untagged::Invalidated => "tag_invalidated",
            Untagged::TooMany => "too_many_tags",
            Untagged::Upstream => "upstream",
        }
    }
}

impl<S: Store + Clone + 'static, C: Clock + Clone + 'static> Engine<S, C> {
    /// A load's 2nd step.
    pub(super) async fn noted_sequence(&self, route: &Route, db: u32) -> Result<Sequence, Untagged> {
        match route.tags.is_empty() {
            true => Ok(Sequence::default()),
            false => self.store.sequence(db).await.map_err(|_| Untagged::Upstream),
        }
    }

    /// A load's 4th step. `noted`: of its 2nd. `replaces`: what it found takes the place of a value, whose noted tags
    /// last on beside it. (No mark of theirs is looked at: the key stood in their indexes before, so that whoever has invalidated
    /// one of them since takes the lease.)
    pub(super) async fn tag(
        &self,
        route: &Route,
        key: &StoreKey,
        loaded: &Loaded,
        noted: Result<Sequence, Untagged>,
        replaces: bool,
    ) -> Result<(), Untagged> {
        if replaces && route.keeps_notes() {
            self.keep_tags(route, key, &[]).await.map_err(|_| Untagged::Upstream)?;
        }
        if route.tags.is_empty() {
            return Ok(());
        }
        let tags = route.tags_of(&key.name, loaded);
        let (noted, too_many) = (noted?, tags.len() > self.shared.max_tags);
        if too_many {
            return Err(Untagged::TooMany);
        }
        let life = route.longest_life();
        let marks = try_join_all(tags.iter().map(|tag| self.store.index(key, tag, life))).await;
        match marks.map_err(|_| Untagged::Upstream)?.into_iter().all(|mark| mark <= noted) {
            true => Ok(()),
            false => Err(Untagged::Invalidated),
        }
    }

    /// The same step for several keys of `route` and of database `db`, none of which takes the place of anything; answers in
    /// their order. All that share a tag enter its index together.
    pub(super) async fn tag_all(
        &self,
        route: &Route,
        db: u32,
        keys: &[(&StoreKey, &Loaded)],
        noted: Result<Sequence, Untagged>,
    ) -> Vec<Result<(), Untagged>> {
        let mut outcomes = vec![noted.map(drop); keys.len()];
        let Ok(noted) = noted else { return outcomes };
        let mut by_tag: BTreeMap<Bytes, Vec<usize>> = BTreeMap::new();
        for (index, (key, loaded)) in keys.iter().enumerate() {
            let tags = route.tags_of(&key.name, loaded);
            if tags.len() > self.shared.max_tags {
                outcomes[index] = Err(Untagged::TooMany);
                continue;
            }
            tags.into_iter().for_each(|tag| by_tag.entry(tag).or_default().push(index));
        }
        let names = |indexes: &Vec<usize>| indexes.iter().map(|&index| keys[index].0.name.clone()).collect();
        let tagged: Vec<Tagged> =
            by_tag.iter().map(|(tag, indexes)| Tagged { tag: tag.clone(), keys: names(indexes) }).collect();
        if tagged.is_empty() {
            return outcomes;
        }
        let marks = self.store.index_all(db, &tagged, route.longest_life()).await;
        for (number, indexes) in by_tag.into_values().enumerate() {
            let outcome = match &marks {
                Err(_) => Err(Untagged::Upstream),
                Ok(marks) if marks[number] > noted => Err(Untagged::Invalidated),
                Ok(_) => continue,
            };
            indexes.into_iter().for_each(|index| outcomes[index] = outcome);
        }
        outcomes
    }

    /// Puts a key into the indexes of tags that a client names, for a value that may live for `life`.
    pub async fn add_tags(&self, key: &StoreKey, tags: &[&[u8]], life: Duration) -> Result<(), StoreError> {
        match tags {
            // Most keys have one, and a join would allocate.
            [tag] => self.store.index(key, tag, life).await.map(drop),
            tags => try_join_all(tags.iter().map(|tag| self.store.index(key, tag, life))).await.map(drop),
        }
    }

    /// Before a key of `route` may come to live longer, and again after it: it stands in the indexes of all its tags for as long
    /// as anything may live from now on. `more`: tags that it has besides from now on. Answers those that are noted.
    ///
    /// # Errors
    /// The store did not do it.
    pub async fn keep_tags(&self, route: &Route, key: &StoreKey, more: &[Bytes]) -> Result<Vec<Bytes>, StoreError> {
        let noted = self.store.note_tags(key, more, route.longest_life()).await?;
        self.enter(route, key, &noted).await?;
        Ok(noted)
    }

    /// Puts a key into the indexes of the tags that it tells, and of those that are noted beside it.
    ///
    /// # Errors
    /// The store did not do it.
    pub async fn enter(&self, route: &Route, key: &StoreKey, noted: &[Bytes]) -> Result<(), StoreError> {
        let mut tags = route.tags_of_key(&key.name);
        tags.extend(noted.iter().cloned());
        let tags: Vec<&[u8]> = tags.iter().map(|tag| &tag[..]).collect();
        self.add_tags(key, &tags, route.longest_life()).await
    }

    /// Invalidates all keys of `db` that have any of `tags`; answers how many had a value. Once it is done, no read gets a
    /// value with one of the tags that was loaded before.
    ///
    /// # Errors
    /// The store did not do all of it. To try again does what is left.
    pub async fn invalidate_tags(&self, db: u32, tags: &BTreeSet<Bytes>) -> Result<usize, StoreError> {
        self.invalidate_tags_telling(db, tags, &|_| ()).await
    }

    /// The same; `told` is told of each key.
    ///
    /// # Errors
    /// As above.
    pub async fn invalidate_tags_telling(
        &self,
        db: u32,
        tags: &BTreeSet<Bytes>,
        told: &dyn Fn(&Bytes),
    ) -> Result<usize, StoreError> {
        if self.store.epoch().is_none() {
            // The sequence may have been set back.
            return Err(StoreError::InDoubt);
        }
        let number = self.store.next_sequence(db).await?;
        let set_aside = tags.iter().map(|tag| async move {
            let list = ListId(self.clock.random_u64());
            let lists = self.store.set_aside(db, tag, number, list).await?;
            Ok::<_, StoreError>(lists.into_iter().map(move |list| (tag, list)))
        });
        let lists: Vec<_> = try_join_all(set_aside).await?.into_iter().flatten().collect();
        let counts = join_all(lists.into_iter().map(|(tag, list)| self.work_off(db, tag, list, told))).await;
        counts.into_iter().sum()
    }

    /// Invalidates the keys of one list, page by page, and drops it.
    async fn work_off(&self, db: u32, tag: &[u8], list: ListId, told: &dyn Fn(&Bytes)) -> Result<usize, StoreError> {
        let (mut from, mut values) = (0, 0);
        loop {
            let keys = self.store.listed(db, tag, list, from, PAGE).await?;
            if keys.is_empty() {
                break;
            }
            from += keys.len();
            values += self.store.invalidate_all(db, &keys).await?;
            keys.iter().for_each(told);
        }
        // An empty list may be a name that somebody has left behind.
        self.store.drop_list(db, tag, list).await?;
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tags::parse;

    fn tags(texts: &[&str]) -> RouteTags {
        let patterns: Vec<TagPattern> = texts.iter().map(|text| parse(text, &["id"]).expect("a tag")).collect();
        RouteTags::new(&patterns, &["id"])
    }

    fn loaded(rows: &[&[Option<&'static str>]]) -> Loaded {
        let row = |cells: &&[Option<&'static str>]| cells.iter().map(|cell| cell.map(Bytes::from)).collect();
        let value = crate::value::Value::String(Bytes::from_static(b"v"));
        Loaded { value: Some(value), tag_cells: rows.iter().map(row).collect() }
    }

    fn made(tags: &RouteTags, loaded: &Loaded) -> Vec<String> {
        let text = |tag: &Bytes| String::from_utf8(tag.to_vec()).expect("text");
        tags.of(&["7"], loaded).iter().map(text).collect()
    }

    #[test]
    fn tags_are_made_of_the_key_and_of_every_row() {
        let tags = tags(&["all", "item:{id}", "c:{category}/{shop}"]);
        assert_eq!(made(&tags, &loaded(&[&[Some("5"), Some("a")]])), ["all", "c:5/a", "item:7"]);
        let rows =
            loaded(&[&[Some("5"), Some("a")], &[None, Some("a")], &[Some("5"), Some("a")], &[Some("6"), Some("b")]]);
        assert_eq!(made(&tags, &rows), ["all", "c:5/a", "c:6/b", "item:7"]);
    }

    #[test]
    fn what_has_no_row_stands_under_the_tags_as_written() {
        let tags = tags(&["all", "item:{id}", "c:{category}"]);
        assert_eq!(made(&tags, &Loaded::default()), ["all", "c:{category}", "item:7"]);
        assert_eq!(made(&tags, &loaded(&[])), ["all", "c:{category}", "item:7"], "an empty array");
    }

    #[test]
    fn a_pattern_knows_the_tags_that_it_could_make() {
        let could = |pattern: &str, tag: &str| tags(&[pattern]).patterns[0].could_make(tag.as_bytes());
        for (pattern, tag, expected) in [
            ("c:{c}", "c:5", true),
            ("c:{c}", "c:", true),
            ("c:{c}", "d:5", false),
            ("{c}", "anything", true),
            ("{c}:x", "5:x", true),
            ("{c}:x", "5:xy", false),
            ("a{c}b{d}c", "a1b2c", true),
            ("a{c}b{d}c", "abc", true),
            ("a{c}b{d}c", "a1c", false),
            ("aa{c}aa", "aaa", false),
            ("a{c}-{d}", "a-", true),
        ] {
            assert_eq!(could(pattern, tag), expected, "{pattern} {tag}");
        }
    }
}
