//! The control socket: the local API of `peerd_proto::control`, for programs of the same user.
//!
//! It knows the daemon's [`Api`] and nothing else. Reads are answered from the store, everything else is a
//! command to the core. A client that is slow, broken or hostile costs at most its own connection.

mod connection;
mod history;
mod line;
mod listen;
mod rpc;
mod socket;

use std::{io, os::unix::net::UnixListener, time::Duration};

use interprocess::{
    local_socket::{
        tokio::Stream,
        traits::{StreamCommon as _, tokio::Listener as _},
    },
    os::unix::uds_local_socket,
};
use registryd_proto::Code;
use serde::Serialize;
use serde_json::Value;
use tokio::{io::AsyncWriteExt as _, net::UnixStream, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

pub use socket::{SocketError, SocketFile};

use crate::{core::CommandFailure, daemon::Api};

/// How many clients are served at a time; more are told so and cut. A script may send to a hundred peers
/// at once, and each `send` to one who is away stays for its time-out.
const CONNECTIONS_MAX: usize = 256;
/// After an accept that failed (no file descriptors are left), how long until the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// How long a client that is one too many may take to hear of it.
const REFUSAL: Duration = Duration::from_millis(200);

/// Serves clients until `stop` is cancelled; then cuts them.
///
/// # Errors
/// If the listener cannot be used at all.
pub async fn run(listener: UnixListener, api: Api, stop: CancellationToken) -> io::Result<()> {
    let sync = uds_local_socket::Listener::from(listener);
    let listener = uds_local_socket::tokio::Listener::try_from(sync)?;
    let mut clients = JoinSet::new();
    let mut next = 0_u64;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
            Some(done) = clients.join_next() => {
                if let Err(error) = done {
                    tracing::error!(%error, "a client's task failed");
                }
                continue;
            }
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "a client cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(stream) = admit(stream) else { continue };
        if clients.len() >= CONNECTIONS_MAX {
            refuse(stream).await;
            continue;
        }
        next += 1;
        let span = tracing::debug_span!("client", number = next);
        let client = connection::serve(stream, api.clone(), stop.child_token());
        clients.spawn(client.instrument(span));
    }
    while clients.join_next().await.is_some() {}
    Ok(())
}

/// Only this user's programs, and root's, are served.
fn admit(stream: uds_local_socket::tokio::Stream) -> Option<UnixStream> {
    let stream = Stream::from(stream);
    let uid = stream.peer_creds().ok().and_then(|creds| creds.euid());
    let Stream::UdSocket(stream) = stream;
    if uid.is_some_and(|uid| uid == 0 || uid == rustix::process::geteuid().as_raw()) {
        return Some(stream.into());
    }
    tracing::warn!(uid, "a client of another user is refused");
    None
}

async fn refuse(mut stream: UnixStream) {
    let failure = CommandFailure::new(Code::RateLimited, "too many clients are connected");
    let line = rpc::response(Value::Null, Err(rpc::from_failure(failure)));
    if tokio::time::timeout(REFUSAL, stream.write_all(&line)).await.is_err() {
        tracing::debug!("a client does not listen");
    }
}

/// An answer as JSON.
fn value(answer: &impl Serialize) -> Value {
    serde_json::to_value(answer).expect("answers are plain JSON")
}
