//! The book of chats: consent and session in one, as `wire::ChatFrame` specifies it. Pure, and about one
//! peer at a time: each call says what follows as [`Step`]s, and the core carries them out.
//!
//! Invariant: `Active` and `Accepted` take a slot, and there are never more of them than slots.
//! Invariant: a frame counts only if it names the chat that we hold with its sender, in a role in which the
//! sender may say so. So a stranger ends no chat, takes no slot, and makes nobody busy.
//! Trap: `Interrupted` keeps consent but no slot; only a `state` from the other side makes it active again.

mod slots;
mod steps;

use std::collections::BTreeMap;

use peerd_proto::{
    control::{ChatState, EventKind},
    wire::{BusyReason, ChatFrame, ChatId, ChatPhase},
};
use registryd_proto::Username;

#[cfg(any(test, feature = "simulation"))]
use super::planted::Planted;
use super::{Now, durable::ChatRow};
use steps::{begin, deny, finish, interrupt, row, state_frame};

/// How long an accepted request keeps the callee's slot while the caller has not confirmed.
pub(super) const RESERVE_MS: u64 = 10_000;
/// The shortest and the longest time that a request rings.
pub(super) const RING_MS: std::ops::RangeInclusive<u32> = 1_000..=3_600_000;
/// The most requests that ring at once.
const RINGING_MAX: usize = 256;

/// What follows for a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// To the peer, if a link is up.
    Send(ChatFrame),
    /// To be stored.
    Row(ChatRow),
    /// To be told to the user.
    Event(EventKind),
    /// What commands that wait for this chat are told.
    Answer(ChatState),
    /// The request rings here.
    Ring(ChatId),
    /// It rings no more.
    Unring,
}

/// Why a chat cannot begin here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChatRefusal {
    /// All slots are taken.
    NoSlot,
    /// Nobody asks.
    NoRequest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Asking { until_ms: u64, ring_ms: u32 },
    Ringing { until_ms: u64 },
    Accepted { until_ms: u64 },
    Active,
    Interrupted,
    Ended,
}

#[derive(Debug, Clone)]
struct Chat {
    id: ChatId,
    caller: bool,
    since_ms: u64,
    state: State,
    /// The other side has said on this link that it holds the chat active and has a slot.
    peer_ready: bool,
    /// We had no slot when the link came up, and have not said on it that we hold the chat.
    untold: bool,
}

/// The newest chat with each peer.
#[derive(Debug)]
pub(super) struct ChatBook {
    slots: usize,
    chats: BTreeMap<Username, Chat>,
    #[cfg(any(test, feature = "simulation"))]
    planted: Planted,
}

impl ChatBook {
    /// From the rows of an earlier run. What was asked then is over, for its client is gone; what rang then
    /// is forgotten, for its caller asks again.
    pub(super) fn restore(slots: usize, rows: Vec<ChatRow>) -> Self {
        let mut chats = BTreeMap::new();
        for row in rows {
            let state = match (row.phase, row.caller) {
                (ChatPhase::Pending, false) => continue,
                (ChatPhase::Active, _) => State::Interrupted,
                (ChatPhase::Pending, true) | (ChatPhase::Ended, _) => State::Ended,
            };
            let ChatRow { peer, chat: id, caller, since_ms, .. } = row;
            chats.insert(
                peer,
                Chat { id, caller, since_ms, state, peer_ready: false, untold: false },
            );
        }
        Self {
            slots,
            chats,
            #[cfg(any(test, feature = "simulation"))]
            planted: Planted::default(),
        }
    }

