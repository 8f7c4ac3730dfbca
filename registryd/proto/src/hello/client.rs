//! The peer's half of HELLO as a state machine: when to say it, and what to believe of what comes back.
//!
//! peerd owns one for each session and drives it with its socket and its clock; `now_ms` is any monotonic
//! clock in milliseconds. A new session (login, resume) gets a new machine.
//!
//! Invariant: interval and boot id change only by an answer that echoes an outstanding HELLO. A nudge
//! must come from the current boot with a counter above all seen, and changes nothing but the version.

use super::{Answer, Datagram, Direction, Hello, HelloKey, SessionKey, peek};
use crate::{digest::Digest, request::SessionGrant};

/// After so many HELLOs in a row without an answer the registry counts as silent.
pub const SILENT_AFTER: u64 = 3;

/// The shortest and the longest interval that a client follows. A registry that asks for less would
/// have its peers flood it, and one that asks for more would have them forgotten.
const INTERVAL_MS_MIN: u32 = 100;
const INTERVAL_MS_MAX: u32 = 60 * 60 * 1000;

/// What a datagram from the registry's address meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The registry knows that we are here.
    Answered {
        /// The account's version: sync if it is above the one held.
        version: u64,
    },
    /// The registry asks to look: something changed.
    Nudged {
        /// The account's version: sync if it is above the one held.
        version: u64,
    },
    /// The registry restarted. A HELLO with its new boot id is due at once; until it is answered the
    /// registry does not count us as online.
    Rebooted,
    /// Forged, old, repeated, or not for this session: nothing changed.
    Ignored,
}

/// The state of one session's HELLOs.
#[derive(Debug)]
pub struct HelloClient {
    session: u64,
    epoch: u64,
    key: SessionKey,
    peer_key: HelloKey,
    boot: u64,
    interval_ms: u32,
    /// Of the last HELLO sent; 0 before the first.
    counter: u64,
    /// HELLOs up to here are answered, or too old to be.
    answered: u64,
    /// The highest counter of the registry seen in the current boot.
    registry_counter: u64,
    next_due_ms: u64,
}

impl HelloClient {
    /// A machine for a new session; its first HELLO is due at once.
    pub fn new(grant: &SessionGrant, now_ms: u64) -> Self {
        Self {
            session: grant.session,
            epoch: grant.epoch,
            peer_key: HelloKey::peer(&grant.key),
            key: grant.key.clone(),
            boot: grant.boot,
            interval_ms: grant.interval_ms.clamp(INTERVAL_MS_MIN, INTERVAL_MS_MAX),
            counter: 0,
            answered: 0,
            registry_counter: 0,
            next_due_ms: now_ms,
        }
    }

    /// When [`poll`](Self::poll) has something to send: a time in the caller's clock, maybe past.
    pub fn next_due(&self) -> u64 {
        self.next_due_ms
    }

    /// The HELLO to send, if one is due. Each call seals a new one with a new counter: send it, or let
    /// it count as lost.
    pub fn poll(&mut self, now_ms: u64) -> Option<Datagram> {
        if now_ms < self.next_due_ms {
            return None;
        }
        self.counter += 1;
        self.next_due_ms = now_ms + u64::from(self.interval_ms) - self.jitter_ms();
        let hello = Hello {
            session: self.session,
            epoch: self.epoch,
            boot: self.boot,
            counter: self.counter,
            interval_ms: self.interval_ms,
        };
        Some(hello.seal(&self.peer_key))
    }

    /// Makes a HELLO due at once: the network changed, or the machine woke up.
    pub fn hurry(&mut self, now_ms: u64) {
        self.next_due_ms = self.next_due_ms.min(now_ms);
    }

    /// Takes a datagram that came on the HELLO socket, from anybody.
    pub fn on_datagram(&mut self, datagram: &[u8], now_ms: u64) -> Outcome {
        let Some(answer) = self.open(datagram) else {
            return Outcome::Ignored;
        };
        match answer.echo {
            0 => self.on_nudge(&answer),
            _ => self.on_answer(&answer, now_ms),
        }
    }

