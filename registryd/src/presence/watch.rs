//! Who waits for whom to come online, and who is still to be told.
//!
//! A watch is told once. An arrival is kept until its watcher has synced past the version that was raised
//! for it; until that version is known it is told to whoever asks, so that a sync in between misses
//! nothing.

use std::collections::{BTreeSet, HashMap};

use crate::store::AccountId;

/// Users that one account may wait for.
pub(super) const WATCHES_MAX: usize = 1_000;

/// Arrivals kept for an account until it syncs; the oldest go first.
const ARRIVALS_MAX: usize = 1_000;

/// Arrivals in one reply: at 2.5 KB for a user with all addresses, half of the limit of a reply.
const PAGE_USERS: usize = 200;

/// The account waits for too many users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("at most {WATCHES_MAX} users can be waited for")]
pub(crate) struct TooManyWatches;

/// A user that came online, to be told to a watcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// Who waits.
    pub(crate) watcher: AccountId,
    /// Who came.
    pub(crate) user: AccountId,
}

/// Arrivals for one reply.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Page {
    /// Who came.
    pub(crate) users: Vec<AccountId>,
    /// More came after this version: the reply must not say a higher one.
    pub(crate) up_to: Option<u64>,
}

/// Watches and arrivals.
#[derive(Debug, Default)]
pub(super) struct Watches {
    /// By the user waited for; in order, so that the same requests are always answered the same way.
    watchers: HashMap<AccountId, BTreeSet<AccountId>>,
    /// By the watcher: whom it waits for.
    watched: HashMap<AccountId, BTreeSet<AccountId>>,
    /// Arrived since the last [`take_arrived`](Self::take_arrived).
    arrived: Vec<Arrival>,
    /// What was taken last could not be told.
    untold: bool,
    /// By watcher: the user, and the watcher's version at which it was told, once known.
    kept: HashMap<AccountId, Vec<(AccountId, Option<u64>)>>,
}

impl Watches {
    pub(super) fn add(
        &mut self,
        watcher: AccountId,
        user: AccountId,
    ) -> Result<(), TooManyWatches> {
        let watched = self.watched.entry(watcher).or_default();
        if watched.len() >= WATCHES_MAX {
            return Err(TooManyWatches);
        }
        if watched.insert(user) {
            self.watchers.entry(user).or_default().insert(watcher);
        }
        Ok(())
    }

    /// A user came online: its watches become arrivals.
    pub(super) fn arrive(&mut self, user: AccountId) {
        for watcher in self.watchers.remove(&user).unwrap_or_default() {
            remove(&mut self.watched, watcher, user);
            let kept = self.kept.entry(watcher).or_default();
            if kept.len() >= ARRIVALS_MAX {
                kept.remove(0);
            }
            kept.push((user, None));
            self.arrived.push(Arrival { watcher, user });
        }
    }

    /// A watcher has no session any more: it waits for nobody, and is told nothing.
    pub(super) fn forget(&mut self, watcher: AccountId) {
        for user in self.watched.remove(&watcher).unwrap_or_default() {
            remove(&mut self.watchers, user, watcher);
        }
        self.kept.remove(&watcher);
        self.arrived.retain(|arrival| arrival.watcher != watcher);
    }