    /// Asks for a chat, or joins the one that is there.
    pub(super) fn ask(
        &mut self,
        peer: &Username,
        id: ChatId,
        ring_ms: u32,
        now: Now,
    ) -> Result<Vec<Step>, ChatRefusal> {
        match self.chats.get(peer).map(|c| c.state) {
            Some(State::Active) => return Ok(vec![Step::Answer(ChatState::Active)]),
            Some(State::Ringing { .. }) => return self.accept(peer, now),
            Some(State::Asking { .. } | State::Accepted { .. } | State::Interrupted) => {
                return Ok(Vec::new());
            }
            Some(State::Ended) | None => {}
        }
        if !self.has_slot() {
            return Err(ChatRefusal::NoSlot);
        }
        let until_ms = now.mono_ms + u64::from(ring_ms);
        let state = State::Asking { until_ms, ring_ms };
        let chat = Chat {
            id,
            caller: true,
            since_ms: now.wall_ms,
            state,
            peer_ready: false,
            untold: false,
        };
        let steps = vec![row(peer, &chat), Step::Send(ChatFrame::Request { chat: id, ring_ms })];
        self.chats.insert(peer.clone(), chat);
        Ok(steps)
    }

    /// Yes to a request that rings.
    pub(super) fn accept(&mut self, peer: &Username, now: Now) -> Result<Vec<Step>, ChatRefusal> {
        let free = self.has_slot();
        let chat = self.chats.get_mut(peer).ok_or(ChatRefusal::NoRequest)?;
        match chat.state {
            State::Ringing { .. } if !free => Err(ChatRefusal::NoSlot),
            State::Ringing { .. } => {
                chat.state = State::Accepted { until_ms: now.mono_ms + RESERVE_MS };
                let send = Step::Send(ChatFrame::Accept { chat: chat.id });
                Ok(vec![Step::Unring, row(peer, chat), send])
            }
            State::Accepted { .. } => Ok(Vec::new()),
            State::Active => Ok(vec![Step::Answer(ChatState::Active)]),
            State::Asking { .. } | State::Interrupted | State::Ended => Err(ChatRefusal::NoRequest),
        }
    }

    /// No to a request that rings.
    pub(super) fn reject(&mut self, peer: &Username) -> Result<Vec<Step>, ChatRefusal> {
        let chat = self.chats.get_mut(peer).ok_or(ChatRefusal::NoRequest)?;
        match chat.state {
            State::Ringing { .. } | State::Accepted { .. } => {
                // The caller may hold it active by now: a reject would come too late.
                let frame = match chat.state {
                    State::Accepted { .. } => ChatFrame::End { chat: chat.id },
                    _ => ChatFrame::Reject { chat: chat.id },
                };
                chat.state = State::Ended;
                let send = Step::Send(frame);
                Ok(vec![Step::Unring, send, row(peer, chat), Step::Answer(ChatState::Ended)])
            }
            _ => Err(ChatRefusal::NoRequest),
        }
    }

    /// Ends what there is: a chat, our request, or theirs.
    pub(super) fn end(&mut self, peer: &Username) -> Result<Vec<Step>, ChatRefusal> {
        let chat = self.chats.get_mut(peer).ok_or(ChatRefusal::NoRequest)?;
        let id = chat.id;
        let frame = match chat.state {
            State::Ended => return Err(ChatRefusal::NoRequest),
            State::Ringing { .. } | State::Accepted { .. } => return self.reject(peer),
            State::Asking { .. } => ChatFrame::Withdraw { chat: id },
            State::Active | State::Interrupted => ChatFrame::End { chat: id },
        };
        let mut steps = vec![Step::Send(frame)];
        steps.extend(finish(peer, chat, ChatState::Ended));
        Ok(steps)
    }

    /// Takes our request back when nobody waits for its answer any more; other chats stay.
    pub(super) fn withdraw(&mut self, peer: &Username, told: ChatState) -> Vec<Step> {
        match self.chats.get_mut(peer) {
            Some(chat) if matches!(chat.state, State::Asking { .. }) => {
                let mut steps = vec![Step::Send(ChatFrame::Withdraw { chat: chat.id })];
                steps.extend(finish(peer, chat, told));
                steps
            }
            _ => Vec::new(),
        }
    }

