//! The owner: the one task that holds the core.
//!
//! It hands inputs to the core one by one, gathers the writes and effects of as many as wait into a batch,
//! queues the writes at the store, and passes the effects to `release`, which does them once the commit is
//! there. It never waits for a commit: while one runs, further inputs are handled into the next batch.
//!
//! While the disk is full it takes no input at all: what the core would make of them could not be bounded.
//! Links wait then, as for a slow reader, and commands are refused (`api`). Time that passes so is to the core
//! as if the machine had slept. What only looks at the core's state ([`Look`]) is answered nevertheless.

use std::{future::Future, time::Duration};

use peerd_proto::control::{Command, Event};
use tokio::sync::{mpsc, oneshot, watch};

use super::{api::Replies, clock, release::Batch};
use crate::{
    core::{Answer, CommandFailure, Effect, Input, Now, Output, durable::Write},
    store::{Disk, Store, StoreError},
};

/// How many inputs share a batch: bounds how long the first of them waits for the last.
const INPUTS_PER_BATCH: usize = 256;
/// How many batches wait for their commits or their effects; then inputs wait.
pub(super) const BATCHES_MAX: usize = 32;
/// How many looks wait for the owner.
pub(super) const LOOKS_MAX: usize = 16;
/// The longest sleep. Timers do not run while the machine is suspended, the core's clock does: so a deadline
/// that passed in the meantime is noticed this late at most.
const SLEEP_MAX: Duration = Duration::from_secs(10);

/// What decides: the core, or a stand-in for it in tests.
pub trait Machine: Send + 'static {
    /// One input, and what follows from it.
    fn handle(&mut self, input: Input, now: Now) -> Output;
    /// When it wants `Input::Tick`, by the monotonic clock.
    fn next_wake(&self) -> Option<u64>;
    /// The answer to a command that only looks; `None` if it is none.
    fn look(&self, command: &Command) -> Option<Result<Answer, CommandFailure>>;
}

/// A command that only looks at the core's state, which may be ahead of the disk: asked past the inputs.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) command: Command,
    pub(super) answer: oneshot::Sender<Option<Result<Answer, CommandFailure>>>,
}

/// Holds the machine.
#[derive(Debug)]
pub struct Owner<M> {
    machine: M,
    first: Output,
    inputs: Inputs,
    store: Store,
    batches: mpsc::Sender<Batch>,
    replies: Replies,
}

/// Where inputs come from.
#[derive(Debug)]
pub(super) struct Inputs {
    pub(super) inputs: mpsc::Receiver<Input>,
    pub(super) looks: mpsc::Receiver<Look>,
    pub(super) disk: watch::Receiver<Disk>,
}

impl<M: Machine> Owner<M> {
    pub(super) fn new(
        machine: M,
        first: Output,
        inputs: Inputs,
        store: Store,
        batches: mpsc::Sender<Batch>,
        replies: Replies,
    ) -> Self {
        Self { machine, first, inputs, store, batches, replies }
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
                if self.is_wanted(&input) {
                    let output = self.machine.handle(input, clock::now());
                    writes.extend(output.writes);
                    effects.extend(output.effects);
                }
                handled += 1;
                if handled < INPUTS_PER_BATCH {
                    next = self.inputs.inputs.try_recv().ok();
                }
            }
            if self.pass_on(writes, effects).await.is_err() {
                return;
            }
        }
    }

    /// A command that was answered before it was begun (the disk is full) is not begun any more.
    fn is_wanted(&self, input: &Input) -> bool {
        match input {
            Input::Command { id, .. } => self.replies.awaits(*id),
            _ => true,
        }
    }

    /// `None`: nothing can come any more. `Some(None)`: a long sleep is over, and nothing is due.
    async fn next_input(&mut self) -> Option<Option<Input>> {
        let due = self.machine.next_wake();
        let sleep = due.map_or(SLEEP_MAX, |due| {
            Duration::from_millis(due.saturating_sub(clock::now().mono_ms)).min(SLEEP_MAX)
        });
        let Inputs { inputs, looks, disk } = &mut self.inputs;
        let next = async {
            // The writer, which tells it, lives as long as the batches are taken.
            let _ended = disk.wait_for(|disk| *disk == Disk::Ready).await.is_err();
            tokio::select! {
                input = inputs.recv() => input.map(Some),
                () = tokio::time::sleep(sleep) => {
                    let is_due = due.is_some_and(|due| clock::now().mono_ms >= due);
                    Some(is_due.then_some(Input::Tick))
                }
            }
        };
        let next = async {
            tokio::select! {
                next = next => next,
                () = self.batches.closed() => None,
            }
        };
        looking(&self.machine, looks, next).await
    }

    async fn pass_on(
        &mut self,
        writes: Vec<Write>,
        effects: Vec<Effect>,
    ) -> Result<(), StoreError> {
        if writes.is_empty() && effects.is_empty() {
            return Ok(());
        }
        let head = writes.iter().filter_map(event_number).max();
        let (store, batches) = (&self.store, &self.batches);
        let passed = async {
            let commit = match writes.is_empty() {
                true => None,
                // A store that has stopped is for `release` to report, in its turn.
                false => Some(store.commit(writes).await),
            };
            let batch = Batch { commit, head, effects };
            batches.send(batch).await.map_err(|_| StoreError::Stopped)
        };
        looking(&self.machine, &mut self.inputs.looks, passed).await
    }
}

/// Waits for `next`, and answers looks meanwhile.
async fn looking<T>(
    machine: &impl Machine,
    looks: &mut mpsc::Receiver<Look>,
    next: impl Future<Output = T>,
) -> T {
    tokio::pin!(next);
    loop {
        tokio::select! {
            next = &mut next => return next,
            Some(Look { command, answer }) = looks.recv() => {
                // Who asked may be gone.
                let _gone = answer.send(machine.look(&command)).is_err();
            }
        }
    }
}

fn event_number(write: &Write) -> Option<u64> {
    match write {
        Write::Event(Event { n, .. }) => Some(*n),
        _ => None,
    }
}
