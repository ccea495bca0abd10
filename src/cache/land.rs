//! The end of a flight: what was loaded is tagged and filled, and everybody who waits is told.
//!
//! Keys that were loaded together land together, as many as the store takes in one step. Each is tagged before any is
//! filled, so for each of them the order of its own steps is that of [`super::tags`]; and each fill is under the key's own lease:
//! what is invalidated of the one is nothing to the others.

use super::load::{Leading, Over, count_fill};
use super::tags::Untagged;
use super::{Engine, Found, flight::Landed};
use crate::clock::Clock;
use crate::database::Loaded;
use crate::store::{Fill, Filled, Outcome, Sequence, Store, StoreError, StoreKey};
use futures_util::future::join_all;
use std::sync::Arc;

/// A key, and what was loaded for it.
type Cargo = (Leading, Loaded);

/// What is to be stored.
struct Filling {
    fill: Fill,
    /// Why it is nothing.
    unstored: Option<&'static str>,
    /// The load may not answer others than its leader, though its lease may stand.
    refused: bool,
}

/// What became of it: see [`Filling`].
struct End {
    unstored: Option<&'static str>,
    refused: bool,
    filled: Result<Filled, StoreError>,
}

impl End {
    /// The store has what was loaded.
    fn is_stored(&self) -> bool {
        self.unstored.is_none() && matches!(self.filled, Ok(Filled::Stored))
    }
}

impl<S: Store + Clone + 'static, C: Clock + Clone + 'static> Engine<S, C> {
    /// Fills all that was loaded by one statement, and tells everybody.
    pub(super) async fn land_all(&self, mut flight: Vec<Cargo>, noted: Result<Sequence, Untagged>) {
        let most = self.store.most_together();
        let is_plain = |(leading, _): &Cargo| leading.leased && leading.over == Over::Nothing;
        let mut parts = Vec::new();
        while flight.len() > 1 && most > 1 && flight.iter().all(is_plain) {
            let rest = flight.split_off(flight.len().min(most));
            parts.push(std::mem::replace(&mut flight, rest));
        }
        let together = join_all(parts.into_iter().map(|part| self.land_together(part, noted)));
        let alone = join_all(flight.into_iter().map(|(leading, loaded)| self.land(leading, loaded, noted)));
        futures_util::future::join(together, alone).await;
    }

    /// Keys of one route and of one database number that were absent.
    async fn land_together(&self, part: Vec<Cargo>, noted: Result<Sequence, Untagged>) {
        let (route, db) = (part[0].0.route.clone(), part[0].0.key.db);
        let tagged = match route.tags.is_empty() {
            true => vec![Ok(()); part.len()],
            false => {
                let keys: Vec<(&StoreKey, &Loaded)> =
                    part.iter().map(|(leading, loaded)| (&leading.key, loaded)).collect();
                self.tag_all(&route, db, &keys, noted).await
            }
        };
        let (mut outcomes, mut reasons) = (Vec::with_capacity(part.len()), Vec::with_capacity(part.len()));
        for ((leading, loaded), tagged) in part.iter().zip(tagged) {
            let Filling { fill, unstored, refused } = self.filling(leading, loaded, tagged);
            outcomes.push(Outcome { key: leading.key.clone(), token: leading.token, fill });
            reasons.push((unstored, refused));
        }
        let filled = self.store.fill_all(db, outcomes).await;
        let ends: Vec<End> = reasons
            .into_iter()
            .zip(filled)
            .map(|((unstored, refused), filled)| End { unstored, refused, filled })
            .collect();
        self.count_landed(&part, &ends);
        part.into_iter().zip(ends).for_each(|(cargo, end)| self.tell_landed(cargo, end));
    }

    async fn land(&self, leading: Leading, loaded: Loaded, noted: Result<Sequence, Untagged>) {
        let Leading { route, key, token, leased, over, .. } = &leading;
        let tagged = if *leased { self.tag(route, key, &loaded, noted, *over != Over::Nothing).await } else { Ok(()) };
        let Filling { fill, unstored, refused } = self.filling(&leading, &loaded, tagged);
        let filled = match leased {
            true => match *over {
                Over::Nothing => self.store.fill(key, *token, fill).await,
                Over::Due(left) => self.store.replace(key, *token, fill, Some(left)).await,
                Over::Anything => self.store.replace(key, *token, fill, None).await,
            },
            false => Err(StoreError::Refused("no lease".into())),
        };
        let (cargo, end) = ((leading, loaded), End { unstored, refused, filled });
        self.count_landed(std::slice::from_ref(&cargo), std::slice::from_ref(&end));
        self.tell_landed(cargo, end);
    }

    fn filling(&self, leading: &Leading, loaded: &Loaded, tagged: Result<(), Untagged>) -> Filling {
        let may_fill = match tagged {
            Ok(()) if self.store.epoch() != Some(leading.epoch) => Err("epoch"),
            tagged => tagged.map_err(Untagged::reason),
        };
        match may_fill {
            Ok(()) => {
                let (fill, unstored) = self.fill_of(&leading.route, &leading.key, loaded);
                Filling { fill, unstored, refused: false }
            }
            Err(reason) => Filling { fill: Fill::Nothing, unstored: Some(reason), refused: true },
        }
    }

    /// Counts loads and fills of one route, before anybody is told. What mostly happens is counted once for all keys.
    fn count_landed(&self, part: &[Cargo], ends: &[End]) {
        let Leading { route, trigger, .. } = &part[0].0;
        let rows = part.iter().filter(|(_, loaded)| loaded.value.is_some()).count();
        for (result, loads) in [("row", rows), ("empty", part.len() - rows)].into_iter().filter(|(_, loads)| *loads > 0)
        {
            route.count_load(trigger, result, loads as u64);
        }
        let stored = ends.iter().filter(|end| end.is_stored()).count();
        if stored > 0 {
            route.count_fills("stored", stored as u64);
        }
        for ((leading, _), End { unstored, filled, .. }) in part.iter().zip(ends).filter(|(_, end)| !end.is_stored()) {
            count_fill(route, filled, *unstored, self.clock.now() - leading.asked >= route.lease_time());
        }
    }

    fn tell_landed(&self, (leading, loaded): Cargo, end: End) {
        self.shared.backoff.lock().succeeded(&leading.key);
        let answer = Ok(match loaded.value {
            Some(value) => Found::Loaded { value: Arc::new(value), stored: end.is_stored() },
            None => Found::Absent,
        });
        let refused = end.refused || !matches!(end.filled, Ok(Filled::Stored));
        leading.pilot.land(Landed { refused, answer });
    }
}
