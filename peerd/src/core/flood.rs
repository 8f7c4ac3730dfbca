//! How many events one contact may cause that are no delivered message: a disk is not filled by asking,
//! taking back, and coming and going.
//!
//! Invariant: each contact has a burst of [`BURST`], and one more every [`EVERY_MS`].

use std::collections::BTreeMap;

use registryd_proto::Username;

use super::Core;

/// More than anybody causes by hand in a few minutes.
const BURST: u64 = 20;
/// Less than 10,000 events a day.
const EVERY_MS: u64 = 10_000;

/// For each contact, until when its allowance is spent, by the monotonic clock.
#[derive(Debug, Default)]
pub(super) struct Flood {
    spent_ms: BTreeMap<Username, u64>,
}

impl Core {
    /// Takes one of a contact's allowance. False if there is none.
    pub(super) fn may_cause_event(&mut self, username: &Username) -> bool {
        let now_ms = self.now.mono_ms;
        let spent_ms = self.flood.spent_ms.entry(username.clone()).or_insert(now_ms);
        let next_ms = (*spent_ms).max(now_ms) + EVERY_MS;
        let allowed = next_ms <= now_ms + BURST * EVERY_MS;
        if allowed {
            *spent_ms = next_ms;
        }
        allowed
    }
}
