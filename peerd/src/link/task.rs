//! One link: the task that reads, writes and reports for one connection.
//!
//! Invariant: it reports `LinkUp` first, then frames, then `LinkDown` exactly once, whatever happens, a
//! panic included. A connection that ends before the daemon takes its `LinkUp` was never a link.

use std::{net::SocketAddr, panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt as _;
use iroh::endpoint::{Connection, RecvStream, SendStream, VarInt};
use registryd_proto::PublicKey;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{sleep, timeout},
};

use super::{
    queue::Outbox,
    stream::{self, FIRST_FRAME, ReadFailure, WriteFailure},
};
use crate::{
    core::{Input, LinkId, LinkKind},
    daemon::{Gone, Handle},
};

/// How long a link that we close may take to send what waits, and its peer to close it.
pub(super) const DRAIN: Duration = Duration::from_millis(1500);

/// What the code of a closed connection says. The numbers are part of the protocol, and are for people
/// who look at it: no side acts on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CloseCode {
    /// All was said.
    Done = 0,
    /// The other side broke the protocol.
    Violation = 1,
    /// The other side was too slow.
    TooSlow = 2,
    /// Too many connections.
    TooMany = 3,
    /// A fault of ours, or we stop.
    Gone = 4,
}

/// Closes a connection at once.
pub(super) fn close(connection: &Connection, code: CloseCode) {
    let reason: &[u8] = match code {
        CloseCode::Done => b"done",
        CloseCode::Violation => b"protocol violation",
        CloseCode::TooSlow => b"too slow",
        CloseCode::TooMany => b"too many connections",
        CloseCode::Gone => b"gone",
    };
    connection.close(VarInt::from_u32(code as u32), reason);
}

/// A connection with its stream, before it is a link.
#[derive(Debug)]
pub(super) struct Established {
    /// On which listener.
    pub(super) kind: LinkKind,
    /// Of which opening of the listeners.
    pub(super) generation: u64,
    /// The key that the other side proved.
    pub(super) key: PublicKey,
    /// The connection.
    pub(super) connection: Connection,
    /// Our direction of its only stream.
    pub(super) send: SendStream,
    /// The other direction.
    pub(super) recv: RecvStream,
    /// Whether we dialled.
    pub(super) dialled: bool,
    /// Where the other side is, unless a relay stands between.
    pub(super) remote: Option<SocketAddr>,
    /// Its share of the connections that may be open.
    pub(super) permit: OwnedSemaphorePermit,
}

/// Why a link ends.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the peer left")]
    Left,
    #[error("we closed it")]
    Closed,
    #[error("the peer took too long to take our goodbye")]
    Undrained,
    #[error(transparent)]
    Read(#[from] ReadFailure),
    #[error(transparent)]
    Write(#[from] WriteFailure),
    #[error(transparent)]
    Daemon(#[from] Gone),
    #[error("its task panicked")]
    Panic,
}

impl End {
    fn code(&self) -> CloseCode {
        match self {
            Self::Left | Self::Closed | Self::Undrained => CloseCode::Done,
            Self::Read(ReadFailure::Late) | Self::Write(WriteFailure::Stalled) => {
                CloseCode::TooSlow
            }
            Self::Read(ReadFailure::Lost(_) | ReadFailure::Verify(_))
            | Self::Write(WriteFailure::Lost(_) | WriteFailure::Frame(_))
            | Self::Daemon(_)
            | Self::Panic => CloseCode::Gone,
            Self::Read(
                ReadFailure::Cut
                | ReadFailure::Frame(_)
                | ReadFailure::TooMany
                | ReadFailure::Entry(_),
            ) => CloseCode::Violation,
        }
    }
}

/// Runs a link until either side ends it. Returns its id, for its owner to forget it.
pub(super) async fn run(id: LinkId, link: Established, outbox: Outbox, handle: Handle) -> LinkId {
    let Established { kind, key, connection, send, recv, dialled, remote, permit, .. } = link;
    tracing::debug!(link = id.0, ?kind, ?key, dialled, "link up");
    let up = Input::LinkUp { link: id, kind, key, dialled, remote };
    let told = tokio::select! {
        biased;
        told = handle.send(up) => told,
        // A daemon that takes nothing for a while, for its disk is full, learns of no link that is gone.
        _ = connection.closed() => {
            drop(permit);
            if dialled {
                // A daemon that has stopped needs no report.
                let _ = handle.send(Input::DialFailed { kind, key }).await;
            }
            return id;
        }
    };
    if told.is_err() {
        close(&connection, CloseCode::Gone);
        return id;
    }
    let work = exchange(id, &connection, send, recv, outbox, &handle);
    let end = AssertUnwindSafe(work).catch_unwind().await.unwrap_or(End::Panic);
    close(&connection, end.code());
    drop(permit);
    match (&end, end.code()) {
        (End::Panic | End::Write(WriteFailure::Frame(_)), _) => {
            tracing::error!(link = id.0, ?kind, ?key, reason = %end, "a fault of ours ends a link");
        }
        (_, CloseCode::Violation) => {
            tracing::warn!(link = id.0, ?kind, ?key, reason = %end, "a peer breaks the protocol");
        }
        _ => tracing::debug!(link = id.0, ?kind, ?key, reason = %end, "link down"),
    }
    // A daemon that has stopped needs no report.
    let _ = handle.send(Input::LinkDown { link: id }).await;
    id
}

async fn exchange(
    id: LinkId,
    connection: &Connection,
    send: SendStream,
    recv: RecvStream,
    outbox: Outbox,
    handle: &Handle,
) -> End {
    let closing = outbox.closing.clone();
    let undrained = async {
        closing.cancelled().await;
        sleep(DRAIN).await;
    };
    tokio::select! {
        end = read_all(id, recv, handle) => end,
        end = write_all(connection, send, outbox) => end,
        () = undrained => End::Undrained,
    }
}

async fn read_all(id: LinkId, mut recv: RecvStream, handle: &Handle) -> End {
    let first = timeout(FIRST_FRAME, stream::read(&mut recv)).await;
    let mut next = first.unwrap_or(Err(ReadFailure::Late));
    loop {
        match next {
            Ok(Some(frame)) => {
                if let Err(gone) = handle.send(Input::LinkFrame { link: id, frame }).await {
                    return gone.into();
                }
            }
            Ok(None) => return End::Left,
            Err(error) => return error.into(),
        }
        next = stream::read(&mut recv).await;
    }
}

/// Sends what is queued. Once the queue is dropped and empty, the stream is finished and the other side
/// closes the connection when it has read all: closing at once would take away what it has not read yet.
async fn write_all(connection: &Connection, mut send: SendStream, mut outbox: Outbox) -> End {
    while let Some(frame) = outbox.pop().await {
        if let Err(error) = stream::write(&mut send, &frame).await {
            return error.into();
        }
    }
    // Fails only if the stream is stopped or lost already.
    let _ = send.finish();
    connection.closed().await;
    End::Closed
}