    /// A frame of the peer. `we_are_lower` tells whose request stands when both ask.
    pub(super) fn on_frame(
        &mut self,
        peer: &Username,
        we_are_lower: bool,
        frame: ChatFrame,
        now: Now,
    ) -> Vec<Step> {
        match frame {
            ChatFrame::Request { chat, ring_ms } => {
                self.on_request(peer, we_are_lower, chat, ring_ms, now)
            }
            ChatFrame::State { chat, phase } => self.on_state(peer, chat, phase),
            ChatFrame::Accept { chat }
            | ChatFrame::Confirm { chat }
            | ChatFrame::Withdraw { chat }
            | ChatFrame::Reject { chat }
            | ChatFrame::Busy { chat, .. }
            | ChatFrame::End { chat } => self.on_step(peer, chat, frame),
        }
    }

    fn on_step(&mut self, peer: &Username, id: ChatId, frame: ChatFrame) -> Vec<Step> {
        #[cfg(any(test, feature = "simulation"))]
        if self.planted.deaf_to_end && matches!(frame, ChatFrame::End { .. }) {
            return Vec::new();
        }
        let free = self.has_slot();
        let Some(chat) = self.chats.get_mut(peer).filter(|c| c.id == id) else {
            return deny(id, frame);
        };
        let name = peer.clone();
        match (frame, chat.state) {
            (ChatFrame::Accept { .. }, State::Asking { .. }) if free => {
                let mut steps = vec![Step::Send(ChatFrame::Confirm { chat: id })];
                steps.extend(begin(peer, chat));
                steps
            }
            (ChatFrame::Accept { .. }, State::Asking { .. }) => {
                let mut steps = vec![Step::Send(ChatFrame::Withdraw { chat: id })];
                steps.extend(finish(peer, chat, ChatState::Ended));
                steps
            }
            (ChatFrame::Accept { .. }, State::Active) => {
                vec![Step::Send(ChatFrame::Confirm { chat: id })]
            }
            (ChatFrame::Accept { .. }, State::Ended) => deny(id, frame),
            (ChatFrame::Confirm { .. }, State::Accepted { .. }) => begin(peer, chat),
            (
                ChatFrame::Withdraw { .. },
                State::Ringing { .. } | State::Accepted { .. } | State::Interrupted,
            ) => {
                let mut steps = vec![Step::Unring];
                steps.extend(finish(peer, chat, ChatState::Ended));
                steps
            }
            (ChatFrame::Reject { .. }, State::Asking { .. }) => {
                chat.state = State::Ended;
                let event = Step::Event(EventKind::ChatRejected { peer: name, chat: id });
                vec![row(peer, chat), event, Step::Answer(ChatState::Rejected)]
            }
            (ChatFrame::Busy { .. }, State::Asking { .. }) => {
                chat.state = State::Ended;
                let event = Step::Event(EventKind::ChatBusy { peer: name, chat: id });
                vec![row(peer, chat), event, Step::Answer(ChatState::Busy)]
            }
            (ChatFrame::End { .. }, state) if state != State::Ended => {
                let mut steps = vec![Step::Unring];
                steps.extend(finish(peer, chat, ChatState::Ended));
                steps
            }
            _ => Vec::new(),
        }
    }

