//! How users are told to come to an end, and how they pause between two tries.

use std::{
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

/// What users should do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Go on.
    #[default]
    Talking,
    /// Begin nothing, but repeat what is under way until it is told.
    Finishing,
    /// Leave all as it is.
    Over,
}

/// The phase, shared with all users of a run.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop(Arc<(Mutex<Phase>, Condvar)>);

impl Stop {
    /// Goes on to a phase; never back.
    pub(super) fn go_to(&self, phase: Phase) {
        let mut now = self.0.0.lock().expect("no thread panics with the lock");
        *now = phase.max(*now);
        self.0.1.notify_all();
    }

    /// Pauses, shorter if the phase comes; whether it has come.
    pub(super) fn reached(&self, phase: Phase, pause: Duration) -> bool {
        let now = self.0.0.lock().expect("no thread panics with the lock");
        let waited = self.0.1.wait_timeout_while(now, pause, |now| *now < phase);
        *waited.expect("no thread panics with the lock").0 >= phase
    }
}