    /// An account is gone for good: nobody waits for it.
    pub(super) fn forget_user(&mut self, user: AccountId) {
        for watcher in self.watchers.remove(&user).unwrap_or_default() {
            remove(&mut self.watched, watcher, user);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.watchers.is_empty() && self.watched.is_empty() && self.kept.is_empty()
    }

    pub(super) fn has_arrived(&self) -> bool {
        !self.arrived.is_empty()
    }

    /// Those that were [put back](Self::put_back) as well.
    pub(super) fn take_arrived(&mut self) -> Vec<Arrival> {
        let arrived = std::mem::take(&mut self.arrived);
        if !std::mem::take(&mut self.untold) {
            return arrived;
        }
        let undated = self.kept.iter().flat_map(|(watcher, kept)| {
            let users = kept.iter().filter(|(_, at)| at.is_none());
            users.map(|(user, _)| Arrival { watcher: *watcher, user: *user })
        });
        let mut undated: Vec<Arrival> = undated.collect();
        // The same requests are always answered the same way; the order of one watcher stays.
        undated.sort_by_key(|arrival| arrival.watcher);
        undated
    }

    /// No version could be raised for what was taken last: all that has none is to be taken again.
    pub(super) fn put_back(&mut self) {
        self.untold = true;
    }

    pub(super) fn is_untold(&self) -> bool {
        self.untold
    }

    /// The version that was raised for an arrival.
    pub(super) fn date(&mut self, arrival: Arrival, version: u64) {
        let undated =
            |kept: &&mut (AccountId, Option<u64>)| kept.0 == arrival.user && kept.1.is_none();
        let kept = self.kept.get_mut(&arrival.watcher);
        if let Some((_, at)) = kept.and_then(|kept| kept.iter_mut().find(undated)) {
            *at = Some(version);
        }
    }

    /// The users that came after a version; those up to it are forgotten.
    pub(super) fn after(&mut self, watcher: AccountId, version: u64) -> Page {
        let Some(kept) = self.kept.get_mut(&watcher) else { return Page::default() };
        kept.retain(|(_, at)| at.is_none_or(|at| at > version));
        let users = kept.iter().take(PAGE_USERS).map(|(user, _)| *user).collect();
        let next = kept.get(PAGE_USERS).map(|(_, at)| at.unwrap_or(version.saturating_add(1)));
        let page = Page { users, up_to: next.map(|at| at - 1) };
        if kept.is_empty() {
            self.kept.remove(&watcher);
        }
        page
    }
}

/// Takes one out of a set, and the set out of the map if it was the last.
fn remove(sets: &mut HashMap<AccountId, BTreeSet<AccountId>>, of: AccountId, one: AccountId) {
    if let Some(set) = sets.get_mut(&of) {
        set.remove(&one);
        if set.is_empty() {
            sets.remove(&of);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: AccountId = AccountId(1);
    const BOB: AccountId = AccountId(2);

    #[test]
    fn a_watcher_is_told_once_and_until_it_has_it() {
        let mut watches = Watches::default();
        watches.add(ANN, BOB).expect("first");
        watches.add(ANN, BOB).expect("the same");
        watches.arrive(BOB);
        let arrival = Arrival { watcher: ANN, user: BOB };
        assert_eq!(watches.take_arrived(), [arrival]);
        assert_eq!(
            watches.after(ANN, 100).users,
            [BOB],
            "told though its version is not known yet"
        );
        watches.date(arrival, 8);
        assert_eq!(watches.after(ANN, 7).users, [BOB]);
        assert_eq!(watches.after(ANN, 7).users, [BOB], "until it is confirmed");
        assert_eq!(watches.after(ANN, 8).users, []);
        watches.arrive(BOB);
        assert!(!watches.has_arrived());
    }

    #[test]
    fn what_could_not_be_told_is_taken_again_with_what_came_since() {
        let mut watches = Watches::default();
        let [first, second, third] =
            [(ANN, AccountId(9)), (ANN, AccountId(8)), (BOB, AccountId(7))]
                .map(|(watcher, user)| Arrival { watcher, user });
        for arrival in [third, first] {
            watches.add(arrival.watcher, arrival.user).expect("below the limit");
            watches.arrive(arrival.user);
        }
        assert_eq!(watches.take_arrived(), [third, first]);
        watches.put_back();
        assert!(watches.is_untold() && !watches.has_arrived(), "no HELLO asks for it again");
        watches.add(ANN, second.user).expect("below the limit");
        watches.arrive(second.user);
        assert_eq!(watches.take_arrived(), [first, second, third]);
        assert!(!watches.is_untold());
        watches.date(first, 5);
        watches.put_back();
        assert_eq!(watches.take_arrived(), [second, third]);
    }

    #[test]
    fn watches_are_bounded_and_given_back() {
        let mut watches = Watches::default();
        for user in 0..WATCHES_MAX as u64 {
            watches.add(ANN, AccountId(100 + user)).expect("below the limit");
        }
        assert_eq!(watches.add(ANN, BOB), Err(TooManyWatches));
        watches.arrive(AccountId(100));
        assert_eq!(watches.add(ANN, BOB), Ok(()));
    }
    #[test]
    fn many_arrivals_are_told_page_by_page() {
        let mut watches = Watches::default();
        for user in 0..500 {
            watches.add(ANN, AccountId(100 + user)).expect("below the limit");
            watches.arrive(AccountId(100 + user));
        }
        for (version, arrival) in (10..).zip(watches.take_arrived()) {
            watches.date(arrival, version);
        }
        let (mut version, mut told) = (9, Vec::new());
        loop {
            let page = watches.after(ANN, version);
            assert!(page.users.len() <= PAGE_USERS);
            told.extend(page.users);
            let Some(up_to) = page.up_to else { break };
            assert!(up_to > version);
            version = up_to;
        }
        assert_eq!(told, (100..600).map(AccountId).collect::<Vec<_>>());
    }
}
