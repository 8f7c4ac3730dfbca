//! Reads, each on a connection of its own: they wait neither for a commit nor for each other.
//!
//! Entries for the core have connections apart from those of local clients, so that a client's long search
//! never holds up delivery.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use peerd_proto::{
    control::{Event, EventKind, HistoryMessage, HistoryPlace, LINE_BYTES_MAX, Target, Timestamp},
    wire::{
        Body, Content, ConversationId, Entry, FRAME_BYTES_MAX, FRAME_ENTRIES_MAX, Header,
        MessageId, StreamId, VerifiedEntry,
    },
};
use registryd_proto::{PublicKey, Signature, Username};
use rusqlite::{Connection, OptionalExtension as _, Row, params, types::ValueRef};
use tokio::sync::Semaphore;

use super::{
    apply::{conversation_name, int},
    error::StoreError,
    schema,
    snapshot::{OUTGOING, blob, json, key, outgoing_row, text, uint},
};
use crate::core::durable::{ConversationKind, Kept, Profile};

/// What an entry takes in a frame beside header and text, at the most: two signatures or one and a salt, lengths.
const ENTRY_OVERHEAD_BYTES: usize = 144;
/// How many events one read gives at most.
const EVENTS_PER_READ: i64 = 256;
/// After so many bytes of text a read gives no further event: a reader's share of memory.
const EVENT_BYTES_PER_READ: usize = 1024 * 1024;

/// Connections that read; as many reads at a time as connections.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    permits: Semaphore,
    idle: Mutex<Vec<Connection>>,
}

