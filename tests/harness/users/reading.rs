//! What users see: their event logs while the run goes on, and all that they have in the end.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
    time::Duration,
};

use p2pchat_history::{Body, Conversation, Reading, Record, Seen};
use peerd_proto::control::{
    Event, EventKind, History, Listen, Notice, Notification, Outbox, OutboxMessage,
};
use registryd_proto::Code;

use super::{
    client::{CallError, Client},
    lane::Place,
    recorder::Recorder,
    stop::{Phase, Stop},
};

/// How long a reader of events waits for one before it looks whether it should end.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// Before connecting again.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest that peerd may take for an answer in the end.
const PATIENCE: Duration = Duration::from_secs(20);
/// The largest page of a history.
const PAGE: u32 = 10_000;

/// What an event says, as `who` sees it.
fn seen(who: &str, kind: &EventKind) -> Seen {
    let place = |room: &Option<registryd_proto::RoomName>, other: Option<&str>| match (room, other)
    {
        (Some(room), _) => Conversation::room(room.as_str()),
        (None, other) => Conversation::between(who, other.unwrap_or(who)),
    };
    match kind {
        EventKind::Message { from, room, id, body, .. } => Seen::Message {
            from: from.as_str().to_owned(),
            conversation: place(room, Some(from.as_str())),
            id: id.as_str().to_owned(),
            body: Body::of(body),
        },
        EventKind::Delivered { to, room, id } => Seen::Delivered {
            conversation: place(room, to.as_ref().map(|to| to.as_str())),
            id: id.as_str().to_owned(),
        },
        EventKind::Failed { to, room, id, code } => Seen::Failed {
            conversation: place(room, to.as_ref().map(|to| to.as_str())),
            id: id.as_str().to_owned(),
            code: code.as_str().to_owned(),
        },
        _ => Seen::Other,
    }
}

/// Reads a user's events as they come, from the first on, over all lives of its peerd.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) who: String,
    pub(super) socket: PathBuf,
    pub(super) recorder: Recorder,
    pub(super) stop: Stop,
}

impl Watcher {
    /// Until told to finish.
    pub(super) fn run(self) {
        let mut last = 0;
        while !self.stop.reached(Phase::Finishing, PAUSE) {
            self.watch(&mut last);
        }
    }

    /// One subscription, to its end.
    fn watch(&self, last: &mut u64) {
        let Ok(mut client) = Client::connect(&self.socket, LOOK_EVERY) else { return };
        let begin = Listen { after: Some(*last), ..Listen::default() };
        if client.call(begin).is_err() {
            return;
        }
        let reading = Reading::Live(self.recorder.next_reading());
        while !self.stop.reached(Phase::Finishing, Duration::ZERO) {
            match next(&mut client) {
                Ok(Some(event)) => {
                    *last = event.n;
                    note(&self.recorder, &self.who, reading, &event);
                }
                Err(CallError::Silent) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }
}

/// The next event; `None` if some were left out.
fn next(client: &mut Client) -> Result<Option<Event>, CallError> {
    let line = client.read()?;
    let notification: Notification = serde_json::from_value(line)?;
    Ok(match notification.notice {
        Notice::Event(event) => Some(event),
        Notice::Lagged { .. } => None,
    })
}

fn note(recorder: &Recorder, who: &str, reading: Reading, event: &Event) {
    recorder.push(record(recorder.now_ms(), who, reading, event));
}

fn record(at_ms: u64, who: &str, reading: Reading, event: &Event) -> Record {
    let what = seen(who, &event.kind);
    Record::Saw { at_ms, who: who.to_owned(), reading, n: event.n, what }
}

/// The whole event log, up to what is the newest event when this is called.
pub(super) fn all_events(who: &str, socket: &Path, at_ms: u64) -> Result<Vec<Record>, CallError> {
    let mut client = Client::connect(socket, PATIENCE)?;
    let head = client.call(Listen { after: Some(0), ..Listen::default() })?.head;
    let mut records = Vec::new();
    let mut last = 0;
    while last < head {
        // Where events were left out, a gap of numbers tells.
        if let Some(event) = next(&mut client)? {
            last = event.n;
            records.push(record(at_ms, who, Reading::Final, &event));
        }
    }
    Ok(records)
}

/// What waits.
pub(super) fn outbox(socket: &Path) -> Result<Vec<OutboxMessage>, CallError> {
    Ok(Client::connect(socket, PATIENCE)?.call(Outbox {})?.messages)
}

/// The bodies that a user holds of a conversation, and its head: what members must agree on.
pub(super) fn holdings(
    who: &str,
    socket: &Path,
    place: &Place,
) -> Result<(Vec<Record>, Record), CallError> {
    let mut client = Client::connect(socket, PATIENCE)?;
    let (mut records, mut before) = (Vec::new(), None);
    // Pages come newest first, each oldest first: a sum that does not care of pages is needed.
    let mut pages = Vec::new();
    loop {
        let page =
            History { target: place.target.clone(), limit: Some(PAGE), search: None, before };
        let page = match client.call(page) {
            Ok(page) => page,
            Err(CallError::Refused(error)) if error.code == Code::NotFound => break,
            Err(error) => return Err(error),
        };
        pages.push(page.messages);
        before = page.earlier;
        if before.is_none() {
            break;
        }
    }
    let mut order = DefaultHasher::new();
    for message in pages.into_iter().rev().flatten() {
        let (author, id) = (message.from.as_str().to_owned(), message.id.as_str().to_owned());
        (&author, &id, &message.body).hash(&mut order);
        let (who, conversation) = (who.to_owned(), place.conversation.clone());
        records.push(Record::Holds { who, author, conversation, id });
    }
    let head = Record::Head {
        who: who.to_owned(),
        conversation: place.conversation.clone(),
        stream: "the order of its history".to_owned(),
        head: format!("{} messages, {:016x}", records.len(), order.finish()),
    };
    Ok((records, head))
}
