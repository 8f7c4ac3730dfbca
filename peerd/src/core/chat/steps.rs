//! What follows when one chat moves: its new state, the row, the event and the answer. Called only by the
//! book, which knows whether the move is allowed.

use peerd_proto::{
    control::{ChatState, EventKind},
    wire::{ChatFrame, ChatId, ChatPhase},
};
use registryd_proto::Username;

use super::{Chat, State, Step};
use crate::core::durable::ChatRow;

pub(super) fn row(peer: &Username, chat: &Chat) -> Step {
    let phase = match chat.state {
        // The caller may hold it active at once, so after a restart it is more than a request.
        State::Accepted { .. } => ChatPhase::Active,
        _ => chat.phase(),
    };
    Step::Row(ChatRow {
        peer: peer.clone(),
        chat: chat.id,
        phase,
        caller: chat.caller,
        since_ms: chat.since_ms,
    })
}

pub(super) fn state_frame(chat: &Chat) -> Step {
    Step::Send(ChatFrame::State { chat: chat.id, phase: chat.phase() })
}

/// An accept of what we do not ask any more frees the other side's slot at once.
pub(super) fn deny(id: ChatId, frame: ChatFrame) -> Vec<Step> {
    match frame {
        ChatFrame::Accept { .. } => vec![Step::Send(ChatFrame::Withdraw { chat: id })],
        _ => Vec::new(),
    }
}

pub(super) fn begin(peer: &Username, chat: &mut Chat) -> Vec<Step> {
    chat.state = State::Active;
    let event = EventKind::ChatActive { peer: peer.clone(), chat: chat.id };
    vec![row(peer, chat), Step::Event(event), Step::Answer(ChatState::Active)]
}

pub(super) fn interrupt(peer: &Username, chat: &mut Chat) -> Vec<Step> {
    chat.state = State::Interrupted;
    chat.peer_ready = false;
    let event = EventKind::ChatInterrupted { peer: peer.clone(), chat: chat.id };
    vec![Step::Event(event), Step::Answer(ChatState::Interrupted)]
}

pub(super) fn finish(peer: &Username, chat: &mut Chat, told: ChatState) -> Vec<Step> {
    chat.state = State::Ended;
    let event = EventKind::ChatEnded { peer: peer.clone(), chat: chat.id };
    vec![row(peer, chat), Step::Event(event), Step::Answer(told)]
}