impl Pool {
    pub(super) fn new(path: &Path, connections: usize) -> Self {
        let shared = Shared {
            path: path.to_owned(),
            permits: Semaphore::new(connections),
            idle: Mutex::new(Vec::new()),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Runs `read` on a thread for blocking work, with a connection of the pool.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let _permit = self.shared.permits.acquire().await.map_err(|_| StoreError::Stopped)?;
        let shared = Arc::clone(&self.shared);
        let task = tokio::task::spawn_blocking(move || {
            let idle = shared.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = match idle {
                Some(connection) => connection,
                None => schema::open_reader(&shared.path)?,
            };
            let result = read(&connection);
            shared.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            result
        });
        task.await.map_err(|_| StoreError::Stopped)?
    }
}

/// Consecutive entries of one stream, as many as fit a frame.
pub(super) fn entries(
    connection: &Connection,
    conversation: &ConversationId,
    author: &PublicKey,
    stream: &StreamId,
    after_seq: u64,
    limit: u32,
) -> Result<Vec<VerifiedEntry>, StoreError> {
    let mut statement = connection
        .prepare_cached(
            "SELECT e.header, e.signature, e.salt, e.text, e.void FROM entry e WHERE e.stream = (\
             SELECT s.number FROM stream s JOIN conversation c ON c.number = s.conversation \
             WHERE c.id = ?1 AND s.author = ?2 AND s.id = ?3) AND e.seq > ?4 ORDER BY e.seq LIMIT ?5",
        )
        .map_err(StoreError::from_sqlite)?;
    let most = i64::from(limit).min(FRAME_ENTRIES_MAX as i64);
    let key =
        params![conversation.0.0, author.as_bytes(), stream.0.as_bytes(), int(after_seq), most];
    let mut rows = statement.query(key).map_err(StoreError::from_sqlite)?;
    let mut found = Vec::new();
    let mut bytes = ENTRY_OVERHEAD_BYTES;
    while let Some(row) = rows.next().map_err(StoreError::from_sqlite)? {
        let entry = entry(row).ok_or(StoreError::Row { table: "entry" })?;
        bytes += ENTRY_OVERHEAD_BYTES
            + entry.entry().header.len()
            + entry.body().map_or(0, |body| body.text.len());
        if bytes > FRAME_BYTES_MAX {
            break;
        }
        found.push(entry);
    }
    Ok(found)
}

fn entry(row: &Row<'_>) -> Option<VerifiedEntry> {
    let header = Bytes::from(row.get::<_, Vec<u8>>(0).ok()?);
    let signature = Signature::from_bytes(blob(row, 1)?);
    let content = match row.get::<_, Option<String>>(3).ok()? {
        Some(text) => Content::Body(Body { salt: blob(row, 2)?, text }),
        None if row.get_ref(4).ok()? == ValueRef::Null => Content::Withheld,
        None => Content::Void(Signature::from_bytes(blob(row, 4)?)),
    };
    Entry { header, signature, content }.trust().ok()
}

/// Our message by its caller's id; a settled one, if several have it.
pub(super) fn recall(
    connection: &Connection,
    conversation: &ConversationId,
    id: &MessageId,
) -> Result<Option<Kept>, StoreError> {
    let sql = format!(
        "{OUTGOING} WHERE c.id = ?1 AND o.id = ?2 AND o.caller_id = 1 \
         ORDER BY o.state = '\"queued\"' LIMIT 1"
    );
    let found = connection
        .prepare_cached(&sql)
        .and_then(|mut s| {
            let row = |row: &Row<'_>| Ok(outgoing_row(row));
            s.query_row(params![conversation.0.0, id.as_str()], row).optional()
        })
        .map_err(StoreError::from_sqlite)?;
    let Some(message) = found else { return Ok(None) };
    let message = message.ok_or(StoreError::Row { table: "outgoing" })?;
    let mut statement = connection
        .prepare_cached(
            "SELECT x.holder, x.kind FROM exception x JOIN conversation c ON c.number = x.conversation \
             WHERE c.id = ?1 AND x.stream = ?2 AND x.seq = ?3",
        )
        .map_err(StoreError::from_sqlite)?;
    let place = params![conversation.0.0, message.stream.0.as_bytes(), int(message.seq)];
    let mut rows = statement.query(place).map_err(StoreError::from_sqlite)?;
    let mut lacking = Vec::new();
    while let Some(row) = rows.next().map_err(StoreError::from_sqlite)? {
        let one = key(row, 0).zip(json(row, 1));
        lacking.push(one.ok_or(StoreError::Row { table: "exception" })?);
    }
    Ok(Some(Kept { message, lacking }))
}

/// The ids of our messages that wait.
pub(super) fn queued(connection: &Connection) -> Result<Vec<MessageId>, StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT id FROM outgoing WHERE state = '\"queued\"'")
        .map_err(StoreError::from_sqlite)?;
    let mut rows = statement.query([]).map_err(StoreError::from_sqlite)?;
    let mut ids = Vec::new();
    while let Some(row) = rows.next().map_err(StoreError::from_sqlite)? {
        let id = text(row, 0).and_then(|id| id.parse().ok());
        ids.push(id.ok_or(StoreError::Row { table: "outgoing" })?);
    }
    Ok(ids)
}

/// The events behind `after`, some of them, in order; with the number of the oldest event there is.
pub(super) fn events(connection: &Connection, after: u64) -> Result<EventsRead, StoreError> {
    let bounds = connection
        .prepare_cached("SELECT coalesce(min(n), 1), coalesce(max(n), 0) FROM event")
        .and_then(|mut s| s.query_row([], |row| Ok((uint(row, 0), uint(row, 1)))))
        .map_err(StoreError::from_sqlite)?;
    let (Some(first), Some(head)) = bounds else {
        return Err(StoreError::Row { table: "event" });
    };
    let mut statement = connection
        .prepare_cached(
            "SELECT v.n, v.time_ms, v.json, e.text FROM event v LEFT JOIN entry e ON e.number = v.entry \
             WHERE v.n > ?1 ORDER BY v.n LIMIT ?2",
        )
        .map_err(StoreError::from_sqlite)?;
    let mut rows =
        statement.query(params![int(after), EVENTS_PER_READ]).map_err(StoreError::from_sqlite)?;
    let mut events = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.next().map_err(StoreError::from_sqlite)? {
        let event = event(row).ok_or(StoreError::Row { table: "event" })?;
        if let EventKind::Message { body, .. } = &event.kind {
            bytes += body.len();
        }
        events.push(event);
        if bytes > EVENT_BYTES_PER_READ {
            break;
        }
    }
    Ok(EventsRead { events, first, head })
}

