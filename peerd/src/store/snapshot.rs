//! The durable state as the core takes it at a start.

use std::collections::HashMap;

use bytes::Bytes;
use peerd_proto::wire::{
    Content, ConversationId, Entry, Exception, MessageId, Position, StreamId, VerifiedEntry,
};
use registryd_proto::{Digest, PublicKey, RoomId, Signature};
use rusqlite::{Connection, Row};
use serde::de::DeserializeOwned;

use super::error::StoreError;
use crate::core::durable::{
    Acked, Conversation, Outgoing, SETTLED_READ_MAX, Snapshot, StreamHead, shown_id_hash,
};

/// Our messages, as [`outgoing_row`] reads them.
pub(super) const OUTGOING: &str = "SELECT c.id, o.stream, o.seq, o.id, o.caller_id, o.text_hash, \
    o.epoch, o.state, o.reason, o.queued_ms, o.expires_ms, o.offered, o.giving_up FROM outgoing o \
    JOIN conversation c ON c.number = o.conversation";

/// Reads everything but the entries.
pub(super) fn load(connection: &Connection) -> Result<Snapshot, StoreError> {
    let policies = rows(
        connection,
        "setting",
        "SELECT json FROM setting WHERE name = 'default_policy'",
        |row| json(row, 0),
    )?;
    let heads =
        rows(connection, "event", "SELECT coalesce(max(n), 0) FROM event", |row| uint(row, 0))?;
    let outgoing = outgoing(connection)?;
    Ok(Snapshot {
        profile: rows(connection, "profile", "SELECT json FROM profile", |row| json(row, 0))?.pop(),
        contacts: rows(connection, "contact", "SELECT json FROM contact", |row| json(row, 0))?,
        default_policy: policies.into_iter().next(),
        conversations: rows(
            connection,
            "conversation",
            "SELECT id, json FROM conversation WHERE json <> '' ORDER BY number",
            |row| Some(Conversation { id: conversation(row, 0)?, kind: json(row, 1)? }),
        )?,
        streams: rows(
            connection,
            "stream",
            "SELECT c.id, s.author, s.id, s.seq, s.hash, s.lamport FROM stream s \
             JOIN conversation c ON c.number = s.conversation ORDER BY s.number",
            |row| {
                let position = Position {
                    author: key(row, 1)?,
                    stream: stream(row, 2)?,
                    seq: uint(row, 3)?,
                    hash: Digest(blob(row, 4)?),
                };
                Some(StreamHead {
                    conversation: conversation(row, 0)?,
                    position,
                    lamport: uint(row, 5)?,
                })
            },
        )?,
        forgets_ids: outgoing.len() >= SETTLED_READ_MAX,
        outgoing,
        acked: rows(
            connection,
            "acked",
            "SELECT c.id, a.member, a.stream, a.seq FROM acked a \
             JOIN conversation c ON c.number = a.conversation",
            |row| {
                Some(Acked {
                    conversation: conversation(row, 0)?,
                    member: key(row, 1)?,
                    stream: stream(row, 2)?,
                    seq: uint(row, 3)?,
                })
            },
        )?,
        exceptions: exceptions(connection)?,
        forks: forks(connection)?,
        chats: rows(connection, "chat", "SELECT json FROM chat", |row| json(row, 0))?,
        requests: rows(connection, "request", "SELECT json FROM request", |row| json(row, 0))?,
        rooms: rows(connection, "room", "SELECT json FROM room", |row| json(row, 0))?,
        membership: rows(
            connection,
            "membership",
            "SELECT room, json FROM membership ORDER BY room, epoch",
            |row| Some((RoomId(Digest(blob(row, 0)?)), json(row, 1)?)),
        )?,
        shown_ids: shown_ids(connection)?,
        event_head: heads.into_iter().next().unwrap_or(0),
    })
}

/// What waits, then the newest of what is settled and has an id of its caller's.
fn outgoing(connection: &Connection) -> Result<Vec<Outgoing>, StoreError> {
    let queued = format!(
        "{OUTGOING} WHERE o.state = '\"queued\"' ORDER BY o.queued_ms, o.conversation, o.seq"
    );
    let settled = format!(
        "{OUTGOING} WHERE o.caller_id = 1 AND o.state <> '\"queued\"' \
         ORDER BY o.queued_ms DESC LIMIT {SETTLED_READ_MAX}"
    );
    let mut found = rows(connection, "outgoing", &queued, outgoing_row)?;
    let settled = rows(connection, "outgoing", &settled, outgoing_row)?;
    found.extend(settled.into_iter().rev());
    Ok(found)
}

