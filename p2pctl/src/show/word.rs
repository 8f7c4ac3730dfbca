//! The words for states.

use peerd_proto::control::{
    ChatState, LinkState, MessageState, PolicyName, Presence, SessionState,
};
use registryd_proto::{Access, Code, Role};

pub(super) fn session_state(state: SessionState) -> &'static str {
    match state {
        SessionState::Online => "online",
        SessionState::Offline => "offline: the registry does not answer",
        SessionState::LoggedOut => "logged out",
        SessionState::Superseded => "superseded by another device",
    }
}

pub(super) fn presence(presence: Presence) -> &'static str {
    match presence {
        Presence::Online => "online",
        Presence::Offline => "offline",
    }
}

/// The word for where a chat stands.
pub fn chat_state(state: ChatState) -> &'static str {
    match state {
        ChatState::Pending => "ringing",
        ChatState::Active => "active",
        ChatState::Interrupted => "interrupted",
        ChatState::Rejected => "rejected",
        ChatState::Busy => "busy",
        ChatState::TimedOut => "no answer",
        ChatState::Ended => "ended",
        ChatState::Allowed => "allowed",
    }
}

/// The word for where a message is.
pub fn message_state(state: MessageState) -> &'static str {
    match state {
        MessageState::Queued => "queued",
        MessageState::Delivered => "delivered",
        MessageState::Expired => "expired",
        MessageState::Rejected => "rejected",
        MessageState::Failed => "failed",
    }
}

/// Why a message was given up.
pub(super) fn given_up(reason: Code) -> &'static str {
    match reason {
        Code::Conflict => "cancelled",
        Code::TimedOut => "expired",
        other => other.as_str(),
    }
}

/// How many messages wait, with a comma in front; nothing where none does.
pub(super) fn waiting(messages: u64) -> String {
    match messages {
        0 => String::new(),
        1 => ", 1 message waits".to_owned(),
        many => format!(", {many} messages wait"),
    }
}

pub(super) fn link_state(state: LinkState) -> &'static str {
    match state {
        LinkState::Connected => "connected",
        LinkState::Absent => "absent",
    }
}

pub(super) fn role(role: Role) -> &'static str {
    match role {
        Role::Member => "member",
        Role::Moderator => "moderator",
        Role::Owner => "owner",
    }
}

pub(super) fn access(access: Access) -> &'static str {
    match access {
        Access::Open => "open",
        Access::Password => "password",
        Access::Invite => "invite",
    }
}

pub(super) fn policy(policy: PolicyName) -> &'static str {
    match policy {
        PolicyName::Allow => "allow",
        PolicyName::Ask => "ask",
        PolicyName::Block => "block",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_counted_as_people_do() {
        assert_eq!(waiting(0), "");
        assert_eq!(waiting(1), ", 1 message waits");
        assert_eq!(waiting(2), ", 2 messages wait");
    }
}
