//! `send`: one message, and how long its caller waits.

use std::ops::ControlFlow;

use peerd_proto::{
    control::{MessageState, PolicyName, Send, SentAnswer, Target, WaitUntil},
    wire::{BODY_BYTES_MAX, Context, ConversationId, MessageId, Standing},
};
use registryd_proto::{Code, Username};
use serde_json::json;

use super::{DEADLINE_MS, Outcome, Round, Step, Waits, chat::blocked, recall::RECALL_MS, usage};
use crate::core::{
    Answer, CommandFailure, Core, LinkKind, Recalled,
    durable::{Contact, ConversationKind, Kept, Outgoing},
    input::CommandId,
    replica::{AppendError, Draft, Known, Status, text_hash},
};

impl Core {
    pub(super) fn send_message(&mut self, params: Send, round: Round) -> Outcome {
        self.require_session()?;
        if params.body.is_empty() || params.body.len() > BODY_BYTES_MAX {
            return Err(usage("a message has 1 byte to 64 KiB"));
        }
        let within_ms = params.timeout_ms.unwrap_or(DEADLINE_MS);
        let (conversation, context, peer) = match &params.to {
            Target::User(username) => {
                let username = username.clone();
                let Some(contact) = self.resolve(&username, &round)? else {
                    return Ok(Step::Wait(Waits::User(username, params.into()), within_ms));
                };
                self.require_trust(&contact)?;
                if contact.policy == Some(PolicyName::Block) {
                    return Err(blocked(&username));
                }
                self.move_next(&username);
                if self.moves.under_way(&username) {
                    return Ok(Step::Wait(Waits::Moves(username, params.into()), within_ms));
                }
                self.allow_implicitly(&username);
                let id = self.ensure_direct(&username).ok_or_else(no_conversation)?;
                let chat = self.chats.active(&username);
                (id, Context::Direct { chat }, Some(username))
            }
            Target::Room(name) => {
                let room = self.rooms.by_name(name).ok_or_else(|| not_in_room(name.as_str()))?;
                let (id, epoch) = (room.id, room.epoch);
                let id = self.room_conversation(&id).ok_or_else(no_conversation)?;
                (id, Context::Room { epoch }, None)
            }
        };
        let recalled = match self.recall_first(conversation, &params, round) {
            ControlFlow::Continue(recalled) => recalled,
            ControlFlow::Break(asked) => {
                let waits = Waits::Recall(conversation, asked, params.into());
                return Ok(Step::Wait(waits, RECALL_MS));
            }
        };
        let known = match recalled {
            Recalled::New => None,
            Recalled::Kept(kept) => Some(kept),
            Recalled::Failed => {
                let message = "the disk cannot be read; nothing was sent";
                return Err(CommandFailure::new(Code::Internal, message));
            }
        };
        if let Some(kept) = known.filter(|kept| kept.message.state != MessageState::Queued) {
            return self.sent_before(&kept, &params.body).map(Step::Done);
        }
        let wait = params.wait;
        let id = self.queue(conversation, context, params)?;
        if let Some(peer) = peer {
            self.heed_later(&peer);
            self.dial_if_away(&peer);
        }
        let state = self.message_status(&conversation, &id).map(|s| s.state);
        match (wait, state) {
            (WaitUntil::Delivered, Some(MessageState::Queued)) => {
                Ok(Step::Wait(Waits::Sent { conversation, id }, within_ms))
            }
            _ => self.sent(&conversation, &id).map(Step::Done),
        }
    }

    /// All messages before theirs are moved to the new key: the sends that waited for it go on, in order.
    pub(in crate::core) fn resume_sends(&mut self, username: &Username) {
        for id in self.commands.ids(|w| matches!(w, Waits::Moves(to, _) if to == username)) {
            let Some(open) = self.commands.open.remove(&id) else { continue };
            if let Waits::Moves(_, command) = open.waits {
                self.perform(id, command, Round::default(), Some(open.until_ms));
            }
        }
    }