/// One of [`OUTGOING`].
pub(super) fn outgoing_row(row: &Row<'_>) -> Option<Outgoing> {
    Some(Outgoing {
        conversation: conversation(row, 0)?,
        stream: stream(row, 1)?,
        seq: uint(row, 2)?,
        id: text(row, 3)?.parse().ok()?,
        caller_id: uint(row, 4)? != 0,
        text_hash: Digest(blob(row, 5)?),
        epoch: uint(row, 6)?,
        state: json(row, 7)?,
        reason: json(row, 8)?,
        queued_ms: uint(row, 9)?,
        expires_ms: row.get::<_, Option<i64>>(10).ok()?.map(i64::cast_unsigned),
        offered: uint(row, 11)? != 0,
        giving_up: json(row, 12)?,
    })
}

/// The key of each stream is read once: checking a key costs more than reading its row.
fn shown_ids(connection: &Connection) -> Result<Vec<u128>, StoreError> {
    let owners: HashMap<i64, (ConversationId, PublicKey)> = rows(
        connection,
        "stream",
        "SELECT s.number, c.id, s.author FROM stream s \
         JOIN conversation c ON c.number = s.conversation",
        |row| Some((row.get(0).ok()?, (conversation(row, 1)?, key(row, 2)?))),
    )?
    .into_iter()
    .collect();
    rows(connection, "entry", "SELECT stream, id FROM entry WHERE shown IS NOT NULL", |row| {
        let (conversation, author) = owners.get(&row.get(0).ok()?)?;
        let id: MessageId = text(row, 1)?.parse().ok()?;
        Some(shown_id_hash(conversation, author, &id))
    })
}

fn exceptions(
    connection: &Connection,
) -> Result<Vec<(ConversationId, PublicKey, Exception)>, StoreError> {
    rows(
        connection,
        "exception",
        "SELECT c.id, x.holder, x.author, x.stream, x.seq, x.kind FROM exception x \
         JOIN conversation c ON c.number = x.conversation",
        |row| {
            let exception = Exception {
                author: key(row, 2)?,
                stream: stream(row, 3)?,
                seq: uint(row, 4)?,
                kind: json(row, 5)?,
            };
            Some((conversation(row, 0)?, key(row, 1)?, exception))
        },
    )
}

fn forks(connection: &Connection) -> Result<Vec<(VerifiedEntry, VerifiedEntry)>, StoreError> {
    rows(
        connection,
        "fork",
        "SELECT a_header, a_signature, b_header, b_signature FROM fork ORDER BY number",
        |row| Some((bare_entry(row, 0)?, bare_entry(row, 2)?)),
    )
}

fn bare_entry(row: &Row<'_>, at: usize) -> Option<VerifiedEntry> {
    let header = Bytes::from(row.get::<_, Vec<u8>>(at).ok()?);
    let signature = Signature::from_bytes(blob(row, at + 1)?);
    Entry { header, signature, content: Content::Withheld }.trust().ok()
}

/// All rows of a query. A row that cannot be read is [`StoreError::Row`]: left out, it would be lost.
fn rows<T>(
    connection: &Connection,
    table: &'static str,
    sql: &str,
    read: impl Fn(&Row<'_>) -> Option<T>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = connection.prepare(sql).map_err(StoreError::from_sqlite)?;
    let mut found = statement.query([]).map_err(StoreError::from_sqlite)?;
    let mut all = Vec::new();
    while let Some(row) = found.next().map_err(StoreError::from_sqlite)? {
        all.push(read(row).ok_or(StoreError::Row { table })?);
    }
    Ok(all)
}

pub(super) fn json<T: DeserializeOwned>(row: &Row<'_>, at: usize) -> Option<T> {
    serde_json::from_str(row.get_ref(at).ok()?.as_str().ok()?).ok()
}

pub(super) fn text(row: &Row<'_>, at: usize) -> Option<String> {
    row.get(at).ok()
}

pub(super) fn uint(row: &Row<'_>, at: usize) -> Option<u64> {
    row.get::<_, i64>(at).ok()?.try_into().ok()
}

pub(super) fn blob<const N: usize>(row: &Row<'_>, at: usize) -> Option<[u8; N]> {
    row.get_ref(at).ok()?.as_blob().ok()?.try_into().ok()
}

pub(super) fn key(row: &Row<'_>, at: usize) -> Option<PublicKey> {
    PublicKey::from_bytes(&blob(row, at)?).ok()
}

fn conversation(row: &Row<'_>, at: usize) -> Option<ConversationId> {
    Some(ConversationId(Digest(blob(row, at)?)))
}

pub(super) fn stream(row: &Row<'_>, at: usize) -> Option<StreamId> {
    Some(StreamId(uuid::Uuid::from_bytes(blob(row, at)?)))
}
