//! One `Write` as statements, within the writer's transaction.
//!
//! Invariant: events go last in a batch, so that the event of a message finds the entry that holds its
//! text. A batch names each row once but for heads of streams, which are written once at its end.

use std::collections::HashMap;

use peerd_proto::{
    control::{Event, EventKind},
    wire::{Content, ConversationId, Exception, StreamId, VerifiedEntry},
};
use registryd_proto::{Digest, PublicKey};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::Serialize;

use super::error::StoreError;
use crate::core::durable::{Acked, Conversation, ConversationKind, Outgoing, Write};

/// Empties every table but those of events and their readers, and the id of the event log.
const FORGET: [&str; 14] = [
    "DELETE FROM profile",
    "DELETE FROM contact",
    "DELETE FROM conversation",
    "DELETE FROM stream",
    "DELETE FROM entry",
    "DELETE FROM outgoing",
    "DELETE FROM acked",
    "DELETE FROM exception",
    "DELETE FROM fork",
    "DELETE FROM chat",
    "DELETE FROM request",
    "DELETE FROM room",
    "DELETE FROM membership",
    "DELETE FROM setting WHERE name = 'default_policy'",
];

/// Numbers of rows known from before, so that an entry costs no look-up.
#[derive(Debug, Default)]
pub(super) struct Memory {
    conversations: HashMap<ConversationId, i64>,
    streams: HashMap<(i64, PublicKey, StreamId), i64>,
    heads: HashMap<i64, Head>,
    shown: HashMap<u64, i64>,
}

#[derive(Debug)]
struct Head {
    seq: u64,
    hash: Digest,
    lamport: u64,
}

/// SQLite's integers are signed. Above 2^63 only a Lamport time of a hostile author can be; its header
/// has the exact one.
pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// JSON of our own types, which hold nothing that JSON cannot.
pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("durable types are plain JSON")
}

/// The text by which a conversation is found.
pub(super) fn conversation_name(kind: &ConversationKind) -> String {
    match kind {
        ConversationKind::Direct { username, .. } => format!("user:{username}"),
        ConversationKind::Room { name, .. } => format!("room:{name}"),
    }
}

/// Applies the writes of a batch, in order. An error leaves `memory` wrong: roll back, and forget it.
pub(super) fn apply(
    connection: &Connection,
    memory: &mut Memory,
    writes: &[Write],
) -> Result<(), StoreError> {
    let mut events = Vec::new();
    let mut applier = Applier { connection, memory };
    for write in writes {
        match write {
            Write::Event(event) => events.push(event),
            Write::ForgetProfile => {
                applier.finish(&mut events).map_err(StoreError::from_sqlite)?;
                applier.forget().map_err(StoreError::from_sqlite)?;
            }
            other => applier.write(other).map_err(StoreError::from_sqlite)?,
        }
    }
    applier.finish(&mut events).map_err(StoreError::from_sqlite)
}

struct Applier<'a> {
    connection: &'a Connection,
    memory: &'a mut Memory,
}

