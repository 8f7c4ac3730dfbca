//! The owner: the one task that holds the core.
//!
//! It hands inputs to the core one by one, gathers the writes and effects of as many as wait into a batch,
//! queues the writes at the store, and passes the effects to `release`, which does them once the commit is
//! there. It never waits for a commit: while one runs, further inputs are handled into the next batch.

use std::time::Duration;

use peerd_proto::control::Event;
use tokio::sync::mpsc;

use super::{clock, release::Batch};
use crate::{
    core::{Effect, Input, Now, Output, durable::Write},
    store::{Store, StoreError},
};

/// How many inputs share a batch: bounds how long the first of them waits for the last.
const INPUTS_PER_BATCH: usize = 256;
/// How many batches wait for their commits or their effects; then inputs wait.
pub(super) const BATCHES_MAX: usize = 32;
/// The longest sleep. Timers do not run while the machine is suspended, the core's clock does: so a deadline
/// that passed in the meantime is noticed this late at most.
const SLEEP_MAX: Duration = Duration::from_secs(10);

/// What decides: the core, or a stand-in for it in tests.
pub trait Machine: Send + 'static {
    /// One input, and what follows from it.
    fn handle(&mut self, input: Input, now: Now) -> Output;
    /// When it wants `Input::Tick`, by the monotonic clock.
    fn next_wake(&self) -> Option<u64>;
}

/// Holds the machine.
#[derive(Debug)]
pub struct Owner<M> {
    machine: M,
    first: Output,
    inputs: mpsc::Receiver<Input>,
    store: Store,
    batches: mpsc::Sender<Batch>,
}

impl<M: Machine> Owner<M> {
    pub(super) fn new(
        machine: M,
        first: Output,
        inputs: mpsc::Receiver<Input>,
        store: Store,
        batches: mpsc::Sender<Batch>,
    ) -> Self {
        Self { machine, first, inputs, store, batches }
    }

    /// Runs until `release` has ended, which says why.
    pub async fn run(mut self) {
        let Output { writes, effects } = std::mem::take(&mut self.first);
        if self.pass_on(writes, effects).await.is_err() {
            return;
        }
        loop {
            let Some(first) = self.next_input().await else { return };
            let (mut writes, mut effects) = (Vec::new(), Vec::new());
            let mut next = first;
            let mut handled = 0;
            while let Some(input) = next.take() {
                let output = self.machine.handle(input, clock::now());
                writes.extend(output.writes);
                effects.extend(output.effects);
                handled += 1;
                if handled < INPUTS_PER_BATCH {
                    next = self.inputs.try_recv().ok();
                }
            }
            if self.pass_on(writes, effects).await.is_err() {
                return;
            }
        }
    }

    /// `None`: nothing can come any more. `Some(None)`: a long sleep is over, and nothing is due.
    async fn next_input(&mut self) -> Option<Option<Input>> {
        let due = self.machine.next_wake();
        let sleep = due.map_or(SLEEP_MAX, |due| {
            Duration::from_millis(due.saturating_sub(clock::now().mono_ms)).min(SLEEP_MAX)
        });
        tokio::select! {
            input = self.inputs.recv() => input.map(Some),
            () = tokio::time::sleep(sleep) => {
                let is_due = due.is_some_and(|due| clock::now().mono_ms >= due);
                Some(is_due.then_some(Input::Tick))
            }
            () = self.batches.closed() => None,
        }
    }

    async fn pass_on(&self, writes: Vec<Write>, effects: Vec<Effect>) -> Result<(), StoreError> {
        if writes.is_empty() && effects.is_empty() {
            return Ok(());
        }
        let head = writes.iter().filter_map(event_number).max();
        let commit = match writes.is_empty() {
            true => None,
            // A store that has stopped is for `release` to report, in its turn.
            false => Some(self.store.commit(writes).await),
        };
        let batch = Batch { commit, head, effects };
        self.batches.send(batch).await.map_err(|_| StoreError::Stopped)
    }
}

fn event_number(write: &Write) -> Option<u64> {
    match write {
        Write::Event(Event { n, .. }) => Some(*n),
        _ => None,
    }
}