    fn on_request(
        &mut self,
        peer: &Username,
        we_are_lower: bool,
        id: ChatId,
        ring_ms: u32,
        now: Now,
    ) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut crossed = false;
        if let Some(chat) = self.chats.get_mut(peer) {
            match chat.state {
                State::Asking { .. } if we_are_lower => return steps,
                State::Asking { .. } => crossed = true,
                State::Ringing { .. } if chat.id == id => return steps,
                State::Accepted { .. } if chat.id == id => {
                    return vec![Step::Send(ChatFrame::Accept { chat: id })];
                }
                _ if chat.id == id => return vec![state_frame(chat)],
                State::Ended => {}
                // The peer asks anew: what we hold with it is over there.
                _ => {
                    steps.push(Step::Unring);
                    steps.extend(finish(peer, chat, ChatState::Ended));
                }
            }
        }
        if !self.has_slot() {
            let reason = BusyReason::InChat;
            steps.push(Step::Send(ChatFrame::Busy { chat: id, reason }));
            return steps;
        }
        let ringing = self.chats.values().filter(|c| matches!(c.state, State::Ringing { .. }));
        if ringing.count() >= RINGING_MAX {
            return steps;
        }
        let ring_ms = ring_ms.clamp(*RING_MS.start(), *RING_MS.end());
        let until_ms = now.mono_ms + u64::from(ring_ms);
        let state = match crossed {
            true => State::Accepted { until_ms: now.mono_ms + RESERVE_MS },
            false => State::Ringing { until_ms },
        };
        let chat = Chat {
            id,
            caller: false,
            since_ms: now.wall_ms,
            state,
            peer_ready: false,
            untold: false,
        };
        steps.push(row(peer, &chat));
        steps.push(match crossed {
            true => Step::Send(ChatFrame::Accept { chat: id }),
            false => Step::Ring(id),
        });
        self.chats.insert(peer.clone(), chat);
        steps
    }

    /// After a connect: ended beats active beats pending. `Pending` for a chat that we hold active means
    /// that the other side has no slot now.
    fn on_state(&mut self, peer: &Username, id: ChatId, phase: ChatPhase) -> Vec<Step> {
        let free = self.has_slot();
        let Some(chat) = self.chats.get_mut(peer).filter(|c| c.id == id) else {
            return match phase {
                ChatPhase::Active => {
                    vec![Step::Send(ChatFrame::State { chat: id, phase: ChatPhase::Ended })]
                }
                ChatPhase::Pending | ChatPhase::Ended => Vec::new(),
            };
        };
        match (phase, chat.state) {
            (ChatPhase::Ended, State::Ended) => Vec::new(),
            (ChatPhase::Ended, _) => {
                let mut steps = vec![Step::Unring];
                steps.extend(finish(peer, chat, ChatState::Ended));
                steps
            }
            (ChatPhase::Active, State::Ended) => vec![state_frame(chat)],
            (ChatPhase::Active, State::Accepted { .. }) => {
                let mut steps = vec![Step::Send(ChatFrame::State { chat: id, phase })];
                steps.extend(begin(peer, chat));
                steps
            }
            // Accepted before the callee restarted: its accept was lost.
            (ChatPhase::Active, State::Interrupted | State::Asking { .. }) if free => {
                let mut steps = vec![Step::Send(ChatFrame::State { chat: id, phase })];
                steps.extend(begin(peer, chat));
                steps
            }
            (ChatPhase::Active, State::Interrupted) => {
                chat.peer_ready = true;
                vec![Step::Send(ChatFrame::State { chat: id, phase: ChatPhase::Pending })]
            }
            (ChatPhase::Active, State::Asking { .. }) => {
                let mut steps = vec![Step::Send(ChatFrame::Withdraw { chat: id })];
                steps.extend(finish(peer, chat, ChatState::Ended));
                steps
            }
            (ChatPhase::Pending, State::Active) => interrupt(peer, chat),
            _ => Vec::new(),
        }
    }

    /// A link is up: what we hold goes over it.
    pub(super) fn link_up(&mut self, peer: &Username) -> Vec<Step> {
        let free = self.has_slot();
        let Some(chat) = self.chats.get_mut(peer) else { return Vec::new() };
        chat.peer_ready = false;
        chat.untold = chat.state == State::Interrupted && !free;
        match chat.state {
            State::Asking { ring_ms, .. } => {
                vec![Step::Send(ChatFrame::Request { chat: chat.id, ring_ms })]
            }
            State::Accepted { .. } => vec![Step::Send(ChatFrame::Accept { chat: chat.id })],
            State::Interrupted if !free => Vec::new(),
            State::Ringing { .. } => Vec::new(),
            State::Active | State::Interrupted | State::Ended => vec![state_frame(chat)],
        }
    }

    /// The peer vanished.
    pub(super) fn link_down(&mut self, peer: &Username) -> Vec<Step> {
        let Some(chat) = self.chats.get_mut(peer) else { return Vec::new() };
        chat.peer_ready = false;
        chat.untold = false;
        if chat.state == State::Active { interrupt(peer, chat) } else { Vec::new() }
    }

    /// What time has decided, and what a free slot makes possible.
    pub(super) fn tick(&mut self, now: Now) -> Vec<(Username, Vec<Step>)> {
        let mut all = Vec::new();
        for (peer, chat) in &mut self.chats {
            let Some(until_ms) = chat.deadline() else { continue };
            if until_ms > now.mono_ms {
                continue;
            }
            let id = chat.id;
            let mut steps = match chat.state {
                State::Asking { .. } => vec![Step::Send(ChatFrame::Withdraw { chat: id })],
                State::Accepted { .. } => vec![Step::Send(ChatFrame::End { chat: id })],
                _ => vec![Step::Unring],
            };
            steps.extend(finish(peer, chat, ChatState::TimedOut));
            all.push((peer.clone(), steps));
        }
        let mut free = self.slots.saturating_sub(self.slots_taken());
        for (peer, chat) in &mut self.chats {
            if free > 0 && chat.peer_ready && chat.state == State::Interrupted {
                free -= 1;
                let mut steps = vec![state_frame(chat)];
                steps.extend(begin(peer, chat));
                all.push((peer.clone(), steps));
            } else if free > 0 && std::mem::take(&mut chat.untold) {
                all.push((peer.clone(), vec![state_frame(chat)]));
            }
        }
        all
    }

    /// When `tick` has something to do.
    pub(super) fn next_wake(&self) -> Option<u64> {
        self.chats.values().filter_map(Chat::deadline).min()
    }

    /// Ends everything: at logout.
    pub(super) fn end_all(&mut self) -> Vec<(Username, Vec<Step>)> {
        let open: Vec<Username> = self
            .chats
            .iter()
            .filter(|(_, c)| c.state != State::Ended)
            .map(|(p, _)| p.clone())
            .collect();
        let end = |peer: Username| self.end(&peer).ok().map(|steps| (peer, steps));
        open.into_iter().filter_map(end).collect()
    }

    /// Where the chat with the peer stands; `None` if it is over or never was.
    pub(super) fn state(&self, peer: &Username) -> Option<ChatState> {
        match self.chats.get(peer)?.state {
            State::Asking { .. } | State::Ringing { .. } | State::Accepted { .. } => {
                Some(ChatState::Pending)
            }
            State::Active => Some(ChatState::Active),
            State::Interrupted => Some(ChatState::Interrupted),
            State::Ended => None,
        }
    }

    /// All that are not over, by name.
    pub(super) fn open(&self) -> impl Iterator<Item = (&Username, ChatState)> {
        self.chats.keys().filter_map(|peer| Some((peer, self.state(peer)?)))
    }
}

impl Chat {
    fn deadline(&self) -> Option<u64> {
        match self.state {
            State::Asking { until_ms, .. }
            | State::Ringing { until_ms }
            | State::Accepted { until_ms } => Some(until_ms),
            State::Active | State::Interrupted | State::Ended => None,
        }
    }

    fn phase(&self) -> ChatPhase {
        match self.state {
            State::Asking { .. } | State::Ringing { .. } | State::Accepted { .. } => {
                ChatPhase::Pending
            }
            State::Active | State::Interrupted => ChatPhase::Active,
            State::Ended => ChatPhase::Ended,
        }
    }
}
