//! `history`: messages of a conversation, page by page from the newest, as many as fit a line.

use peerd_proto::control::{History, HistoryAnswer, LINE_BYTES_MAX, RpcError, Target};
use registryd_proto::Code;
use serde_json::Value;

use super::rpc;
use crate::{
    core::CommandFailure,
    daemon::{Api, HistoryQuery, HistoryRead},
};

/// How many messages are told if the client does not say.
const LIMIT_DEFAULT: u32 = 100;
/// How many a client may ask for.
const LIMIT_MAX: u32 = 10_000;
/// What the envelope takes of a line at most.
const ENVELOPE_BYTES: usize = 1024;

/// Answers `history`.
pub(super) async fn run(params: History, api: &Api) -> Result<Value, RpcError> {
    let limit = params.limit.unwrap_or(LIMIT_DEFAULT);
    if limit > LIMIT_MAX {
        let message = format!("a history has at most {LIMIT_MAX} messages");
        return Err(rpc::from_failure(CommandFailure::new(Code::Usage, message)));
    }
    let target = params.target.clone();
    let query =
        HistoryQuery { target: params.target, limit, search: params.search, before: params.before };
    let found = api.history(query).await.map_err(|error| rpc::from_store(&error))?;
    let Some(HistoryRead { mut messages, cut }) = found else {
        let message = match target {
            Target::User(username) => format!("no messages with {username}"),
            Target::Room(room) => format!("no messages in the room {room}"),
        };
        return Err(rpc::from_failure(CommandFailure::new(Code::NotFound, message)));
    };
    let mut bytes = ENVELOPE_BYTES;
    let fitting = messages.iter().rev().take_while(|(_, message)| {
        bytes += rpc::line(message).len();
        bytes <= LINE_BYTES_MAX
    });
    let fitting = fitting.count();
    let surplus = messages.len() - fitting;
    messages.drain(..surplus);
    let oldest = messages.first().map(|(place, _)| *place);
    let earlier = oldest.filter(|_| cut || surplus > 0);
    let messages = messages.into_iter().map(|(_, message)| message).collect();
    Ok(super::value(&HistoryAnswer { messages, earlier }))
}