/// What [`events`] found.
#[derive(Debug)]
pub struct EventsRead {
    /// In order, without a gap.
    pub events: Vec<Event>,
    /// The oldest event's number; 1 if there is none.
    pub first: u64,
    /// The newest event's number; 0 if there is none.
    pub head: u64,
}

fn event(row: &Row<'_>) -> Option<Event> {
    let mut kind: EventKind = json(row, 2)?;
    if let (EventKind::Message { body, .. }, Some(text)) =
        (&mut kind, row.get::<_, Option<String>>(3).ok()?)
    {
        *body = text;
    }
    Some(Event { n: uint(row, 0)?, time: Timestamp::from_ms(uint(row, 1)?), kind })
}

/// Which messages of a conversation are wanted.
#[derive(Debug, Clone)]
pub struct HistoryQuery {
    /// With whom, or where.
    pub target: Target,
    /// The newest so many.
    pub limit: u32,
    /// Only with this text in them.
    pub search: Option<String>,
    /// Only before this place.
    pub before: Option<HistoryPlace>,
}

/// A page of a history.
#[derive(Debug)]
pub struct HistoryRead {
    /// Oldest first.
    pub messages: Vec<(HistoryPlace, HistoryMessage)>,
    /// Whether older ones were asked for that did not fit.
    pub cut: bool,
}

/// The newest messages of all conversations with the target, oldest first: fewer than asked for where
/// their texts would not fit a line. `None`: nobody and no room of this name is known.
pub(super) fn history(
    connection: &Connection,
    query: &HistoryQuery,
) -> Result<Option<HistoryRead>, StoreError> {
    let profile = connection
        .prepare_cached("SELECT json FROM profile")
        .and_then(|mut s| s.query_row([], |row| Ok(json::<Profile>(row, 0))).optional())
        .map_err(StoreError::from_sqlite)?
        .flatten();
    let conversations = conversations(connection, &query.target)?;
    if conversations.is_empty() && !known(connection, &query.target)? {
        return Ok(None);
    }
    let mut found: Vec<(HistoryPlace, HistoryMessage)> = Vec::new();
    let mut cut = None;
    for (number, kind) in &conversations {
        let end = messages(connection, query, *number, kind, profile.as_ref(), &mut found)?;
        cut = cut.max(end);
    }
    found.sort_by_key(|(place, _)| *place);
    // Where one conversation was cut, older ones of the others wait for the next page as well.
    found.retain(|(place, _)| Some(*place) >= cut);
    let surplus = found.len().saturating_sub(query.limit as usize);
    found.drain(..surplus);
    Ok(Some(HistoryRead { messages: found, cut: cut.is_some() && surplus == 0 }))
}

fn conversations(
    connection: &Connection,
    target: &Target,
) -> Result<Vec<(i64, ConversationKind)>, StoreError> {
    let name = match target {
        Target::User(username) => format!("user:{username}"),
        Target::Room(room) => format!("room:{room}"),
    };
    let mut statement = connection
        .prepare_cached("SELECT number, json FROM conversation WHERE name = ?1 ORDER BY number")
        .map_err(StoreError::from_sqlite)?;
    let mut rows = statement.query([name]).map_err(StoreError::from_sqlite)?;
    let mut all = Vec::new();
    while let Some(row) = rows.next().map_err(StoreError::from_sqlite)? {
        let kind = json(row, 1).ok_or(StoreError::Row { table: "conversation" })?;
        debug_assert!(!conversation_name(&kind).is_empty());
        all.push((row.get(0).map_err(StoreError::from_sqlite)?, kind));
    }
    Ok(all)
}

