//! Resumes, and what makes one needed within a session.
//!
//! After a long silence one is tried, for a registry that was restored from a backup. A login tells it
//! nothing of the serial and the epoch that we hold; so where it grants lower ones, a resume follows, which
//! does. And a request that was sent before a start may be carried out after it: the epoch that is ahead
//! then is our own doing, and is taken back by one resume.
//!
//! Invariant: two devices with one key do not take the session from each other for ever: an epoch that is
//! ahead is forgiven once, and only soon after a start or after a login of which nobody knows the outcome.

use registryd_proto::{Reply, SessionGrant};

use super::{Core, durable::ProfileState, input::CallFailure, registry::Phase};

/// How long a request that was sent before may take to be carried out: what the kernel still sends for a
/// process that has died, and what a busy registry leaves waiting.
const LATE_MS: u64 = 120_000;

/// HELLO intervals after which we have noticed that our epoch is old at the latest: three without an answer, and
/// the pause before the question why.
const NOTICED_INTERVALS: u64 = 4;

/// How many bindings lie between our card and the next one of ours, at the least, once another key is bound: that
/// one, and ours again.
const BINDINGS_OF_A_RETURN: u64 = 2;

impl Core {
    /// What was sent up to here may be carried out later.
    pub(super) fn expect_late(&mut self) {
        self.session.late_until_ms = Some(self.now.mono_ms + LATE_MS);
    }

    /// Nobody knows whether a login was carried out. If it was, the registry has a newer epoch by our own
    /// doing: a session under way is resumed, not taken for superseded.
    pub(super) fn doubt_session(&mut self) {
        self.expect_late();
        if self.session.is_wanted() {
            self.calls.forget_session();
            self.session.call = None;
            self.session.phase = Phase::Resuming;
            self.session.attempt = self.draw_digest();
        }
    }

    /// The reply to a resume.
    pub(super) fn on_resumed(&mut self, result: Result<Reply, CallFailure>) {
        self.session.call = None;
        match result {
            Ok(Reply::Session(grant)) => match self.adopt(&grant) {
                true => self.sync(),
                false => self.retry_later(),
            },
            Ok(_) => self.retry_later(),
            Err(failure) => self.session_failed(&failure),
        }
    }

    /// A HELLO of our epoch is answered: a resume that had no reply was not carried out, but may come late. One
    /// that is under way may be carried out at any time.
    pub(super) fn end_lost_resume(&mut self) {
        if self.session.call.is_none() && std::mem::take(&mut self.session.resuming_anew) {
            self.expect_late();
        }
    }

    /// Whether the registry grants less than it once did: it was restored from a backup.
    pub(super) fn is_put_back(&self, grant: &SessionGrant) -> bool {
        let serial = self.own_card(&grant.card).map(|card| card.serial);
        self.profile
            .as_ref()
            .is_some_and(|held| grant.epoch <= held.epoch || serial < Some(held.serial))
    }

    /// The registry has bound the account to another key; our next login binds ours anew. Where the registry is put
    /// back in between, to before it bound the other, that login binds nothing and grants our old serial, which
    /// all refuse who have seen the other device's card. So we hold the serial that we should have by then.
    pub(super) fn count_bindings(&mut self) {
        let held = self.profile.as_mut().filter(|held| held.state == ProfileState::LoggedIn);
        if let Some(held) = held {
            held.serial = held.serial.saturating_add(BINDINGS_OF_A_RETURN);
        }
    }

    /// Shows the registry the serial and the epoch that we hold.
    pub(super) fn resume_now(&mut self) {
        self.session.must_resume = true;
        self.retry_session();
    }

    /// Whether an epoch that is ahead of ours is our own doing. Of a request that came late: once.
    pub(super) fn is_own_doing(&mut self) -> bool {
        if self.session.resuming_anew || self.session.phase == Phase::Resuming {
            return true;
        }
        let until_ms = self.session.late_until_ms.take();
        let noticed_ms = NOTICED_INTERVALS * u64::from(self.session.interval_ms);
        let late = until_ms.is_some_and(|until_ms| self.now.mono_ms < until_ms + noticed_ms);
        self.session.must_resume |= late;
        late
    }
}
