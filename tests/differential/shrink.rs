//! Makes a failing sequence small: drops steps while it still fails.

use super::run::Difference;
use super::sequence::{Cuts, Sequence};

/// No more attempts are made.
const ATTEMPTS: usize = 300;

/// Drops sequences, then steps, then cuts, as long as `fails` answers with a difference.
pub fn shrink(
    sequences: Vec<Sequence>,
    difference: Difference,
    mut fails: impl FnMut(&[Sequence]) -> Option<Difference>,
) -> (Vec<Sequence>, Difference) {
    let mut best = (sequences, difference);
    let mut attempts = 0;
    let mut try_it = |candidate: Vec<Sequence>, best: &mut (Vec<Sequence>, Difference)| {
        attempts += 1;
        let outcome = if attempts > ATTEMPTS { None } else { fails(&candidate) };
        let failed = outcome.is_some();
        if let Some(difference) = outcome {
            *best = (candidate, difference);
        }
        failed
    };
    let mut at = 0;
    while best.0.len() > 1 && at < best.0.len() - 1 {
        let mut candidate = best.0.clone();
        candidate.remove(at);
        at += usize::from(!try_it(candidate, &mut best));
    }
    for index in 0..best.0.len() {
        let mut size = best.0[index].steps().max(1);
        while size > 0 {
            let mut at = 0;
            while at < best.0[index].steps() {
                let mut candidate = best.0.clone();
                candidate[index] = candidate[index].without(at..at + size);
                let smaller = candidate[index].steps() < best.0[index].steps();
                if !(smaller && try_it(candidate, &mut best)) {
                    at += size;
                }
            }
            size /= 2;
        }
        for turn in 0..best.0[index].turns.len() {
            let mut candidate = best.0.clone();
            if std::mem::replace(&mut candidate[index].turns[turn].cuts, Cuts::None) != Cuts::None {
                try_it(candidate, &mut best);
            }
        }
    }
    best
}
