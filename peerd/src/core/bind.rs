//! Listeners: opened for a start or a login, and told to the registry where they are not those of the session.
//!
//! Invariant: of several binds under way the last one's answer tells where the listeners are.

use super::{
    Core, Effect,
    input::{BindFailure, Listeners},
    registry::Phase,
};

/// What a bind was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BindFor {
    /// A start, on the ports used last.
    Start,
    /// A start, on any ports: one of the last ones is taken.
    StartAnywhere,
    /// A login, on the ports asked for or used last.
    Login,
    /// A login, on the ports asked for or any: one used last is taken.
    LoginAnywhere,
}

impl Core {
    pub(super) fn bind(&mut self, why: BindFor, peer_port: u16, room_port: u16) {
        self.session.binding = Some(why);
        self.session.binds += 1;
        self.out.effects.push(Effect::Bind { peer_port, room_port });
    }

    pub(super) fn on_bound(&mut self, result: Result<Listeners, BindFailure>) {
        self.session.binds = self.session.binds.saturating_sub(1);
        if self.session.binds > 0 {
            return;
        }
        self.session.listeners = result.as_ref().ok().copied();
        match (self.session.binding.take(), result) {
            (Some(BindFor::Login), result) => self.login_bound(result, true),
            (Some(BindFor::LoginAnywhere), result) => self.login_bound(result, false),
            (Some(BindFor::Start | BindFor::StartAnywhere), Ok(_)) => {
                self.dirty = true;
                self.note_ports();
                self.retry_session();
            }
            (Some(BindFor::Start), Err(BindFailure::Taken { .. })) => {
                self.bind(BindFor::StartAnywhere, 0, 0);
            }
            (Some(BindFor::Start | BindFor::StartAnywhere), Err(_)) => self.retry_later(),
            (None, Ok(_)) if self.session.phase == Phase::Closed => {
                self.session.listeners = None;
                self.out.effects.push(Effect::Unbind);
            }
            (None, _) => {}
        }
    }

    /// The registry is to hear of listeners on other ports than those of the session.
    pub(super) fn note_ports(&mut self) {
        let (Some(listeners), Some(profile)) = (self.session.listeners, &self.profile) else {
            return;
        };
        let ports = (listeners.peer.port(), listeners.room.port());
        self.session.must_resume |= ports != (profile.peer_port, profile.room_port);
    }
}