    /// Whether the last [`SILENT_AFTER`] HELLOs went without an answer: the registry is away, cannot be
    /// reached by UDP, or another device holds the session. One more is due at each interval all the same.
    pub fn is_silent(&self) -> bool {
        self.counter - self.answered >= SILENT_AFTER
    }

    /// The interval in use, in milliseconds.
    pub fn interval_ms(&self) -> u32 {
        self.interval_ms
    }

    /// The session's epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    fn open(&self, datagram: &[u8]) -> Option<Answer> {
        let clear = peek(datagram)?;
        let ours = clear.direction == Direction::Registry
            && (clear.session, clear.epoch) == (self.session, self.epoch);
        if !ours {
            return None;
        }
        Answer::open(datagram, &HelloKey::registry(&self.key, clear.boot))
    }

    fn on_nudge(&mut self, nudge: &Answer) -> Outcome {
        if nudge.boot != self.boot || nudge.counter <= self.registry_counter {
            return Outcome::Ignored;
        }
        self.registry_counter = nudge.counter;
        Outcome::Nudged { version: nudge.version }
    }

    fn on_answer(&mut self, answer: &Answer, now_ms: u64) -> Outcome {
        let oldest = self.answered.max(self.counter.saturating_sub(SILENT_AFTER));
        if answer.echo <= oldest || answer.echo > self.counter {
            return Outcome::Ignored;
        }
        self.answered = answer.echo;
        self.interval_ms = answer.interval_ms.clamp(INTERVAL_MS_MIN, INTERVAL_MS_MAX);
        self.next_due_ms = self.next_due_ms.min(now_ms + u64::from(self.interval_ms));
        if answer.boot != self.boot {
            self.boot = answer.boot;
            self.registry_counter = answer.counter;
            self.next_due_ms = now_ms;
            return Outcome::Rebooted;
        }
        self.registry_counter = self.registry_counter.max(answer.counter);
        Outcome::Answered { version: answer.version }
    }

    /// Up to a tenth of the interval, different for each HELLO of each session, so that peers that
    /// started together drift apart. Only ever earlier: the interval is a promise.
    fn jitter_ms(&self) -> u64 {
        let parts = [self.session.to_be_bytes(), self.counter.to_be_bytes()];
        let hash = Digest::derive("p2pchat hello jitter 1", &[&parts[0], &parts[1]]);
        let random = u64::from(u16::from_be_bytes([hash.0[0], hash.0[1]]));
        u64::from(self.interval_ms) / 10 * random / u64::from(u16::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{card::Card, card::KeyBinding, key::Keypair, signed::Signed};

    const KEY: [u8; 32] = [7; 32];

    fn grant() -> SessionGrant {
        let [registry, peer, room] = [1, 2, 3].map(|s| Keypair::from_secret(&[s; 32]));
        let username = "bob".parse().expect("name");
        let binding = KeyBinding::new(&registry.public(), &username, &peer, &room);
        let card =
            Card { username: username.clone(), binding, serial: 1, issued_ms: 0, expires_ms: 1 };
        SessionGrant {
            username,
            session: 5,
            epoch: 6,
            key: SessionKey::from_bytes(KEY),
            hello_port: 4700,
            interval_ms: 1000,
            boot: 100,
            card: Signed::seal(&card, &registry),
            version: 0,
            server_time_ms: 0,
            observed: [127, 0, 0, 1].into(),
        }
    }

    fn said(datagram: &[u8]) -> Hello {
        let key = HelloKey::peer(&SessionKey::from_bytes(KEY));
        Hello::open(datagram, &key).expect("ours")
    }

    fn answer(boot: u64, counter: u64, echo: u64, interval_ms: u32) -> Datagram {
        Answer { session: 5, epoch: 6, boot, counter, echo, interval_ms, version: 9 }
            .seal(&HelloKey::registry(&SessionKey::from_bytes(KEY), boot))
    }

    #[test]
    fn hello_comes_each_interval_and_never_later() {
        let mut client = HelloClient::new(&grant(), 50);
        let mut now = 50;
        for counter in 1..100 {
            let hello = said(&client.poll(now).expect("due"));
            assert_eq!((hello.counter, hello.boot, hello.interval_ms), (counter, 100, 1000));
            assert_eq!(client.poll(now), None, "once");
            let wait = client.next_due() - now;
            assert!((900..=1000).contains(&wait), "{wait}");
            now += wait;
        }
    }

    #[test]
    fn an_answer_counts_once_and_only_for_what_is_outstanding() {
        let mut client = HelloClient::new(&grant(), 0);
        client.poll(0).expect("due");
        let good = answer(100, 1, 1, 2000);
        assert_eq!(client.on_datagram(&answer(100, 2, 2, 9000), 1), Outcome::Ignored, "not said");
        assert_eq!(client.on_datagram(&good, 1), Outcome::Answered { version: 9 });
        assert_eq!(client.on_datagram(&good, 2), Outcome::Ignored, "a replay");
        assert_eq!(client.interval_ms(), 2000);
        let hello = said(&client.poll(client.next_due()).expect("due"));
        assert_eq!(hello.interval_ms, 2000, "confirmed by the next HELLO");
    }

    #[test]
    fn a_reboot_is_believed_from_an_outstanding_answer_alone() {
        let mut client = HelloClient::new(&grant(), 0);
        client.poll(0).expect("due");
        assert_eq!(client.on_datagram(&answer(200, 50, 0, 1000), 5), Outcome::Ignored, "nudge");
        assert_eq!(client.on_datagram(&answer(200, 51, 1, 1000), 5), Outcome::Rebooted);
        assert_eq!(said(&client.poll(5).expect("at once")).boot, 200);
        assert_eq!(
            client.on_datagram(&answer(200, 52, 2, 1000), 6),
            Outcome::Answered { version: 9 }
        );
        assert_eq!(client.on_datagram(&answer(100, 99, 1, 1000), 7), Outcome::Ignored, "old boot");
        assert_eq!(client.on_datagram(&answer(100, 99, 0, 1000), 7), Outcome::Ignored, "old boot");
    }

    #[test]
    fn a_nudge_needs_a_growing_counter_and_keeps_the_interval() {
        let mut client = HelloClient::new(&grant(), 0);
        let nudge = answer(100, 7, 0, 60_000);
        assert_eq!(client.on_datagram(&nudge, 1), Outcome::Nudged { version: 9 });
        assert_eq!(client.on_datagram(&nudge, 2), Outcome::Ignored, "a replay");
        assert_eq!(client.on_datagram(&answer(100, 6, 0, 1), 2), Outcome::Ignored, "older");
        assert_eq!(client.interval_ms(), 1000);
    }

    #[test]
    fn three_unanswered_are_silence_and_one_answer_ends_it() {
        let mut client = HelloClient::new(&grant(), 0);
        for _ in 0..3 {
            assert!(!client.is_silent());
            client.poll(client.next_due()).expect("due");
        }
        assert!(client.is_silent());
        let now = client.next_due();
        assert_eq!(
            client.on_datagram(&answer(100, 1, 3, 1000), now),
            Outcome::Answered { version: 9 }
        );
        assert!(!client.is_silent());
    }

    #[test]
    fn what_is_for_another_session_or_hostile_is_ignored() {
        let mut client = HelloClient::new(&grant(), 0);
        client.poll(0).expect("due");
        let other = Answer {
            session: 5,
            epoch: 7,
            boot: 100,
            counter: 1,
            echo: 1,
            interval_ms: 1,
            version: 1,
        };
        let key = HelloKey::registry(&SessionKey::from_bytes(KEY), 100);
        assert_eq!(client.on_datagram(&other.seal(&key), 1), Outcome::Ignored, "another epoch");
        assert_eq!(client.on_datagram(&[0; 72], 1), Outcome::Ignored);
        assert_eq!(client.on_datagram(&[], 1), Outcome::Ignored);
        assert_eq!(client.on_datagram(&answer(100, 1, 1, 0), 1), Outcome::Answered { version: 9 });
        assert!(client.interval_ms() >= 100, "an interval of 0 would flood");
    }
}
