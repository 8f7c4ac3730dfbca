//! One connection of an operator: lines in, answers out in order, each under a deadline.

use std::{io, pin::pin, time::Duration};

use serde_json::value::RawValue;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::{error::Elapsed, timeout},
};
use tokio_util::{
    bytes::BytesMut,
    codec::{Decoder as _, LinesCodec, LinesCodecError},
    sync::CancellationToken,
};
use zeroize::Zeroizing;

use super::{
    answer::{Answer as _, Response},
    error::AdminError,
    invites,
    request::{LINE_BYTES_MAX, Request, Verb},
    rooms, sessions, users,
};
use crate::{
    registry::Registry,
    stats::{health::Health, snapshot::Snapshot},
};

/// One line from the end of the one before: a script may think for so long.
const LINE: Duration = Duration::from_secs(30);
/// One request, with its wait in the queues of store and passwords.
const ANSWER: Duration = Duration::from_secs(20);
/// One answer's way to its reader.
const WRITE: Duration = Duration::from_secs(10);
/// How long a client that is not served may take to hear of it.
const REFUSAL: Duration = Duration::from_millis(200);

/// Why a connection ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error("too slow")]
    Slow(#[from] Elapsed),
}

/// Serves a connection to its end.
pub(super) async fn serve(
    registry: &Registry,
    mut stream: UnixStream,
    stop: &CancellationToken,
) -> Result<(), ConnectionError> {
    let mut codec = LinesCodec::new_with_max_length(LINE_BYTES_MAX);
    let mut buffer = BytesMut::new();
    loop {
        let next = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            next = timeout(LINE, line(&mut stream, &mut codec, &mut buffer)) => next?,
        };
        let text = match next {
            Ok(Some(text)) => text,
            Ok(None) => return Ok(()),
            Err(LinesCodecError::MaxLineLengthExceeded) => {
                // What follows cannot be told apart any more.
                return write(&mut stream, None, Err(AdminError::TooLong)).await;
            }
            Err(LinesCodecError::Io(error)) => return Err(error.into()),
        };
        match serde_json::from_str::<Request>(&text) {
            Ok(Request { id, verb }) => {
                drop(text);
                let mut work = pin!(answer(registry, verb));
                match timeout(ANSWER, &mut work).await {
                    Ok(outcome) => write(&mut stream, Some(id), outcome).await?,
                    Err(_) => {
                        // What was asked of the store is done all the same: what follows from it is as well.
                        let told = write(&mut stream, Some(id), Err(AdminError::TimedOut)).await;
                        let _ = work.await;
                        told?;
                    }
                }
            }
            Err(error) => write(&mut stream, None, Err(error.into())).await?,
        }
    }
}

/// Tells a client that it is not served, and why.
pub(super) async fn refuse(mut stream: UnixStream, why: AdminError) {
    let told = write(&mut stream, None, Err(why));
    if !matches!(timeout(REFUSAL, told).await, Ok(Ok(()))) {
        tracing::debug!("an operator does not listen");
    }
}

/// The next line, which may hold a password; `None` at the end of the stream, where half a line is dropped.
async fn line(
    stream: &mut UnixStream,
    codec: &mut LinesCodec,
    buffer: &mut BytesMut,
) -> Result<Option<Zeroizing<String>>, LinesCodecError> {
    loop {
        if let Some(text) = codec.decode(buffer)? {
            return Ok(Some(Zeroizing::new(text)));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

async fn write(
    stream: &mut UnixStream,
    id: Option<u64>,
    outcome: Result<Box<RawValue>, AdminError>,
) -> Result<(), ConnectionError> {
    let response = match outcome {
        Ok(result) => Response { id, result: Some(result), error: None },
        Err(error) => Response { id, result: None, error: Some(error.refusal()) },
    };
    let mut line = serde_json::to_vec(&response).expect("responses are plain JSON");
    line.push(b'\n');
    Ok(timeout(WRITE, stream.write_all(&line)).await??)
}

async fn answer(registry: &Registry, verb: Verb) -> Result<Box<RawValue>, AdminError> {
    Ok(match verb {
        Verb::UsersAdd { username, password } => {
            users::add(registry, username, password).await?.to_json()
        }
        Verb::UsersDisable(user) => users::disable(registry, user.username).await?.to_json(),
        Verb::UsersEnable(user) => users::enable(registry, user.username).await?.to_json(),
        Verb::UsersPasswd { username, password } => {
            users::passwd(registry, username, password).await?.to_json()
        }
        Verb::UsersDelete(user) => users::delete(registry, user.username).await?.to_json(),
        Verb::UsersList(page) => users::list(registry, &page).await?.to_json(),
        Verb::UsersShow(user) => users::show(registry, &user.username).await?.to_json(),
        Verb::SessionsList(page) => sessions::list(registry, &page).await?.to_json(),
        Verb::SessionsKick(user) => sessions::kick(registry, user.username).await?.to_json(),
        Verb::RoomsList(page) => rooms::list(registry, &page).await?.to_json(),
        Verb::RoomsShow(room) => rooms::show(registry, &room.room).await?.to_json(),
        Verb::RoomsDelete(room) => rooms::delete(registry, &room.room).await?.to_json(),
        Verb::InvitesCreate { uses, expires_ms, note } => {
            invites::create(registry, uses, expires_ms, note).await?.to_json()
        }
        Verb::InvitesList(page) => invites::list(registry, &page).await?.to_json(),
        Verb::InvitesRevoke { id } => invites::revoke(registry, id).await?.to_json(),
        Verb::Stats => Snapshot::of(registry).await.to_json(),
        Verb::Health => Health::of(registry).to_json(),
    })
}
