//! What all parts of a running registry share.
//!
//! Presence is behind a mutex that is held for a few map operations and never across an await; sealing
//! and opening datagrams happens outside it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use registryd_proto::{
    Digest, Keypair,
    hello::{Datagram, HelloKey, SessionKey},
};
use tokio::sync::Notify;
use zeroize::Zeroizing;

use crate::{
    clock::{Clock, PresenceClock},
    config::Config,
    limits::Limits,
    outlet::Outlet,
    password::Passwords,
    presence::{Outgoing, Presence, Seat, Secret, SessionKeys},
    random::Random,
    stats::Stats,
    store::{AccountId, ActiveSession, Bumped, Store, StoreError},
};

const SESSION_KEY_CONTEXT: &str = "p2pchat registry session key 1";

/// Sessions read at once at a start: half a megabyte.
const SESSIONS_PER_READ: u32 = 10_000;

/// Why a registry does not begin.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system gave no randomness.
    #[error("the system gave no randomness")]
    Randomness,
}

/// What a registry runs on.
pub(crate) struct Surroundings {
    pub(crate) clock: Clock,
    pub(crate) random: Random,
    pub(crate) passwords: Passwords,
    pub(crate) limits: Limits,
    pub(crate) outlet: Outlet,
    /// Where peers send HELLO.
    pub(crate) port: u16,
}

/// The state of a running registry. No Debug: it holds the secret of all session keys.
pub(crate) struct Registry {
    /// Changes at a reload.
    config: RwLock<Arc<Config>>,
    pub(crate) keys: Arc<Keypair>,
    pub(crate) store: Store,
    pub(crate) passwords: Passwords,
    pub(crate) limits: Limits,
    pub(crate) outlet: Outlet,
    pub(crate) port: u16,
    /// Told when presence has arrivals for watchers.
    pub(crate) arrived: Notify,
    pub(crate) presence: Mutex<Presence>,
    pub(crate) secret: Zeroizing<[u8; 32]>,
    /// The boot id.
    boot: u64,
    clock: Clock,
    presence_clock: PresenceClock,
    pub(crate) stats: Arc<Stats>,
}

impl Registry {
    /// A new boot over what the store holds.
    pub(crate) async fn begin(
        config: Config,
        keys: Arc<Keypair>,
        store: Store,
        surroundings: Surroundings,
    ) -> Result<Registry, BeginError> {
        let Surroundings { clock, random, passwords, limits, outlet, port } = surroundings;
        let boot = random.draw().map(u64::from_be_bytes).map_err(|_| BeginError::Randomness)?;
        let interval = store.interval().await?;
        let presence_clock = PresenceClock::new(&clock);
        let now_ms = presence_clock.look(&clock);
        let presence = Presence::new(boot, config.hello.pace(), interval, now_ms);
        let registry = Registry {
            secret: Zeroizing::new(store.hello_secret().await?),
            boot,
            arrived: Notify::new(),
            presence: Mutex::new(presence),
            config: RwLock::new(Arc::new(config)),
            keys,
            store,
            passwords,
            limits,
            outlet,
            port,
            clock,
            presence_clock,
            stats: Arc::default(),
        };
        registry.begin_presence().await?;
        Ok(registry)
    }

    /// Lets presence know every session, and keeps the interval for the next start.
    async fn begin_presence(&self) -> Result<(), BeginError> {
        let interval_ms = self.presence().kept_interval_ms();
        self.store.set_interval(Duration::from_millis(u64::from(interval_ms))).await?;
        let mut page = self.store.sessions(AccountId(0), SESSIONS_PER_READ).await?;
        while let Some(last) = page.last() {
            let next = self.store.sessions(last.account, SESSIONS_PER_READ);
            let open = async {
                // It does not stand still: it reads.
                self.now_ms();
                for &ActiveSession { account, epoch, salt, version } in &page {
                    self.open_session(Seat { account, epoch, salt, version });
                }
            };
            // In this order: the store reads the next ones while these are opened.
            let (next, ()) = tokio::join!(biased; next, open);
            page = next?;
        }
        Ok(())
    }

    /// The configuration in force.
    pub(crate) fn config(&self) -> Arc<Config> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another one from here on.
    pub(crate) fn set_config(&self, config: Config) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }

    /// The time of presence in milliseconds: monotonic, but for what the registry stood still. Never 0.
    pub(crate) fn now_ms(&self) -> u64 {
        self.presence_clock.look(&self.clock)
    }

    /// Registry time: milliseconds since 1970.
    pub(crate) fn unix_ms(&self) -> u64 {
        self.clock.unix_ms()
    }

    pub(crate) fn presence(&self) -> MutexGuard<'_, Presence> {
        // A panic while it was held cannot leave it half changed in a way that matters more than going on.
        self.presence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key of a session: never stored, derived from what is.
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

    /// The keys of both directions, derived if they are not known yet.
    pub(crate) fn session_keys(
        &self,
        account: AccountId,
        epoch: u64,
        secret: Secret,
    ) -> SessionKeys {
        match secret {
            Secret::Keys(keys) => keys,
            Secret::Salt(salt) => {
                let session = self.session_key(account, epoch, &salt);
                let registry = HelloKey::registry(&session, self.boot);
                SessionKeys { peer: HelloKey::peer(&session), registry }
            }
        }
    }

    /// Seals a datagram under its session's key.
    pub(crate) fn seal(&self, outgoing: Outgoing) -> Datagram {
        let Outgoing { answer, secret, .. } = outgoing;
        let keys = self.session_keys(AccountId(answer.session), answer.epoch, secret);
        answer.seal(&keys.registry)
    }

    /// Tells accounts that their version grew: those online get a nudge, the others see it when they
    /// come back. A nudge that cannot be sent costs its peer one interval.
    pub(crate) fn announce(&self, bumped: &Bumped) {
        let now_ms = self.now_ms();
        for (account, version) in bumped {
            let nudge = self.presence().nudge(*account, *version, now_ms);
            if let Some(nudge) = nudge {
                self.stats.hello.nudges.count();
                let address = nudge.address;
                self.outlet.send(&self.seal(nudge), address);
            }
        }
    }

    pub(crate) fn open_session(&self, seat: Seat) {
        self.presence().open(seat);
    }
}
