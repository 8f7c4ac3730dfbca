//! Commands of local clients: one verb, one function of the same name.
//!
//! Invariant: every command gets exactly one reply: an open command is in [`Commands`] until it has got it,
//! and each has a deadline. The only exception is one whose client is gone.

mod account;
mod chat;
mod contact;
mod outbox;
mod recall;
mod room;
mod search;
mod send;
mod wait;

use std::collections::BTreeMap;

use peerd_proto::{
    control::{Command, WaitFor},
    wire::{ConversationId, MessageId},
};
use registryd_proto::{Code, Username};

use super::{Answer, CommandFailure, CommandId, Core, Effect, Recalled};
pub(super) use account::LoginAttempt;
use recall::Asked;

/// How long a command may take that does not say so itself.
const DEADLINE_MS: u64 = 30_000;
/// The most open commands.
const OPEN_MAX: usize = 1024;

/// What an open command waits for.
#[derive(Debug)]
enum Waits {
    /// The key of the registry that it names; then it is done from its beginning.
    Key(Command),
    /// A user whom we do not know; then likewise.
    User(Username, Command),
    /// The messages before it are moved to a new key first; then it is done from its beginning.
    Moves(Username, Command),
    /// What the store knows of its message id, or sends before it that wait so; then likewise.
    Recall(ConversationId, Asked, Command),
    /// A reply of the registry.
    Reply,
    /// The answer of a chat request, or its confirmation. `reach_ms`: no link by then is `peer_offline`.
    Chat { peer: Username, reach_ms: Option<u64> },
    /// Delivery.
    Sent { conversation: ConversationId, id: MessageId },
    /// A condition.
    Come(WaitFor),
}

#[derive(Debug)]
struct Open {
    until_ms: u64,
    waits: Waits,
}

/// The open commands.
#[derive(Debug, Default)]
pub(super) struct Commands {
    open: BTreeMap<CommandId, Open>,
}

/// What was found out for a command before it is done again.
#[derive(Debug, Default)]
struct Round {
    /// Its registry's key was learned by this call.
    newly_pinned: bool,
    /// The user was looked up.
    looked_up: bool,
    /// No send before it waits for the store; what that knows of its message id, if it was asked.
    turn: Option<Option<Recalled>>,
}

/// What a verb comes to at once.
enum Step {
    Done(Answer),
    /// Open, with what it waits for and how long.
    Wait(Waits, u64),
    /// It has opened or answered itself.
    Taken,
}

type Outcome = Result<Step, CommandFailure>;

impl Commands {
    pub(super) fn next_wake(&self) -> Option<u64> {
        self.open
            .values()
            .map(|open| match open.waits {
                Waits::Chat { reach_ms: Some(reach_ms), .. } => open.until_ms.min(reach_ms),
                _ => open.until_ms,
            })
            .min()
    }

    /// A waiting message goes on under the same id in another conversation.
    pub(super) fn message_moved_to(
        &mut self,
        old: &ConversationId,
        message: &MessageId,
        new: ConversationId,
    ) {
        for open in self.open.values_mut() {
            match &mut open.waits {
                Waits::Sent { conversation, id } if conversation == old && id == message => {
                    *conversation = new;
                }
                _ => {}
            }
        }
    }

    /// Users whose coming a command waits for.
    pub(super) fn waits_for_peers(&self) -> Vec<Username> {
        let peer = |open: &Open| match &open.waits {
            Waits::Come(WaitFor::Peer { username }) => Some(username.clone()),
            _ => None,
        };
        self.open.values().filter_map(peer).collect()
    }

    fn ids(&self, of: impl Fn(&Waits) -> bool) -> Vec<CommandId> {
        self.open.iter().filter(|(_, open)| of(&open.waits)).map(|(id, _)| *id).collect()
    }
}

impl Core {
    pub(super) fn on_command(&mut self, id: CommandId, command: Command) {
        if self.stopping {
            return self.reply(id, Err(CommandFailure::new(Code::PeerdNotRunning, "peerd stops")));
        }
        if self.commands.open.len() >= OPEN_MAX {
            let failure = CommandFailure::new(Code::RateLimited, "too many commands are open");
            return self.reply(id, Err(failure));
        }
        self.perform(id, command, Round::default(), None);
    }

    /// Does a command as far as it goes now. `until_ms` is the deadline that it has already.
    fn perform(&mut self, id: CommandId, command: Command, round: Round, until_ms: Option<u64>) {
        match self.dispatch(id, command, round) {
            Ok(Step::Done(answer)) => self.reply(id, Ok(answer)),
            Err(failure) => self.reply(id, Err(failure)),
            Ok(Step::Taken) => {}
            Ok(Step::Wait(waits, within_ms)) => {
                let until_ms = until_ms.unwrap_or(self.now.mono_ms.saturating_add(within_ms));
                self.commands.open.insert(id, Open { until_ms, waits });
                self.dirty = true;
            }
        }
    }