impl Applier<'_> {
    fn run(&self, sql: &str, params: impl rusqlite::Params) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute(params)?;
        Ok(())
    }

    fn write(&mut self, write: &Write) -> rusqlite::Result<()> {
        match write {
            Write::Profile(row) => {
                self.run("INSERT OR REPLACE INTO profile (one, json) VALUES (1, ?1)", [json(row)])
            }
            Write::ForgetProfile => self.forget(),
            Write::Contact(row) => self.run(
                "INSERT OR REPLACE INTO contact (username, json) VALUES (?1, ?2)",
                params![row.username.as_str(), json(row)],
            ),
            Write::DefaultPolicy(policy) => self.run(
                "INSERT OR REPLACE INTO setting (name, json) VALUES ('default_policy', ?1)",
                [json(policy)],
            ),
            Write::Conversation(row) => self.conversation(row),
            Write::Entry { entry, recorded_ms, shown } => self.entry(entry, *recorded_ms, *shown),
            Write::DropBody { conversation, author, stream, seq, void } => {
                let conversation = self.conversation_number(conversation)?;
                self.run(
                    "UPDATE entry SET salt = NULL, text = NULL, void = ?5 WHERE seq = ?4 AND stream = (\
                     SELECT number FROM stream WHERE conversation = ?1 AND author = ?2 AND id = ?3)",
                    params![
                        conversation,
                        author.as_bytes(),
                        stream.0.as_bytes(),
                        int(*seq),
                        void.map(|signature| *signature.as_bytes())
                    ],
                )
            }
            Write::Outgoing(row) => self.outgoing(row),
            Write::Acked(row) => self.acked(row),
            Write::Exception { conversation, holder, exception } => {
                self.exception(conversation, holder, exception)
            }
            Write::Fork { a, b } => self.run(
                "INSERT OR REPLACE INTO fork (a_header, a_signature, b_header, b_signature) \
                 VALUES (?1, ?2, ?3, ?4)",
                params![
                    a.entry().header.as_ref(),
                    a.entry().signature.as_bytes(),
                    b.entry().header.as_ref(),
                    b.entry().signature.as_bytes()
                ],
            ),
            Write::Chat(row) => self.run(
                "INSERT OR REPLACE INTO chat (peer, json) VALUES (?1, ?2)",
                params![row.peer.as_str(), json(row)],
            ),
            Write::Request(row) => self.run(
                "INSERT OR REPLACE INTO request (username, json) VALUES (?1, ?2)",
                params![row.from.as_str(), json(row)],
            ),
            Write::ForgetRequest(username) => {
                self.run("DELETE FROM request WHERE username = ?1", [username.as_str()])
            }
            Write::Room(row) => self.run(
                "INSERT OR REPLACE INTO room (id, json) VALUES (?1, ?2)",
                params![row.id.0.0, json(row)],
            ),
            Write::Membership { room, epoch, record } => self.run(
                "INSERT OR REPLACE INTO membership (room, epoch, json) VALUES (?1, ?2, ?3)",
                params![room.0.0, int(*epoch), json(record)],
            ),
            Write::Event(event) => self.event(event),
        }
    }

    /// Ends a batch, or the part of it before a `ForgetProfile`: its events, then its heads.
    fn finish(&mut self, events: &mut Vec<&Event>) -> rusqlite::Result<()> {
        for event in events.drain(..) {
            self.event(event)?;
        }
        self.heads()
    }

    /// Deletes all that belonged to the account. The events stay, so those of messages take over the texts.
    fn forget(&mut self) -> rusqlite::Result<()> {
        self.run(
            "UPDATE event SET entry = NULL, json = json_set(json, '$.body', \
             coalesce((SELECT e.text FROM entry e WHERE e.number = event.entry), '')) \
             WHERE entry IS NOT NULL",
            [],
        )?;
        for sql in FORGET {
            self.run(sql, [])?;
        }
        *self.memory = Memory::default();
        Ok(())
    }

    fn conversation(&mut self, row: &Conversation) -> rusqlite::Result<()> {
        let number = self.conversation_number(&row.id)?;
        self.run(
            "UPDATE conversation SET name = ?2, json = ?3 WHERE number = ?1",
            params![number, conversation_name(&row.kind), json(&row.kind)],
        )
    }

    fn conversation_number(&mut self, id: &ConversationId) -> rusqlite::Result<i64> {
        if let Some(number) = self.memory.conversations.get(id) {
            return Ok(*number);
        }
        let found = self
            .connection
            .prepare_cached("SELECT number FROM conversation WHERE id = ?1")?
            .query_row([id.0.0], |row| row.get(0))
            .optional()?;
        let number = match found {
            Some(number) => number,
            None => {
                self.run(
                    "INSERT INTO conversation (id, name, json) VALUES (?1, '', '')",
                    [id.0.0],
                )?;
                self.connection.last_insert_rowid()
            }
        };
        self.memory.conversations.insert(*id, number);
        Ok(number)
    }

    fn stream_number(&mut self, conversation: i64, entry: &VerifiedEntry) -> rusqlite::Result<i64> {
        let header = entry.header();
        let key = (conversation, header.author, header.stream);
        if let Some(number) = self.memory.streams.get(&key) {
            return Ok(*number);
        }
        let (author, stream) = (header.author.as_bytes(), header.stream.0.as_bytes());
        let found = self
            .connection
            .prepare_cached(
                "SELECT number FROM stream WHERE conversation = ?1 AND author = ?2 AND id = ?3",
            )?
            .query_row(params![conversation, author, stream], |row| row.get(0))
            .optional()?;
        let number = match found {
            Some(number) => number,
            None => {
                self.run(
                    "INSERT INTO stream (conversation, author, id, seq, hash, lamport) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    params![
                        conversation,
                        author,
                        stream,
                        int(header.seq),
                        entry.hash().0,
                        int(header.lamport)
                    ],
                )?;
                self.connection.last_insert_rowid()
            }
        };
        self.memory.streams.insert(key, number);
        Ok(number)
    }

    fn entry(
        &mut self,
        entry: &VerifiedEntry,
        recorded_ms: u64,
        shown: Option<u64>,
    ) -> rusqlite::Result<()> {
        let header = entry.header();
        let conversation = self.conversation_number(&header.conversation)?;
        let stream = self.stream_number(conversation, entry)?;
        self.run(
            "INSERT INTO entry (stream, seq, conversation, lamport, recorded_ms, shown, id, header, \
             signature, salt, text, void) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            params![
                stream,
                int(header.seq),
                conversation,
                int(header.lamport),
                int(recorded_ms),
                shown.map(int),
                header.id.as_str(),
                entry.entry().header.as_ref(),
                entry.entry().signature.as_bytes(),
                entry.body().map(|body| body.salt),
                entry.body().map(|body| body.text.as_str()),
                match &entry.entry().content {
                    Content::Void(signature) => Some(signature.as_bytes()),
                    Content::Withheld | Content::Body(_) => None,
                }
            ],
        )?;
        if let Some(n) = shown {
            self.memory.shown.insert(n, self.connection.last_insert_rowid());
        }
        let head = Head { seq: header.seq, hash: entry.hash(), lamport: header.lamport };
        self.memory.heads.insert(stream, head);
        Ok(())
    }

    fn outgoing(&mut self, row: &Outgoing) -> rusqlite::Result<()> {
        let conversation = self.conversation_number(&row.conversation)?;
        self.run(
            "INSERT OR REPLACE INTO outgoing (conversation, stream, seq, id, caller_id, text_hash, epoch, \
             state, reason, queued_ms, expires_ms, offered, giving_up) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
            params![
                conversation,
                row.stream.0.as_bytes(),
                int(row.seq),
                row.id.as_str(),
                row.caller_id,
                row.text_hash.0,
                int(row.epoch),
                json(&row.state),
                json(&row.reason),
                int(row.queued_ms),
                row.expires_ms.map(int),
                row.offered,
                json(&row.giving_up)
            ],
        )
    }

    fn acked(&mut self, row: &Acked) -> rusqlite::Result<()> {
        let conversation = self.conversation_number(&row.conversation)?;
        self.run(
            "INSERT OR REPLACE INTO acked (conversation, member, stream, seq) VALUES (?1, ?2, ?3, ?4)",
            params![
                conversation,
                row.member.as_bytes(),
                row.stream.0.as_bytes(),
                int(row.seq)
            ],
        )
    }

    fn exception(
        &mut self,
        conversation: &ConversationId,
        holder: &PublicKey,
        exception: &Exception,
    ) -> rusqlite::Result<()> {
        let conversation = self.conversation_number(conversation)?;
        self.run(
            "INSERT OR REPLACE INTO exception (conversation, holder, author, stream, seq, kind) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                conversation,
                holder.as_bytes(),
                exception.author.as_bytes(),
                exception.stream.0.as_bytes(),
                int(exception.seq),
                json(&exception.kind)
            ],
        )
    }

    fn event(&mut self, event: &Event) -> rusqlite::Result<()> {
        let entry = self.memory.shown.remove(&event.n);
        let kind = match (entry, &event.kind) {
            (Some(_), EventKind::Message { from, room, id, body: _, sent }) => {
                json(&EventKind::Message {
                    from: from.clone(),
                    room: room.clone(),
                    id: id.clone(),
                    body: String::new(),
                    sent: *sent,
                })
            }
            (_, kind) => json(kind),
        };
        self.run(
            "INSERT INTO event (n, time_ms, json, entry) VALUES (?1, ?2, ?3, ?4)",
            params![int(event.n), int(event.time.as_ms()), kind, entry],
        )
    }

    fn heads(&mut self) -> rusqlite::Result<()> {
        self.memory.shown.clear();
        let mut statement = self.connection.prepare_cached(
            "UPDATE stream SET seq = ?2, hash = ?3, lamport = ?4 WHERE number = ?1",
        )?;
        for (number, head) in self.memory.heads.drain() {
            statement.execute(params![number, int(head.seq), head.hash.0, int(head.lamport)])?;
        }
        Ok(())
    }
}
