//! What all parts of a running registry share.
//!
//! Presence is behind a mutex that is held for a few map operations and never across an await; sealing
//! and opening datagrams happens outside it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use registryd_proto::{
    Digest, Keypair,
    hello::{Datagram, HelloKey, SessionKey},
};
use tokio::{net::UdpSocket, sync::Notify};
use zeroize::Zeroizing;

use crate::{
    config::Config,
    limits::Limits,
    password::Passwords,
    presence::{Outgoing, Presence, Seat},
    store::{AccountId, Bumped, Store},
};

const SESSION_KEY_CONTEXT: &str = "p2pchat registry session key 1";

/// The state of a running registry. No Debug: it holds the secret of all session keys.
pub(crate) struct Registry {
    pub(crate) config: Config,
    pub(crate) keys: Arc<Keypair>,
    pub(crate) store: Store,
    pub(crate) passwords: Passwords,
    pub(crate) limits: Limits,
    pub(crate) socket: UdpSocket,
    pub(crate) port: u16,
    /// Told when presence has arrivals for watchers.
    pub(crate) arrived: Notify,
    pub(crate) presence: Mutex<Presence>,
    pub(crate) secret: Zeroizing<[u8; 32]>,
    pub(crate) started: Instant,
}

impl Registry {
    /// Monotonic time in milliseconds, from a second before the start: never 0.
    pub(crate) fn now_ms(&self) -> u64 {
        monotonic_ms(self.started)
    }

    pub(crate) fn presence(&self) -> MutexGuard<'_, Presence> {
        // A panic while it was held cannot leave it half changed in a way that matters more than going on.
        self.presence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key of a session: never stored, derived anew each time.
    pub(crate) fn session_key(
        &self,
        account: AccountId,
        epoch: u64,
        salt: &[u8; 16],
    ) -> SessionKey {
        let (account, epoch) = (account.0.to_be_bytes(), epoch.to_be_bytes());
        let parts: [&[u8]; 4] = [self.secret.as_ref(), &account, &epoch, salt];
        SessionKey::from_bytes(Digest::derive(SESSION_KEY_CONTEXT, &parts).0)
    }

    /// Seals a datagram under its session's key.
    pub(crate) fn seal(&self, outgoing: &Outgoing) -> Datagram {
        let answer = &outgoing.answer;
        let session = self.session_key(AccountId(answer.session), answer.epoch, &outgoing.salt);
        answer.seal(&HelloKey::registry(&session, answer.boot))
    }

    /// Tells accounts that their version grew: those online get a nudge, the others see it when they
    /// come back. A nudge that cannot be sent costs its peer one interval.
    pub(crate) fn announce(&self, bumped: &Bumped) {
        let now_ms = self.now_ms();
        for (account, version) in bumped {
            let nudge = self.presence().nudge(*account, *version, now_ms);
            if let Some(nudge) = nudge
                && let Err(error) = self.socket.try_send_to(&self.seal(&nudge), nudge.address)
            {
                tracing::debug!(%error, "a nudge was not sent");
            }
        }
    }

    pub(crate) fn open_session(&self, seat: Seat) {
        self.presence().open(seat);
    }
}

/// Monotonic milliseconds since a second before `started`.
pub(crate) fn monotonic_ms(started: Instant) -> u64 {
    1000 + u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX - 1000)
}

/// Registry time: milliseconds since 1970.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
