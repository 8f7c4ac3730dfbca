//! A device's half of HELLO: the client of the protocol, driven as peerd's HELLO task drives it.

use peerd::core::input::HelloInput;
use registryd_proto::{
    SessionGrant,
    hello::{Datagram, HelloClient, Outcome, SILENT_AFTER},
};

/// One session's HELLOs.
pub(super) struct Speaker {
    client: HelloClient,
    /// The port of its socket: another one after a silence, for a NAT may have forgotten the old one.
    pub(super) port: u16,
    unanswered: u64,
}

/// What came of a HELLO that fell due.
pub(super) struct Said {
    pub(super) datagram: Option<Datagram>,
    pub(super) silent: Option<HelloInput>,
}

/// What came of a datagram.
pub(super) struct Heard {
    pub(super) input: Option<HelloInput>,
    /// The next HELLO is due earlier than was planned.
    pub(super) due_ms: Option<u64>,
}

impl Speaker {
    pub(super) fn new(grant: &SessionGrant, port: u16, now_ms: u64) -> Self {
        Self { client: HelloClient::new(grant, now_ms), port, unanswered: 0 }
    }

    pub(super) fn next_due(&self) -> u64 {
        self.client.next_due()
    }

    pub(super) fn say(&mut self, now_ms: u64) -> Said {
        if now_ms < self.client.next_due() {
            return Said { datagram: None, silent: None };
        }
        if self.unanswered > 0 && self.unanswered.is_multiple_of(SILENT_AFTER) {
            self.port = self.port.wrapping_add(1_000);
        }
        let datagram = self.client.poll(now_ms);
        self.unanswered += 1;
        let silent = (self.unanswered == SILENT_AFTER).then_some(HelloInput::Silent);
        Said { datagram, silent }
    }

    pub(super) fn hear(&mut self, datagram: &Datagram, now_ms: u64) -> Heard {
        let planned_ms = self.client.next_due();
        let input = match self.client.on_datagram(datagram, now_ms) {
            Outcome::Ignored => None,
            Outcome::Nudged { version } => Some(HelloInput::Nudged { version }),
            Outcome::Answered { version } => {
                self.unanswered = 0;
                Some(HelloInput::Answered { version, interval_ms: self.client.interval_ms() })
            }
            Outcome::Rebooted => {
                self.unanswered = 0;
                Some(HelloInput::Rebooted)
            }
        };
        let due_ms = self.client.next_due();
        Heard { input, due_ms: (due_ms < planned_ms).then_some(due_ms) }
    }
}
