//! Chats: `chat`, `accept`, `reject`, `end`, `requests`, and how the book's steps are carried out.

use peerd_proto::{
    control::{
        Accept, Chat, ChatAnswer, ChatState, End, EventKind, PolicyName, Reject, RequestAnswer,
        RequestsAnswer, Timestamp,
    },
    wire::{ChatFrame, ChatId, Frame},
};
use registryd_proto::{Code, PresenceState, Username};

use super::{Outcome, Round, Step, Waits, usage};
use crate::core::{
    Answer, CommandFailure, Core,
    chat::{self, ChatRefusal, RESERVE_MS, RING_MS},
    durable::Write,
};

/// How long a request rings that does not say.
const RING_DEFAULT_MS: u32 = 60_000;
/// A peer that has no link after this long is offline, for a chat.
const REACH_MS: u64 = 5_000;

impl Core {
    pub(super) fn chat(&mut self, params: Chat, round: Round) -> Outcome {
        let ring_ms = params.ring_ms.unwrap_or(RING_DEFAULT_MS);
        if !RING_MS.contains(&ring_ms) {
            return Err(usage("a request rings for 1 second to 1 hour"));
        }
        let peer = params.username.clone();
        let Some(contact) = self.resolve(&peer, &round)? else {
            return Ok(Step::Wait(Waits::User(peer, params.into()), u64::from(ring_ms)));
        };
        self.require_trust(&contact)?;
        if contact.policy == Some(PolicyName::Block) {
            return Err(blocked(&peer));
        }
        let id = ChatId(self.draw_uuid());
        let steps = match self.chats.ask(&peer, id, ring_ms, self.now) {
            Ok(steps) => steps,
            Err(_) => return Err(self.no_slot()),
        };
        self.allow_implicitly(&peer);
        let answered = steps.contains(&chat::Step::Answer(ChatState::Active));
        self.carry_out(&peer, steps);
        if answered {
            return Ok(done(peer, ChatState::Active));
        }
        let linked = self.link_to(&peer).is_some();
        if !linked {
            self.dial_now(&peer);
            if self.session.is_online() {
                self.ask_user(&peer);
            }
        }
        let reach_ms = (!linked).then(|| self.now.mono_ms + REACH_MS);
        // A little longer than the ring, so that the ring's own end answers.
        Ok(Step::Wait(Waits::Chat { peer, reach_ms }, u64::from(ring_ms) + 1_000))
    }

    pub(super) fn accept(&mut self, params: Accept) -> Outcome {
        self.require_session()?;
        let peer = params.username;
        let steps = match self.chats.accept(&peer, self.now) {
            Ok(steps) => steps,
            Err(ChatRefusal::NoSlot) => return Err(self.no_slot()),
            Err(ChatRefusal::NoRequest) => {
                if self.requests.contains_key(&peer) {
                    self.set_policy(&peer, PolicyName::Allow);
                    self.forget_request(&peer);
                    return Ok(done(peer, ChatState::Allowed));
                }
                return Err(no_request(&peer));
            }
        };
        self.set_policy(&peer, PolicyName::Allow);
        self.forget_request(&peer);
        let answered = steps.contains(&chat::Step::Answer(ChatState::Active));
        self.carry_out(&peer, steps);
        if answered {
            return Ok(done(peer, ChatState::Active));
        }
        self.dial_now(&peer);
        Ok(Step::Wait(Waits::Chat { peer, reach_ms: None }, RESERVE_MS + 1_000))
    }

    pub(super) fn reject(&mut self, params: Reject) -> Outcome {
        self.require_session()?;
        let peer = params.username;
        let request = self.requests.get(&peer).cloned();
        let rang = self.chats.reject(&peer);
        if request.is_none() && rang.is_err() {
            return Err(no_request(&peer));
        }
        if let Ok(steps) = rang {
            self.carry_out(&peer, steps);
        }
        self.forget_request(&peer);
        if let (Some(link), Some(through)) = (self.link_to(&peer), request.and_then(|r| r.through))
        {
            self.send(link, Frame::Decline { through });
        }
        Ok(done(peer, ChatState::Rejected))
    }

    pub(super) fn end(&mut self, params: End) -> Outcome {
        let peer = params.username;
        match self.chats.end(&peer) {
            Ok(steps) => {
                self.carry_out(&peer, steps);
                Ok(done(peer, ChatState::Ended))
            }
            Err(_) => {
                let message = format!("there is no chat with {peer}");
                Err(CommandFailure::new(Code::NotFound, message))
            }
        }
    }

    pub(super) fn requests(&self) -> Answer {
        let mut rows: Vec<_> = self.requests.values().collect();
        rows.sort_by_key(|r| r.since_ms);
        let answer = |row: &&crate::core::durable::RequestRow| RequestAnswer {
            from: row.from.clone(),
            since: Timestamp::from_ms(row.since_ms),
            messages_waiting: row.messages_waiting,
            chat: row.chat.is_some(),
        };
        let requests = rows.iter().map(answer).collect();
        Answer::Requests(RequestsAnswer { requests })
    }

    fn no_slot(&self) -> CommandFailure {
        let with: Vec<&str> = self.chats.occupants().map(Username::as_str).collect();
        let with = with.join(", ");
        CommandFailure::new(Code::Busy, format!("you are in a chat with {with}"))
            .hint(format!("p2pctl end {with}"))
    }

