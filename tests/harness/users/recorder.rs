//! What users do and are told, written down as it happens, by many threads into one history.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use p2pchat_history::{Body, Conversation, History, Outcome, Record, Wait};

/// A history in the making. Clones write into the same one.
#[derive(Debug, Clone)]
pub struct Recorder(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    began: Instant,
    inner: Mutex<Inner>,
    called: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    history: History,
    calls: u64,
    readings: u32,
}

/// A call of `send` that is about to be made.
#[derive(Debug, Clone)]
pub struct Call {
    /// The author.
    pub who: String,
    /// Where to.
    pub to: Conversation,
    /// In rooms, the epoch that the author knows.
    pub epoch: Option<u64>,
    /// The message's id.
    pub id: String,
    /// Its text.
    pub text: String,
    /// What the call waits for.
    pub wait: Wait,
}

impl Default for Recorder {
    fn default() -> Self {
        let (inner, called) = (Mutex::default(), Condvar::new());
        Self(Arc::new(Shared { began: Instant::now(), inner, called }))
    }
}

impl Recorder {
    /// Milliseconds since the beginning.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Appends a record.
    pub fn push(&self, record: Record) {
        self.lock().history.push(record);
    }

    /// Notes a call, before anything of it is written; gives its number.
    pub fn invoked(&self, call: &Call) -> u64 {
        let at_ms = self.now_ms();
        let mut inner = self.lock();
        inner.calls += 1;
        let op = inner.calls;
        inner.history.push(Record::Invoked {
            at_ms,
            op,
            who: call.who.clone(),
            to: call.to.clone(),
            id: call.id.clone(),
            body: Body::of(&call.text),
            wait: call.wait,
            epoch_at_least: call.epoch,
        });
        self.0.called.notify_all();
        op
    }

    /// Notes how a call ended, after all of its answer was read.
    pub fn told(&self, op: u64, outcome: Outcome) {
        let at_ms = self.now_ms();
        self.push(Record::Told { at_ms, op, outcome, epoch: None });
    }

    /// A number for a reading of an event log.
    pub fn next_reading(&self) -> u32 {
        let mut inner = self.lock();
        inner.readings += 1;
        inner.readings
    }

    /// How many calls there were.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Returns in the moment in which so many calls were made, the last of them still under way; false if
    /// that does not happen in time.
    pub fn wait_for_calls(&self, calls: u64, within: Duration) -> bool {
        let inner = self.lock();
        let fewer = |inner: &mut Inner| inner.calls < calls;
        let waited = self.0.called.wait_timeout_while(inner, within, fewer);
        !waited.expect("no thread panics with the lock").1.timed_out()
    }

    /// All that was written down so far.
    pub fn history(&self) -> History {
        self.lock().history.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().expect("no thread panics with the lock")
    }
}
