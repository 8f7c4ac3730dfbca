//! Why a verb failed, and the one place where that becomes a code, a message and a hint.

use std::{io, time::Duration};

use p2pchat_host::password::PasswordError;
use peerd_proto::control::SentAnswer;
use registryd_proto::Code;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{client::ClientError, socket::SocketError, text_input::InputError};

/// Any failure of a verb.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line; the text is clap's.
    #[error("{0}")]
    Usage(String),
    /// The options are each right, but not together, or not here.
    #[error("{message}")]
    Misuse {
        /// What is wrong.
        message: &'static str,
        /// What to type instead.
        hint: &'static str,
    },
    /// No peerd to talk to.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The talk with peerd failed, or peerd said no.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// No password to be had.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// stdin holds no message.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The deadline passed.
    #[error("no answer within {}", humantime::format_duration(*.0))]
    Deadline(Duration),
    /// peerd answered, but the message is not where it was to be.
    #[error("the message {} to {} is {}", .0.id, recipient(.0), state(.0))]
    NotDelivered(Box<SentAnswer>),
    /// One of the lines of `--lines` or of a piped chat.
    #[error("line {line}: {source}")]
    Line {
        /// Counted from 1.
        line: u64,
        /// Why.
        source: Box<Error>,
    },
    /// The chat did not come about.
    #[error("{peer}: {}", .code.as_str().replace('_', " "))]
    NoChat {
        /// With whom.
        peer: registryd_proto::Username,
        /// Why.
        code: Code,
    },
    /// Own and peerd's API differ.
    #[error("peerd speaks version {theirs} of the local API, p2pctl version {ours}")]
    Version {
        /// p2pctl's.
        ours: u32,
        /// peerd's.
        theirs: u32,
    },
    /// stdout cannot be written.
    #[error("cannot write the answer: {0}")]
    Stdout(#[source] io::Error),
    /// The terminal cannot be driven.
    #[error("cannot drive the terminal: {0}")]
    Terminal(#[source] io::Error),
    /// No runtime.
    #[error("cannot start: {0}")]
    Runtime(#[source] io::Error),
}

/// What is told of a failure; the fields of `p2pctl.error/1`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The word of the table.
    pub code: Code,
    /// For people.
    pub message: String,
    /// What to do about it.
    pub hint: String,
    /// Whether the same command may succeed later.
    pub retryable: bool,
    /// When trying again makes sense.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// What is known nevertheless: the `id` of a message that waits, the `line` that failed …
    #[serde(flatten)]
    pub details: Map<String, Value>,
}

impl Error {
    /// The code, which decides the exit code.
    pub fn code(&self) -> Code {
        match self {
            Error::Usage(_) | Error::Misuse { .. } | Error::Input(_) => Code::Usage,
            Error::Socket(error) => error.code(),
            Error::Client(error) => error.code(),
            Error::Password(_) => Code::Usage,
            Error::Deadline(_) => Code::TimedOut,
            Error::NotDelivered(sent) => sent_code(sent),
            Error::Line { source, .. } => source.code(),
            Error::NoChat { code, .. } => *code,
            Error::Version { .. } => Code::VersionMismatch,
            Error::Stdout(_) | Error::Terminal(_) | Error::Runtime(_) => Code::Internal,
        }
    }

    /// All that is told of it.
    pub fn report(&self) -> Report {
        let code = self.code();
        let mut report = Report {
            code,
            message: self.to_string(),
            hint: default_hint(code).to_owned(),
            retryable: code.retryable(),
            retry_after_ms: None,
            details: Map::new(),
        };
        self.refine(&mut report);
        report
    }

    fn refine(&self, report: &mut Report) {
        match self {
            Error::Misuse { hint, .. } => report.hint = (*hint).to_owned(),
            Error::Stdout(_) => "what was asked for is done: only its answer is missing"
                .clone_into(&mut report.hint),
            Error::Password(error) => report.hint = error.hint().to_owned(),
            Error::Client(ClientError::Refused(error)) => {
                report.retryable = error.data.retryable;
                report.retry_after_ms = error.data.retry_after_ms;
                if let Some(hint) = &error.data.hint {
                    report.hint.clone_from(hint);
                }
                if let Some(Value::Object(details)) = &error.data.details {
                    report.add(details.clone());
                }
                report.name_what_is_queued();
            }
            Error::NotDelivered(sent) => {
                if let Ok(Value::Object(details)) = serde_json::to_value(sent) {
                    report.add(details);
                }
                report.name_what_is_queued();
            }
            Error::Line { line, source } => {
                source.refine(report);
                report.message = format!("line {line}: {}", source.report().message);
                report.details.insert("line".to_owned(), (*line).into());
            }
            Error::NoChat { peer, .. } => {
                report.details.insert("peer".to_owned(), peer.as_str().into());
            }
            Error::Usage(_)
            | Error::Socket(_)
            | Error::Client(_)
            | Error::Input(_)
            | Error::Deadline(_)
            | Error::Version { .. }
            | Error::Terminal(_)
            | Error::Runtime(_) => {}
        }
    }
}

impl Report {
    /// Details never shadow the fields that every error has.
    fn add(&mut self, details: Map<String, Value>) {
        let own = ["schema", "code", "message", "hint", "retryable", "retry_after_ms"];
        self.details.extend(details.into_iter().filter(|(name, _)| !own.contains(&name.as_str())));
    }

    /// A message that was not delivered in time is not lost: say so, with its id.
    fn name_what_is_queued(&mut self) {
        if !matches!(self.code, Code::TimedOut | Code::Partial) {
            return;
        }
        // An expired message has timed out as well, and waits for nothing.
        if self.details.get("state").is_some_and(|state| state != "queued") {
            return;
        }
        let Some(id) = self.details.get("id").and_then(Value::as_str) else { return };
        let count = |name| self.details.get(name).and_then(Value::as_u64);
        let progress = match (count("delivered"), count("of")) {
            (Some(delivered), Some(of)) => format!(" ({delivered} of {of} delivered)"),
            _ => String::new(),
        };
        let words = if self.message.ends_with("still queued") { "" } else { "; still queued" };
        self.message = format!("{}{words}: {id}{progress}", self.message);
        if self.code == Code::TimedOut && self.hint == default_hint(self.code) {
            self.hint = "p2pctl outbox shows what waits; wait longer with --timeout".to_owned();
        }
    }
}

/// A message that is not delivered although peerd answered.
fn sent_code(sent: &SentAnswer) -> Code {
    use peerd_proto::control::MessageState;
    match sent.state {
        MessageState::Rejected => Code::Rejected,
        MessageState::Failed => Code::Conflict,
        MessageState::Expired | MessageState::Queued | MessageState::Delivered => {
            if sent.delivered > 0 { Code::Partial } else { Code::TimedOut }
        }
    }
}

fn recipient(sent: &SentAnswer) -> String {
    match (&sent.to, &sent.room) {
        (Some(user), _) => user.to_string(),
        (None, Some(room)) => format!("#{room}"),
        (None, None) => "nobody".to_owned(),
    }
}

fn state(sent: &SentAnswer) -> &'static str {
    crate::show::message_state(sent.state)
}