    /// Carries out what the book says.
    pub(in crate::core) fn carry_out(&mut self, peer: &Username, steps: Vec<chat::Step>) {
        for step in steps {
            match step {
                chat::Step::Send(frame) => {
                    if let Some(link) = self.link_to(peer) {
                        self.send(link, Frame::Chat(frame));
                    }
                }
                chat::Step::Row(row) => self.out.writes.push(Write::Chat(row)),
                chat::Step::Event(kind) => self.event(kind),
                chat::Step::Answer(state) => self.answer_chat(peer, state),
                chat::Step::Ring(id) => self.ring(peer, id),
                chat::Step::Unring => self.unring(peer),
            }
        }
        self.dirty = true;
    }

    fn ring(&mut self, peer: &Username, id: ChatId) {
        let held = self.requests.get(peer).cloned();
        let mut row = held.unwrap_or_else(|| self.new_request(peer));
        row.chat = Some(id);
        let (from, chat, messages_waiting) = (peer.clone(), Some(id), row.messages_waiting);
        self.event(EventKind::ChatRequest { from, chat, messages_waiting });
        self.put_request(row);
    }

    fn unring(&mut self, peer: &Username) {
        let Some(mut row) = self.requests.get(peer).cloned() else { return };
        row.chat = None;
        match row.messages_waiting {
            0 => self.forget_request(peer),
            _ => self.put_request(row),
        }
    }

    /// Rings of an earlier run: whoever still waits asks again.
    pub(in crate::core) fn forget_rings(&mut self) {
        let names: Vec<Username> =
            self.requests.values().filter(|r| r.chat.is_some()).map(|r| r.from.clone()).collect();
        for name in names {
            self.unring(&name);
        }
    }

    /// Tells the commands that wait for a chat with a peer where it stands.
    fn answer_chat(&mut self, peer: &Username, state: ChatState) {
        let of = |w: &Waits| matches!(w, Waits::Chat { peer: name, .. } if name == peer);
        for id in self.commands.ids(of) {
            let answer = ChatAnswer { peer: peer.clone(), state };
            self.answer(id, Ok(Answer::Chat(answer)));
        }
    }

    pub(in crate::core) fn take_chat(&mut self, peer: &Username, frame: ChatFrame) {
        let Some(key) = self.contacts.get(peer).map(|c| c.peer_key) else { return };
        if self.contacts.policy(peer) == PolicyName::Block {
            if let (ChatFrame::Request { chat, .. }, Some(link)) = (frame, self.link_to(peer)) {
                self.send(link, Frame::Chat(ChatFrame::Reject { chat }));
            }
            return;
        }
        if let ChatFrame::Request { chat, .. } = frame
            && !self.may_cause_event(peer)
        {
            if let Some(link) = self.link_to(peer) {
                self.send(link, Frame::Chat(ChatFrame::Reject { chat }));
            }
            return;
        }
        let lower = self.keys.peer.public() < key;
        let steps = self.chats.on_frame(peer, lower, frame, self.now);
        self.carry_out(peer, steps);
    }

    pub(in crate::core) fn tick_chats(&mut self) {
        for (peer, steps) in self.chats.tick(self.now) {
            self.carry_out(&peer, steps);
        }
    }

    pub(in crate::core) fn end_all_chats(&mut self) {
        for (peer, steps) in self.chats.end_all() {
            self.carry_out(&peer, steps);
        }
    }

    /// Our request is taken back unless another command still waits for its answer.
    pub(super) fn give_up_chat(&mut self, peer: &Username) {
        let of = |w: &Waits| matches!(w, Waits::Chat { peer: name, .. } if name == peer);
        if self.commands.ids(of).is_empty() {
            let steps = self.chats.withdraw(peer, ChatState::Ended);
            self.carry_out(peer, steps);
        }
    }

    /// Peers that could not be reached in time are offline, for a chat.
    pub(super) fn check_reach(&mut self) {
        let now_ms = self.now.mono_ms;
        let late = |w: &Waits| matches!(w, Waits::Chat { reach_ms: Some(at), .. } if *at <= now_ms);
        for id in self.commands.ids(late) {
            let Some(open) = self.commands.open.get_mut(&id) else { continue };
            let Waits::Chat { peer, reach_ms } = &mut open.waits else { continue };
            *reach_ms = None;
            let peer = peer.clone();
            if self.link_to(&peer).is_none() {
                self.chat_unreachable(&peer);
            }
        }
    }

    /// The registry says that a peer is offline: who asked it for a chat need not wait.
    pub(in crate::core) fn chat_presence(&mut self, peer: &Username, presence: PresenceState) {
        let waits =
            |w: &Waits| matches!(w, Waits::Chat { peer: p, reach_ms: Some(_) } if p == peer);
        let waits = !self.commands.ids(waits).is_empty();
        if waits && presence == PresenceState::Offline && self.link_to(peer).is_none() {
            self.chat_unreachable(peer);
        }
    }

    fn chat_unreachable(&mut self, peer: &Username) {
        let of = |w: &Waits| matches!(w, Waits::Chat { peer: name, .. } if name == peer);
        for id in self.commands.ids(of) {
            let message = format!("{peer} is offline");
            let failure = CommandFailure::new(Code::PeerOffline, message)
                .hint(format!("p2pctl wait peer {peer}"));
            self.answer(id, Err(failure));
        }
        self.give_up_chat(peer);
    }
}

fn done(peer: Username, state: ChatState) -> Step {
    Step::Done(Answer::Chat(ChatAnswer { peer, state }))
}

fn no_request(peer: &Username) -> CommandFailure {
    CommandFailure::new(Code::NotFound, format!("{peer} asks for nothing")).hint("p2pctl requests")
}

/// The user's own policy stands in the way.
pub(super) fn blocked(peer: &Username) -> CommandFailure {
    CommandFailure::new(Code::Blocked, format!("you have blocked {peer}"))
        .hint(format!("p2pctl policy {peer} allow"))
}
