//! The queue of frames that wait for one link's writer, bounded in number and in bytes.
//!
//! The links' task pushes and never waits; a queue that is full means a peer that does not read, and costs
//! that peer its link. Dropping the [`Queue`] lets the writer send what waits, then end.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use peerd_proto::wire::Frame;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Frames that wait for a link: several windows of the core.
const FRAMES_MAX: usize = 256;
/// Their size in bytes: four frames of the largest size.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// What a small frame, or an entry without its header and body, takes at the most.
const PART_BYTES: usize = 512;

/// The peer does not read what is sent: the frame was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the queue of a link is full")]
pub(super) struct Full;

/// The sending half. Held by the links' task alone.
#[derive(Debug)]
pub(super) struct Queue {
    frames: mpsc::Sender<Frame>,
    bytes: Arc<AtomicUsize>,
    _closing: DropGuard,
}

/// The writer's half.
#[derive(Debug)]
pub(super) struct Outbox {
    frames: mpsc::Receiver<Frame>,
    bytes: Arc<AtomicUsize>,
    /// Cancelled when the [`Queue`] is dropped: what waits is sent under a deadline then.
    pub(super) closing: CancellationToken,
}

/// Both halves.
pub(super) fn queue() -> (Queue, Outbox) {
    let (sender, receiver) = mpsc::channel(FRAMES_MAX);
    let bytes = Arc::new(AtomicUsize::new(0));
    let closing = CancellationToken::new();
    let guard = closing.clone().drop_guard();
    let queue = Queue { frames: sender, bytes: Arc::clone(&bytes), _closing: guard };
    (queue, Outbox { frames: receiver, bytes, closing })
}

impl Queue {
    /// Adds a frame behind the others. An empty queue takes a frame of any size.
    pub(super) fn push(&self, frame: Frame) -> Result<(), Full> {
        let size = estimate(&frame);
        let before = self.bytes.fetch_add(size, Ordering::Relaxed);
        if before != 0 && before + size > BYTES_MAX {
            return Err(Full);
        }
        self.frames.try_send(frame).map_err(|_| Full)
    }
}

impl Outbox {
    /// The next frame; `None` once the [`Queue`] is dropped and all is taken. Cancel safe.
    pub(super) async fn pop(&mut self) -> Option<Frame> {
        let frame = self.frames.recv().await?;
        self.bytes.fetch_sub(estimate(&frame), Ordering::Relaxed);
        Some(frame)
    }
}

/// About the size of an encoded frame, without encoding it: that is left to the writer.
fn estimate(frame: &Frame) -> usize {
    match frame {
        Frame::Entries { entries, .. } => entries
            .iter()
            .map(|e| PART_BYTES + e.header.len() + e.body().map_or(0, |b| b.text.len()))
            .sum(),
        Frame::Have(have) => (have.positions.len() + have.exceptions.len() + 1) * PART_BYTES / 4,
        Frame::Membership { records, .. } => (records.len() + 1) * PART_BYTES,
        Frame::Hello(_) | Frame::Fork { .. } => 4 * PART_BYTES,
        Frame::Standing(_)
        | Frame::Waiting { .. }
        | Frame::Decline { .. }
        | Frame::Chat(_)
        | Frame::Goodbye(_) => PART_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use peerd_proto::wire::Standing;

    use super::*;

    #[tokio::test]
    async fn a_full_queue_refuses_and_a_dropped_one_is_emptied() {
        let (queue, mut outbox) = queue();
        for _ in 0..FRAMES_MAX {
            queue.push(Frame::Standing(Standing::Ask)).expect("room");
        }
        assert_eq!(queue.push(Frame::Standing(Standing::Ask)), Err(Full));
        drop(queue);
        assert!(outbox.closing.is_cancelled());
        let mut taken = 0;
        while outbox.pop().await.is_some() {
            taken += 1;
        }
        assert_eq!(taken, FRAMES_MAX);
    }
}