    fn dispatch(&mut self, id: CommandId, command: Command, round: Round) -> Outcome {
        match command {
            Command::CreateAccount(params) => self.create_account(id, params, round),
            Command::Login(params) => self.login(id, params, round),
            Command::Logout(_) => self.logout(id),
            Command::Passwd(params) => self.passwd(id, params),
            Command::DeleteAccount(params) => self.delete_account(id, params),
            Command::Search(params) => self.search(id, params),
            Command::Chat(params) => self.chat(params, round),
            Command::Accept(params) => self.accept(params),
            Command::Reject(params) => self.reject(params),
            Command::End(params) => self.end(params),
            Command::Requests(_) => Ok(Step::Done(self.requests())),
            Command::Send(params) => self.send_message(params, round),
            Command::CreateRoom(params) => self.create_room(id, params),
            Command::JoinRoom(params) => self.join_room(id, params),
            Command::LeaveRoom(params) => self.leave_room_command(id, params),
            Command::Rooms(_) => Ok(Step::Done(self.rooms_command())),
            Command::Members(params) => self.members(&params).map(Step::Done),
            Command::Invite(params) => self.invite(id, params),
            Command::Kick(params) => self.kick(id, params),
            Command::SetRole(params) => self.set_role(id, params),
            Command::DeleteRoom(params) => self.delete_room(id, params),
            Command::Status(_) => Ok(Step::Done(Answer::Status(Box::new(self.status())))),
            Command::Wait(params) => self.wait(params, round),
            Command::Contacts(_) => Ok(Step::Done(self.contacts_command())),
            Command::Policy(params) => self.policy(params, round),
            Command::Verify(params) => self.verify(params, round),
            Command::Trust(params) => self.trust(params),
            Command::Outbox(_) => Ok(Step::Done(self.outbox())),
            Command::OutboxCancel(params) => self.outbox_cancel(params),
            Command::OutboxRetry(_) => self.outbox_retry(),
            Command::Listen(_) | Command::Ack(_) | Command::History(_) | Command::Version(_) => {
                Err(CommandFailure::new(Code::Usage, "this verb is answered by the socket's task"))
            }
        }
    }

    /// The answer to a command that only looks at what is here; `None` for any other.
    pub fn look(&self, command: &Command) -> Option<Result<Answer, CommandFailure>> {
        match command {
            Command::Status(_) => Some(Ok(Answer::Status(Box::new(self.status())))),
            Command::Requests(_) => Some(Ok(self.requests())),
            Command::Rooms(_) => Some(Ok(self.rooms_command())),
            Command::Members(params) => Some(self.members(params)),
            Command::Contacts(_) => Some(Ok(self.contacts_command())),
            Command::Outbox(_) => Some(Ok(self.outbox())),
            _ => None,
        }
    }

    pub(super) fn reply(&mut self, id: CommandId, result: Result<Answer, CommandFailure>) {
        self.out.effects.push(Effect::Reply { id, result });
    }

    /// Answers an open command; nothing if it has got its answer or its client is gone.
    fn answer(&mut self, id: CommandId, result: Result<Answer, CommandFailure>) {
        if self.commands.open.remove(&id).is_some() {
            self.reply(id, result);
        }
    }

    pub(super) fn on_abandoned(&mut self, id: CommandId) {
        let Some(open) = self.commands.open.remove(&id) else { return };
        match open.waits {
            Waits::Chat { peer, .. } => self.give_up_chat(&peer),
            Waits::Recall(conversation, ..) => self.go_on_sending(&conversation),
            _ => {}
        }
    }

    pub(super) fn refuse_all(&mut self, failure: &CommandFailure) {
        for id in std::mem::take(&mut self.commands.open).into_keys() {
            self.reply(id, Err(failure.clone()));
        }
    }

    /// Answers what time has decided, and what waits for something that has come.
    pub(super) fn tick_commands(&mut self) {
        let now_ms = self.now.mono_ms;
        if self.commands.next_wake().is_some_and(|at| at <= now_ms) {
            let late = |open: &Open| open.until_ms <= now_ms;
            let ids: Vec<CommandId> =
                self.commands.open.iter().filter(|(_, o)| late(o)).map(|(id, _)| *id).collect();
            for id in ids {
                // The end of one may have let another go on.
                if self.commands.open.get(&id).is_some_and(late) {
                    self.ran_out(id);
                }
            }
            self.check_reach();
        }
        if std::mem::take(&mut self.dirty) {
            self.check_waits();
        }
    }

    fn ran_out(&mut self, id: CommandId) {
        let Some(open) = self.commands.open.remove(&id) else { return };
        let timed_out = |message: &str| CommandFailure::new(Code::TimedOut, message);
        let result = match open.waits {
            Waits::Key(_) | Waits::User(..) | Waits::Reply => {
                if self.login.as_ref().is_some_and(|l| l.command() == id) {
                    self.login = None;
                    self.doubt_session();
                    self.undo_bind();
                }
                Err(CommandFailure::new(
                    Code::RegistryUnreachable,
                    "the registry did not answer in time",
                ))
            }
            Waits::Moves(..) => Err(timed_out("the messages before it are not moved yet")),
            Waits::Chat { peer, .. } => {
                self.give_up_chat(&peer);
                Err(timed_out("nobody answered in time"))
            }
            Waits::Recall(conversation, ..) => {
                // No time-out of a message: that would say that it is queued.
                let message = "the disk did not answer in time; nothing was sent";
                self.reply(id, Err(CommandFailure::new(Code::RateLimited, message)));
                return self.go_on_sending(&conversation);
            }
            Waits::Sent { conversation, id } => Err(self.still_queued(&conversation, &id)),
            Waits::Come(_) => Err(timed_out("it did not come true in time")),
        };
        self.reply(id, result);
    }
}

/// A failure for what breaks a limit of a verb.
fn usage(message: &str) -> CommandFailure {
    CommandFailure::new(Code::Usage, message)
}
