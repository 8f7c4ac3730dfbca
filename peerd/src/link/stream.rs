//! Frames on one stream: reads under limits and deadlines, writes that must make progress.
//!
//! Whatever the other side sends is refused before memory is taken for it: a frame by its length, and its
//! bytes are held only as far as they came. Entries leave here verified.

use std::time::Duration;

use bytes::BytesMut;
use iroh::endpoint::{ReadError, ReadExactError, RecvStream, SendStream, WriteError};
use peerd_proto::wire::{
    Entry, EntryError, FRAME_ENTRIES_MAX, Frame, FrameError, HAVE_POSITIONS_MAX, VerifiedEntry,
};
use tokio::{task::JoinError, time::timeout};

use crate::core::input::Inbound;

/// The whole of a peer's first frame must be there within this time of the link's start.
pub(super) const FIRST_FRAME: Duration = Duration::from_secs(10);
/// The bytes of a frame must be there within this time of its length: a frame of the largest size passes
/// at 18 kB/s.
const FRAME: Duration = Duration::from_secs(60);
/// A peer that takes nothing for so long is cut.
const WRITE_STALL: Duration = Duration::from_secs(10);
/// Batches up to here are verified in place: about half a millisecond.
const VERIFY_IN_PLACE_MAX: usize = 12;

/// Why a link's reader stops.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadFailure {
    /// The connection is lost, or closed by the other side.
    #[error(transparent)]
    Lost(#[from] ReadError),
    /// The stream ended inside a frame.
    #[error("the stream ends inside a frame")]
    Cut,
    /// A frame did not come in time.
    #[error("a frame did not come in time")]
    Late,
    /// A frame too large, or none.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// More parts in a frame than the protocol allows.
    #[error("a frame has too many parts")]
    TooMany,
    /// An entry that no honest peer sends.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The thread that verified entries is gone.
    #[error("entries could not be verified: {0}")]
    Verify(#[from] JoinError),
}

/// Why a link's writer stops.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteFailure {
    /// The connection is lost, or closed by the other side.
    #[error(transparent)]
    Lost(#[from] WriteError),
    /// The other side reads nothing.
    #[error("the peer takes no bytes")]
    Stalled,
    /// A frame of ours above the limit: a fault of the core.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// The next frame, verified. `None`: the other side has said all it wanted.
///
/// Not cancel safe: a frame that was read in part is lost.
pub(super) async fn read(recv: &mut RecvStream) -> Result<Option<Inbound>, ReadFailure> {
    let mut length = [0; 4];
    match recv.read_exact(&mut length).await {
        Ok(()) => {}
        Err(ReadExactError::FinishedEarly(0)) => return Ok(None),
        Err(ReadExactError::FinishedEarly(_)) => return Err(ReadFailure::Cut),
        Err(ReadExactError::ReadError(error)) => return Err(error.into()),
    }
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    Frame::check_length(length)?;
    let body = timeout(FRAME, read_body(recv, length)).await.map_err(|_| ReadFailure::Late)??;
    inbound(Frame::decode(&body)?).await.map(Some)
}

async fn read_body(recv: &mut RecvStream, length: usize) -> Result<BytesMut, ReadFailure> {
    let mut body = BytesMut::new();
    while body.len() < length {
        let chunk = recv.read_chunk(length - body.len()).await?.ok_or(ReadFailure::Cut)?;
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

async fn inbound(frame: Frame) -> Result<Inbound, ReadFailure> {
    match frame {
        Frame::Entries { conversation, entries } => {
            if entries.len() > FRAME_ENTRIES_MAX {
                return Err(ReadFailure::TooMany);
            }
            let entries = if entries.len() <= VERIFY_IN_PLACE_MAX {
                verify(entries)?
            } else {
                tokio::task::spawn_blocking(move || verify(entries)).await??
            };
            Ok(Inbound::Entries { conversation, entries })
        }
        Frame::Fork { a, b } => Ok(Inbound::Fork { a: a.verify()?, b: b.verify()? }),
        Frame::Have(have) if have.positions.len() > HAVE_POSITIONS_MAX => Err(ReadFailure::TooMany),
        frame => Ok(Inbound::Other(frame)),
    }
}

fn verify(entries: Vec<Entry>) -> Result<Vec<VerifiedEntry>, EntryError> {
    entries.into_iter().map(Entry::verify).collect()
}

/// Writes a frame. Returns when the stream has taken it, which tells nothing about the other side.
pub(super) async fn write(send: &mut SendStream, frame: &Frame) -> Result<(), WriteFailure> {
    let bytes = frame.encode()?;
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let taken =
            timeout(WRITE_STALL, send.write(rest)).await.map_err(|_| WriteFailure::Stalled)??;
        rest = &rest[taken..];
    }
    Ok(())
}