    /// Writes the message unless it is written already under the caller's id.
    fn queue(
        &mut self,
        conversation: ConversationId,
        context: Context,
        params: Send,
    ) -> Result<MessageId, CommandFailure> {
        let hash = text_hash(&params.body);
        let wall_ms = self.now.wall_ms;
        let caller_id = params.id.is_some();
        let id = params.id.unwrap_or_else(|| self.draw_message_id());
        let draft = Draft {
            id: id.clone(),
            caller_id,
            text: params.body,
            context,
            expires_ms: params.expires_ms.map(|ms| wall_ms.saturating_add(ms)),
        };
        let result = self.with_replica(&conversation, |replica, cx| {
            match replica.message_by_id(&id, &hash) {
                Known::Same(_) => Ok(()),
                Known::Conflict => Err(AppendError::IdTaken),
                Known::New => replica.append(cx, draft).map(|_| ()),
            }
        });
        match result.ok_or_else(no_conversation)? {
            Ok(()) => Ok(id),
            Err(AppendError::IdTaken) => Err(id_taken()),
            Err(AppendError::TooLarge) => Err(usage("a message has 1 byte to 64 KiB")),
            Err(AppendError::Full) => {
                let message = "too many messages wait for this destination";
                Err(CommandFailure::new(Code::RateLimited, message))
            }
        }
    }

    /// A UUIDv7 of the time of this input.
    fn draw_message_id(&mut self) -> MessageId {
        let random: [u8; 10] = rand::RngExt::random(&mut self.rng);
        uuid::Builder::from_unix_timestamp_millis(self.now.wall_ms, &random).into_uuid().into()
    }

    /// The names by which a conversation's messages are told.
    pub(super) fn destination(
        &self,
        conversation: &ConversationId,
    ) -> (Option<Username>, Option<registryd_proto::RoomName>) {
        match self.conversations.get(conversation).map(|t| &t.kind) {
            Some(ConversationKind::Direct { username, .. }) => (Some(username.clone()), None),
            Some(ConversationKind::Room { name, .. }) => (None, Some(name.clone())),
            None => (None, None),
        }
    }

    /// What `send` answers for a message as it stands.
    fn sent(
        &self,
        conversation: &ConversationId,
        id: &MessageId,
    ) -> Result<Answer, CommandFailure> {
        self.sent_with(conversation, id, self.message_status(conversation, id))
    }

    /// What `send` answers for a settled message that the store alone knows.
    fn sent_before(&self, kept: &Kept, text: &str) -> Result<Answer, CommandFailure> {
        let message = &kept.message;
        if message.text_hash != text_hash(text) {
            return Err(id_taken());
        }
        let status = self.kept_status(kept);
        self.sent_with(&message.conversation, &message.id, status)
    }

    fn sent_with(
        &self,
        conversation: &ConversationId,
        id: &MessageId,
        status: Option<Status>,
    ) -> Result<Answer, CommandFailure> {
        let (to, room) = self.destination(conversation);
        // A message that settles at once and has no id of the caller's is forgotten by its replica: it had
        // no recipients.
        let (state, delivered, of) =
            status.map_or((MessageState::Delivered, 0, 0), |s| (s.state, s.delivered, s.of));
        match state {
            MessageState::Queued | MessageState::Delivered => {
                let id = id.clone();
                Ok(Answer::Sent(SentAnswer { id, to, room, state, delivered, of }))
            }
            MessageState::Expired | MessageState::Rejected | MessageState::Failed => {
                let reason = status.and_then(|s| s.reason);
                Err(not_delivered(id, state, reason, delivered, of))
            }
        }
    }

    /// A message of ours has settled: tells those who wait for it.
    pub(in crate::core) fn message_settled(&mut self, row: &Outgoing, status: Status) {
        let of = |w: &Waits| matches!(w, Waits::Sent { conversation, id } if *conversation == row.conversation && *id == row.id);
        let waiting = self.commands.ids(of);
        if waiting.is_empty() {
            return;
        }
        let result = self.sent_with(&row.conversation, &row.id, Some(status));
        for waiting in waiting {
            self.answer(waiting, result.clone());
        }
    }