/// What helps in most cases of a code; peerd's own hint goes before it.
fn default_hint(code: Code) -> &'static str {
    match code {
        Code::Internal => "see the log of peerd",
        Code::Usage => "see p2pctl help",
        Code::PeerdNotRunning => {
            "start it: systemctl --user start peerd, or peerd --daemonize; or name it by --profile or --socket"
        }
        Code::NotLoggedIn => "log in: p2pctl login USER",
        Code::RegistryUnreachable => "peerd keeps trying; p2pctl wait online tells when it answers",
        Code::NotFound => "names are exact: check the spelling; or it is gone already",
        Code::PeerOffline => "p2pctl send leaves a message that goes out when the peer is back",
        Code::Rejected => "the peer said no",
        Code::Busy => {
            "the peer is in another chat: try again later, or leave a message with p2pctl send"
        }
        Code::TimedOut => "wait longer with --timeout",
        Code::UntrustedKey => "compare with p2pctl verify USER, then decide with p2pctl trust USER",
        Code::Blocked => "a policy or a missing right forbids it",
        Code::Conflict => "it clashes with what is there already",
        Code::AlreadyOnline => {
            "another device is online: log out there, or p2pctl login --takeover"
        }
        Code::RateLimited => "try again later",
        Code::Partial => "the rest is delivered when those members are back: see p2pctl outbox",
        Code::Superseded => "another device took over: p2pctl login --takeover takes it back",
        Code::BadCredentials => "check the user name and the password",
        Code::StateInUse => "another process holds this state",
        Code::VersionMismatch => {
            "install p2pctl and peerd of one version; restart peerd after an upgrade"
        }
    }
}

#[cfg(test)]
mod tests {
    use peerd_proto::control::{RpcError, RpcErrorData};
    use serde_json::json;

    use super::*;

    fn refused(code: Code, details: Option<Value>) -> Error {
        let data =
            RpcErrorData { code, hint: None, retryable: false, retry_after_ms: Some(7), details };
        let error = RpcError { code: -32000, message: "text".to_owned(), data };
        Error::Client(ClientError::Refused(Box::new(error)))
    }

    #[test]
    fn what_peerd_says_is_told_as_it_is() {
        for code in Code::ALL {
            let report = refused(code, None).report();
            assert_eq!((report.code, report.retryable), (code, false));
            assert_eq!(report.retry_after_ms, Some(7));
            assert!(!report.hint.is_empty(), "{code}");
        }
    }

    #[test]
    fn a_message_that_waits_is_named() {
        let details = json!({"id": "m1", "state": "queued", "delivered": 0, "of": 1, "code": "x"});
        let report = refused(Code::TimedOut, Some(details)).report();
        assert_eq!(report.message, "text; still queued: m1 (0 of 1 delivered)");
        assert_eq!(report.details["id"], "m1");
        let json = serde_json::to_value(&report).expect("JSON");
        assert_eq!(json["code"], "timed_out", "details do not shadow the code");
    }

    #[test]
    fn an_expired_message_is_not_called_queued() {
        let details = json!({"id": "m1", "state": "expired", "delivered": 0, "of": 1});
        assert_eq!(refused(Code::TimedOut, Some(details)).report().message, "text");
    }

    #[test]
    fn a_line_keeps_code_and_details_of_its_failure() {
        let details = json!({"id": "m1"});
        let source = Box::new(refused(Code::TimedOut, Some(details)));
        let report = Error::Line { line: 3, source }.report();
        assert_eq!(report.code, Code::TimedOut);
        assert_eq!(report.message, "line 3: text; still queued: m1");
        assert_eq!((&report.details["id"], &report.details["line"]), (&json!("m1"), &json!(3)));
    }
}
