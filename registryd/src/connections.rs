//! Which connections there are, and which one goes when there is no place for another.
//!
//! Whoever holds many connections that say nothing keeps nobody out: a newcomer takes the place of the one
//! that has been silent for longest, of the source that holds most of those with more than the newcomer's own
//! source; where the own source is at its limit, or none holds more, of that. Handshakes count as silent.
//! Invariant: a connection whose request is being answered is never shed.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use tokio_util::sync::CancellationToken;

use crate::limits::Source;

/// A request is being answered.
const BUSY: u64 = u64::MAX;

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoPlace {
    /// All are taken, by connections that are busy or of sources that hold no more than this one.
    #[error("the registry has no place for another connection")]
    Full,
    /// The source has as many as it may, all of them busy.
    #[error("your address has too many connections to the registry")]
    Source,
}

/// The connections that there are.
#[derive(Debug)]
pub(crate) struct Connections {
    max: AtomicUsize,
    per_source_max: AtomicUsize,
    started: Instant,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    by_source: HashMap<Source, Vec<Arc<Seat>>>,
    total: usize,
}

#[derive(Debug)]
struct Seat {
    /// Since when it has been silent, in microseconds since the start; or [`BUSY`].
    silent_since_us: AtomicU64,
    shed: CancellationToken,
}

/// The place of one connection, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    connections: Arc<Connections>,
    source: Source,
    seat: Arc<Seat>,
}

impl Connections {
    /// None yet.
    pub(crate) fn new(max: usize, per_source_max: usize) -> Self {
        let (max, per_source_max) = (max.into(), per_source_max.into());
        Self { max, per_source_max, started: Instant::now(), held: Mutex::default() }
    }

    /// Other limits from here on. Who is over them stays.
    pub(crate) fn limit(&self, max: usize, per_source_max: usize) {
        self.max.store(max, Ordering::Relaxed);
        self.per_source_max.store(per_source_max, Ordering::Relaxed);
    }

    /// A place for a connection of this source; another one may have to go for it.
    ///
    /// # Errors
    /// [`NoPlace`].
    pub(crate) fn enter(self: &Arc<Self>, source: Source) -> Result<Place, NoPlace> {
        let mut held = self.held();
        let own = held.count(source);
        if own >= self.per_source_max.load(Ordering::Relaxed) {
            held.shed_of(source).ok_or(NoPlace::Source)?;
        } else if held.total >= self.max.load(Ordering::Relaxed) {
            let from = held.heaviest_above(own).unwrap_or(source);
            held.shed_of(from).ok_or(NoPlace::Full)?;
        }
        let seat = Arc::new(Seat {
            silent_since_us: AtomicU64::new(self.now_us()),
            shed: CancellationToken::new(),
        });
        held.by_source.entry(source).or_default().push(seat.clone());
        held.total += 1;
        Ok(Place { connections: self.clone(), source, seat })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(BUSY - 1)
    }
}

impl Held {
    fn count(&self, source: Source) -> usize {
        self.by_source.get(&source).map_or(0, Vec::len)
    }

    /// The source with most connections of those with more than `own` and at least one silent.
    fn heaviest_above(&self, own: usize) -> Option<Source> {
        let shedable = |seats: &[Arc<Seat>]| seats.iter().any(|seat| seat.silent_since() != BUSY);
        let heavier = self.by_source.iter().filter(|(_, seats)| seats.len() > own);
        let found = heavier.filter(|(_, seats)| shedable(seats)).max_by_key(|(_, s)| s.len())?;
        Some(*found.0)
    }

    /// Sheds the connection of this source that has been silent for longest.
    fn shed_of(&mut self, source: Source) -> Option<()> {
        let seats = self.by_source.get(&source)?;
        let silent = seats.iter().filter(|seat| seat.silent_since() != BUSY);
        let seat = silent.min_by_key(|seat| seat.silent_since())?.clone();
        self.remove(source, &seat);
        seat.shed.cancel();
        Some(())
    }

    /// Nothing happens for one that was shed before.
    fn remove(&mut self, source: Source, seat: &Arc<Seat>) {
        let Some(seats) = self.by_source.get_mut(&source) else { return };
        let Some(at) = seats.iter().position(|other| Arc::ptr_eq(other, seat)) else { return };
        seats.swap_remove(at);
        self.total -= 1;
        if seats.is_empty() {
            self.by_source.remove(&source);
        }
    }
}

impl Seat {
    fn silent_since(&self) -> u64 {
        self.silent_since_us.load(Ordering::Relaxed)
    }
}

impl Place {
    /// A request has come: not to be shed from here on.
    pub(crate) fn is_busy(&self) {
        self.seat.silent_since_us.store(BUSY, Ordering::Relaxed);
    }

    /// All that came is answered.
    pub(crate) fn is_silent(&self) {
        let now_us = self.connections.now_us();
        self.seat.silent_since_us.store(now_us, Ordering::Relaxed);
    }

    /// Ends when this connection is to make place for another.
    pub(crate) async fn shed(&self) {
        self.seat.shed.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.held().remove(self.source, &self.seat);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn source(last: u8) -> Source {
        IpAddr::from([192, 0, 2, last]).into()
    }

    fn was_shed(place: &Place) -> bool {
        place.seat.shed.is_cancelled()
    }

    #[test]
    fn a_newcomer_takes_the_place_of_the_longest_silent_of_the_heaviest() {
        let connections = Arc::new(Connections::new(4, 4));
        let heavy: Vec<_> = (0..3).map(|_| connections.enter(source(1)).expect("free")).collect();
        let light = connections.enter(source(2)).expect("free");
        for (at, place) in heavy.iter().chain([&light]).enumerate() {
            place.seat.silent_since_us.store(10 - at as u64, Ordering::Relaxed);
        }
        heavy[2].is_busy();
        let newcomer = connections.enter(source(3)).expect("one goes for it");
        assert_eq!(heavy.iter().map(was_shed).collect::<Vec<_>>(), [false, true, false]);
        assert!(!was_shed(&light), "it was silent for longer, but holds little");
        drop(heavy);
        assert_eq!(connections.held().total, 2, "the shed one gave its place back once");
        drop((light, newcomer));
        assert!(connections.held().by_source.is_empty());
    }

    #[test]
    fn busy_ones_are_kept_and_the_newcomer_is_told_why() {
        let connections = Arc::new(Connections::new(3, 2));
        let first: Vec<_> = (0..2).map(|_| connections.enter(source(1)).expect("free")).collect();
        first.iter().for_each(Place::is_busy);
        assert_eq!(connections.enter(source(1)).err(), Some(NoPlace::Source));
        let other = connections.enter(source(2)).expect("free");
        other.is_busy();
        assert_eq!(connections.enter(source(3)).err(), Some(NoPlace::Full));
        first[0].is_silent();
        let own = connections.enter(source(1)).expect("in the place of its own silent one");
        assert!(was_shed(&first[0]) && !was_shed(&first[1]));
        first[1].is_silent();
        own.is_busy();
        connections.enter(source(3)).expect("in the place of a silent one");
        assert!(was_shed(&first[1]) && !was_shed(&other));
    }

    #[test]
    fn who_holds_as_many_as_any_sheds_its_own() {
        let connections = Arc::new(Connections::new(2, 2));
        let [one, other] = [1, 2].map(|last| connections.enter(source(last)).expect("free"));
        let again = connections.enter(source(1)).expect("in the place of its own");
        assert!(was_shed(&one) && !was_shed(&other) && !was_shed(&again));
    }
}