fn known(connection: &Connection, target: &Target) -> Result<bool, StoreError> {
    let Target::User(username) = target else { return Ok(false) };
    connection
        .prepare_cached("SELECT 1 FROM contact WHERE username = ?1")
        .and_then(|mut s| s.exists([username.as_str()]))
        .map_err(StoreError::from_sqlite)
}

fn messages(
    connection: &Connection,
    query: &HistoryQuery,
    number: i64,
    kind: &ConversationKind,
    profile: Option<&Profile>,
    found: &mut Vec<(HistoryPlace, HistoryMessage)>,
) -> Result<Option<HistoryPlace>, StoreError> {
    let mut statement = connection
        .prepare_cached(
            "SELECT e.shown, e.recorded_ms, e.header, e.text, o.state, v.json, s.author, s.id, e.seq \
             FROM entry e JOIN stream s ON s.number = e.stream \
             LEFT JOIN outgoing o ON o.conversation = e.conversation AND o.stream = s.id AND o.seq = e.seq \
             LEFT JOIN event v ON v.n = e.shown \
             WHERE e.conversation = ?1 AND e.text IS NOT NULL \
             AND (e.shown IS NOT NULL OR o.id IS NOT NULL) \
             AND (?2 IS NULL OR instr(e.text, ?2) > 0) \
             AND (?4 IS NULL OR (e.lamport, s.author, s.id, e.seq) < (?4, ?5, ?6, ?7)) \
             ORDER BY e.lamport DESC, s.author DESC, s.id DESC, e.seq DESC LIMIT ?3",
        )
        .map_err(StoreError::from_sqlite)?;
    let before = query.before.as_ref();
    let key = params![
        number,
        query.search,
        i64::from(query.limit),
        before.map(|place| int(place.lamport)),
        before.map(|place| place.author.as_bytes()),
        before.map(|place| place.stream.0.as_bytes()),
        before.map(|place| int(place.seq)),
    ];
    let mut rows = statement.query(key).map_err(StoreError::from_sqlite)?;
    let mut bytes = 0;
    let mut last = None;
    while let Some(row) = rows.next().map_err(StoreError::from_sqlite)? {
        let (place, message) =
            message(row, kind, profile).ok_or(StoreError::Row { table: "entry" })?;
        bytes += message.body.len();
        if bytes > LINE_BYTES_MAX {
            return Ok(last);
        }
        last = Some(place);
        found.push((place, message));
    }
    Ok(None)
}

fn message(
    row: &Row<'_>,
    kind: &ConversationKind,
    profile: Option<&Profile>,
) -> Option<(HistoryPlace, HistoryMessage)> {
    let header: Header = postcard::from_bytes(row.get_ref(2).ok()?.as_blob().ok()?).ok()?;
    let shown_from = match row.get_ref(5).ok()?.as_str_or_null().ok()? {
        Some(_) => match json::<EventKind>(row, 5)? {
            EventKind::Message { from, .. } => Some(from),
            _ => return None,
        },
        None => None,
    };
    let from: Username = match shown_from {
        Some(from) => from,
        None => profile.map_or_else(deleted_account, |profile| profile.username.clone()),
    };
    let room = match kind {
        ConversationKind::Direct { .. } => None,
        ConversationKind::Room { name, .. } => Some(name.clone()),
    };
    let state = match row.get_ref(4).ok()?.as_str_or_null().ok()? {
        Some(_) => Some(json(row, 4)?),
        None => None,
    };
    let Header { lamport, stream, seq, .. } = header;
    let place = HistoryPlace { lamport, author: key(row, 6)?, stream, seq };
    let message = HistoryMessage {
        n: row.get::<_, Option<i64>>(0).ok()?.map(i64::cast_unsigned),
        time: Timestamp::from_ms(uint(row, 1)?),
        kind: "message".to_owned(),
        from,
        room,
        id: header.id,
        body: text(row, 3)?,
        sent: Timestamp::from_ms(header.wall_ms),
        state,
    };
    Some((place, message))
}

/// Stands for ourselves once our account was deleted.
fn deleted_account() -> Username {
    "deleted".parse().expect("a plain name")
}
