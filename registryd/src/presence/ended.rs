//! At which epoch a session ended a moment ago.
//!
//! The end of a session and its beginning are told by two requests, so the beginning may come late: it must
//! not bring back what is over. That takes no longer than a request, and an end is kept for minutes.

use std::{collections::HashMap, mem};

use crate::store::AccountId;

/// An end is kept for so long at the least, and twice as long at most.
const KEPT_MS: u64 = 5 * 60 * 1000;

/// The ends of the last minutes.
#[derive(Debug, Default)]
pub(super) struct Ended {
    new: HashMap<AccountId, u64>,
    old: HashMap<AccountId, u64>,
    turn_ms: u64,
}

impl Ended {
    /// A session ended, and with it all before.
    pub(super) fn insert(&mut self, account: AccountId, epoch: u64) {
        let ended = self.new.entry(account).or_default();
        *ended = epoch.max(*ended);
    }

    /// Whether a session of this epoch ended.
    pub(super) fn covers(&self, account: AccountId, epoch: u64) -> bool {
        [&self.new, &self.old].iter().any(|ended| ended.get(&account).is_some_and(|e| *e >= epoch))
    }

    /// Forgets what is old.
    pub(super) fn move_on(&mut self, now_ms: u64) {
        if now_ms >= self.turn_ms {
            self.turn_ms = now_ms + KEPT_MS;
            self.old = mem::take(&mut self.new);
        }
    }

    /// How many are kept.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.new.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_kept_for_minutes_and_not_for_ever() {
        let (mut ended, ann) = (Ended::default(), AccountId(1));
        ended.move_on(1_000);
        ended.insert(ann, 7);
        ended.insert(ann, 3);
        for now_ms in [1_000, KEPT_MS, KEPT_MS + 1_000, 2 * KEPT_MS] {
            ended.move_on(now_ms);
            assert!(ended.covers(ann, 7), "at {now_ms}");
            assert!(!ended.covers(ann, 8) && !ended.covers(AccountId(2), 1));
        }
        ended.move_on(3 * KEPT_MS);
        assert!(!ended.covers(ann, 7));
        assert_eq!(ended.len(), 0);
    }
}