    /// A contact shows another key: who waits for a message to it is told. The message stays queued.
    pub(in crate::core) fn stop_sends_to(&mut self, contact: &Contact) {
        let Err(failure) = self.require_trust(contact) else { return };
        let to = |conversation| self.destination(conversation).0;
        let waiting: Vec<(CommandId, MessageId)> = self
            .commands
            .open
            .iter()
            .filter_map(|(command, open)| match &open.waits {
                Waits::Sent { conversation, id }
                    if to(conversation).as_ref() == Some(&contact.username) =>
                {
                    Some((*command, id.clone()))
                }
                _ => None,
            })
            .collect();
        for (command, id) in waiting {
            let mut failure = failure.clone();
            if let Some(details) = failure.details.as_mut().and_then(|d| d.as_object_mut()) {
                details.insert("id".to_owned(), json!(id));
                details.insert("state".to_owned(), json!(MessageState::Queued));
            }
            self.answer(command, Err(failure));
        }
    }

    /// Time is up for the caller; the message stays queued.
    pub(super) fn still_queued(
        &self,
        conversation: &ConversationId,
        id: &MessageId,
    ) -> CommandFailure {
        let status = self.message_status(conversation, id);
        let (delivered, of) = status.map_or((0, 1), |s| (s.delivered, s.of));
        let asked = self.asks_first(conversation);
        let (code, message) = match (delivered, &asked) {
            (0, Some(who)) => {
                (Code::TimedOut, format!("{who} has not accepted yet; it is still queued"))
            }
            (0, None) => (Code::TimedOut, "not delivered in time; it is still queued".to_owned()),
            _ => (
                Code::Partial,
                format!("delivered to {delivered} of {of}; the rest is still queued"),
            ),
        };
        let failure = CommandFailure::new(code, message).details(json!({
            "id": id, "state": MessageState::Queued, "delivered": delivered, "of": of,
        }));
        match (asked, self.profile.as_ref()) {
            (Some(who), Some(us)) => {
                let us = &us.username;
                failure.hint(format!("it goes out once {who} says: p2pctl accept {us}"))
            }
            _ => failure,
        }
    }

    /// The other one of two, if that one has told us that its user must accept us first.
    fn asks_first(&self, conversation: &ConversationId) -> Option<Username> {
        let talk = self.conversations.get(conversation)?;
        let ConversationKind::Direct { username, peer_key } = &talk.kind else { return None };
        let link = self.links.ready(LinkKind::Peer, peer_key)?;
        let standing = self.links.peer(link)?.standing;
        (standing == Some(Standing::Ask)).then(|| username.clone())
    }
}

fn not_delivered(
    id: &MessageId,
    state: MessageState,
    reason: Option<Code>,
    delivered: u32,
    of: u32,
) -> CommandFailure {
    let (code, message) = match state {
        MessageState::Rejected => (Code::Rejected, "the recipient said no"),
        MessageState::Expired => (Code::TimedOut, "its time ran out before it was delivered"),
        _ => match reason.unwrap_or(Code::Internal) {
            Code::Blocked => (Code::Blocked, "the recipient takes no messages of yours"),
            Code::UntrustedKey => (Code::UntrustedKey, "the recipient's key changed"),
            Code::Conflict => (Code::Conflict, "it was cancelled"),
            code => (code, "it cannot be delivered"),
        },
    };
    let details = json!({ "id": id, "state": state, "delivered": delivered, "of": of });
    CommandFailure::new(code, message).details(details)
}

fn id_taken() -> CommandFailure {
    CommandFailure::new(Code::Conflict, "another message was sent under this id")
}

/// We are in no such room.
pub(super) fn not_in_room(name: &str) -> CommandFailure {
    CommandFailure::new(Code::NotFound, format!("you are in no room {name}"))
        .hint(format!("p2pctl join-room {name}"))
}

fn no_conversation() -> CommandFailure {
    CommandFailure::new(Code::Internal, "there is no conversation for this destination")
}
