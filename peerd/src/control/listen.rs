//! `listen`: events from the store by number, then as they are committed.
//!
//! A reader holds nothing here but its number: events are read from the store in pages and go through the
//! connection's short queue, so a slow reader costs no memory, and one that reads nothing is cut by the
//! writer's deadline.

use std::{sync::Arc, time::Duration};

use peerd_proto::control::{Event, Listen, ListenAnswer, Notice};
use registryd_proto::{Code, Username};
use serde_json::Value;

use super::{
    connection::{Cut, Outbox},
    rpc,
};
use crate::{
    core::CommandFailure,
    daemon::{Api, Disk, StoreError},
};

/// When an acknowledgement that found no space is tried again.
const ACK_RETRY: Duration = Duration::from_secs(1);

/// Why a listener ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum ListenError {
    /// The connection is cut.
    #[error(transparent)]
    Cut(#[from] Cut),
    /// Reading failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Acknowledging failed.
    #[error(transparent)]
    Ack(#[from] Arc<StoreError>),
}

/// Checks the name of a consumer.
pub(super) fn consumer_name(name: &str) -> Result<(), CommandFailure> {
    match name.parse::<Username>() {
        Ok(_) => Ok(()),
        Err(_) => Err(CommandFailure::new(
            Code::Usage,
            "a consumer's name has 1 to 32 characters of a-z, 0-9, '.', '_' and '-'",
        )),
    }
}

/// Answers `listen`, then streams until the connection is cut.
pub(super) async fn run(
    id: Value,
    params: Listen,
    api: &Api,
    outbox: &Outbox,
) -> Result<(), ListenError> {
    let after = match begin(&params, api).await {
        Ok(after) => after,
        Err(error) => {
            outbox.send(rpc::response(id, Err(error))).await?;
            return Ok(());
        }
    };
    let head = *api.head().borrow();
    let answer = ListenAnswer { log: api.log().to_owned(), head };
    outbox.send(rpc::response(id, Ok(super::value(&answer)))).await?;
    stream(params, after.unwrap_or(head), api, outbox).await
}

/// After which event to begin; `None`: after the newest.
async fn begin(params: &Listen, api: &Api) -> Result<Option<u64>, peerd_proto::control::RpcError> {
    match (&params.consumer, params.after) {
        (None, _) if params.ack_written => {
            Err(rpc::from_failure(CommandFailure::new(Code::Usage, "ack_written needs a consumer")))
        }
        (None, after) => Ok(after),
        (Some(_), Some(_)) => Err(rpc::from_failure(CommandFailure::new(
            Code::Usage,
            "a consumer has a position of its own: give either consumer or after",
        ))),
        (Some(name), None) => {
            consumer_name(name).map_err(rpc::from_failure)?;
            let acked = api.consumer(name.clone(), None).await;
            acked.map(Some).map_err(|error| rpc::from_store(&error))
        }
    }
}

async fn stream(
    params: Listen,
    mut after: u64,
    api: &Api,
    outbox: &Outbox,
) -> Result<(), ListenError> {
    let (mut head, mut disk) = (api.head(), api.disk());
    // What was written and could not be acknowledged, for the disk was full.
    let mut owed = false;
    loop {
        let page = api.events(after).await?;
        let resume = if after > page.head {
            Some(page.head + 1)
        } else {
            (after + 1 < page.first).then_some(page.first)
        };
        if let Some(resume) = resume {
            outbox.send(rpc::notification(Notice::Lagged { resume })).await?;
            after = resume - 1;
            continue;
        }
        let before = after;
        for event in page.events {
            after = event.n;
            if wanted(&params, &event) {
                outbox.send(rpc::notification(Notice::Event(event))).await?;
            }
        }
        if after > before || owed {
            if let (true, Some(name)) = (params.ack_written, &params.consumer) {
                outbox.written().await?;
                owed = match api.consumer(name.clone(), Some(after)).await {
                    Ok(_) => false,
                    Err(error) if error.is_full() => true,
                    Err(error) => return Err(error.into()),
                };
            }
            if after > before {
                continue;
            }
        }
        let space = async {
            let ready = disk.wait_for(|disk| *disk == Disk::Ready).await.map(drop);
            tokio::time::sleep(ACK_RETRY).await;
            ready
        };
        // The senders live as long as the daemon.
        let more = tokio::select! {
            more = head.wait_for(|head| *head > after) => more.map(drop),
            space = space, if owed => space,
        };
        if more.is_err() {
            return Ok(());
        }
    }
}

fn wanted(params: &Listen, event: &Event) -> bool {
    let kind = &event.kind;
    (params.from.is_none() || params.from.as_ref() == kind.user())
        && (params.room.is_none() || params.room.as_ref() == kind.room())
        && (params.types.is_empty() || params.types.iter().any(|t| t == kind.type_name()))
}
