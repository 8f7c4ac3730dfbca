//! Passwords: argon2id, off the runtime, never more at a time than there are cores.
//!
//! An unknown user costs the same as a wrong password: [`Passwords::verify`] without a hash runs against
//! a dummy of the same parameters. What a stored hash asks for is bounded before it is done, so that a
//! doctored database cannot make the registry allocate gigabytes.

use std::{sync::Arc, thread};

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{self, PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash},
};
use registryd_proto::Password;
use serde::Serialize;
use tokio::{
    sync::{AcquireError, Semaphore, TryAcquireError},
    task,
};

use crate::{random::Random, stats::Counter};

/// Memory of one hash in KiB: OWASP's first choice for argon2id with t=2, p=1.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// The most that a stored hash may ask for.
const STORED_MEMORY_KIB_MAX: u32 = 64 * 1024;
const STORED_PASSES_MAX: u32 = 10;
const STORED_LANES_MAX: u32 = 4;

/// Callers that wait for a core, for each core: at 20 ms a hash, more than a second of work.
const QUEUE_PER_CORE: usize = 64;

/// Why a password was neither right nor wrong.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The queue is full.
    #[error("too many passwords are being checked")]
    Overloaded,
    /// The stored hash cannot be read.
    #[error("a stored password hash cannot be used: {0}")]
    Stored(#[from] password_hash::phc::Error),
    /// The stored hash asks for more than is ever given.
    #[error("a stored password hash asks for too much work")]
    Expensive,
    /// Hashing failed.
    #[error("hashing failed: {0}")]
    Hash(#[from] password_hash::Error),
    /// The parameters are out of the algorithm's range.
    #[error("hashing failed: {0}")]
    Parameters(#[from] argon2::Error),
    /// The system gave no randomness.
    #[error("the system gave no randomness")]
    Randomness,
    /// The runtime is shutting down.
    #[error("the registry is stopping")]
    Stopping,
}

impl From<task::JoinError> for PasswordError {
    fn from(_: task::JoinError) -> Self {
        Self::Stopping
    }
}

impl From<AcquireError> for PasswordError {
    fn from(_: AcquireError) -> Self {
        Self::Stopping
    }
}

impl From<TryAcquireError> for PasswordError {
    fn from(error: TryAcquireError) -> Self {
        match error {
            TryAcquireError::Closed => Self::Stopping,
            TryAcquireError::NoPermits => Self::Overloaded,
        }
    }
}

/// How much there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Load {
    /// Passwords that are checked, or wait for a core.
    pub(crate) waiting: u64,
    /// How many may be.
    pub(crate) places: u64,
    /// Refused since the start, because all places were taken.
    pub(crate) refused: u64,
}

/// The one place where passwords are hashed and checked.
#[derive(Debug)]
pub(crate) struct Passwords {
    workers: Workers,
    cost: Params,
    random: Random,
    dummy: String,
    refused: Counter,
}

/// Who does the work.
#[derive(Debug)]
enum Workers {
    /// The runtime's threads, as many at a time as there are cores.
    Cores { cores: Arc<Semaphore>, queue: Arc<Semaphore>, places: usize },
    /// The caller itself, for a simulator.
    #[cfg(any(test, feature = "simulation"))]
    Caller,
}

impl Passwords {
    /// As wide as the machine. Hashes once, for the dummy.
    ///
    /// # Errors
    /// [`PasswordError`] if the system gives no randomness or memory.
    pub(crate) fn new() -> Result<Passwords, PasswordError> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let workers = Workers::Cores {
            cores: Arc::new(Semaphore::new(cores)),
            queue: Arc::new(Semaphore::new(cores * QUEUE_PER_CORE)),
            places: cores * QUEUE_PER_CORE,
        };
        Self::with(workers, Params::new(MEMORY_KIB, PASSES, LANES, None)?, Random::System)
    }

    /// At once, by the caller, and with the least work that the algorithm knows: it protects nothing.
    ///
    /// # Errors
    /// None in fact: the least work is in range.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn weak(random: Random) -> Result<Passwords, PasswordError> {
        let least = Params::new(Params::MIN_M_COST, 1, 1, None)?;
        Self::with(Workers::Caller, least, random)
    }

    fn with(workers: Workers, cost: Params, random: Random) -> Result<Passwords, PasswordError> {
        let dummy = hash(b"the password of nobody", &cost, &random)?;
        Ok(Self { workers, cost, random, dummy, refused: Counter::default() })
    }

    /// A PHC string for a new password.
    ///
    /// # Errors
    /// [`PasswordError::Overloaded`] before anything was done, and faults.
    pub(crate) async fn hash(&self, password: Password) -> Result<String, PasswordError> {
        let (cost, random) = (self.cost.clone(), self.random.clone());
        self.work(move || hash(password.expose(), &cost, &random)).await
    }

    /// Whether a password is the stored one. `None` is as slow as a wrong one.
    ///
    /// # Errors
    /// [`PasswordError::Overloaded`] before anything was done, and faults.
    pub(crate) async fn verify(
        &self,
        stored: Option<String>,
        password: Password,
    ) -> Result<bool, PasswordError> {
        let known = stored.is_some();
        let stored = stored.unwrap_or_else(|| self.dummy.clone());
        let right = self.work(move || verify(&stored, password.expose())).await?;
        Ok(right && known)
    }

    /// How much there is to do at the moment.
    pub(crate) fn load(&self) -> Load {
        let (free, places) = match &self.workers {
            Workers::Cores { queue, places, .. } => (queue.available_permits(), *places),
            #[cfg(any(test, feature = "simulation"))]
            Workers::Caller => (1, 1),
        };
        let waiting = places.saturating_sub(free) as u64;
        Load { waiting, places: places as u64, refused: self.refused.get() }
    }

    async fn work<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let (cores, queue) = match &self.workers {
            Workers::Cores { cores, queue, .. } => (cores, queue),
            #[cfg(any(test, feature = "simulation"))]
            Workers::Caller => return job(),
        };
        let place = queue.clone().try_acquire_owned().inspect_err(|_| self.refused.count())?;
        let core = cores.clone().acquire_owned().await?;
        // The permits go with the work: a caller that leaves does not free the core it still uses.
        task::spawn_blocking(move || {
            let _permits = (place, core);
            job()
        })
        .await?
    }
}

fn argon2(cost: &Params) -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, cost.clone())
}

fn hash(password: &[u8], cost: &Params, random: &Random) -> Result<String, PasswordError> {
    let salt: [u8; 16] = random.draw().map_err(|_| PasswordError::Randomness)?;
    Ok(argon2(cost).hash_password_with_salt(password, &salt)?.to_string())
}

fn verify(stored: &str, password: &[u8]) -> Result<bool, PasswordError> {
    let stored = PasswordHash::new(stored)?;
    let params = Params::try_from(&stored)?;
    if params.m_cost() > STORED_MEMORY_KIB_MAX
        || params.t_cost() > STORED_PASSES_MAX
        || params.p_cost() > STORED_LANES_MAX
    {
        return Err(PasswordError::Expensive);
    }
    match argon2(&params).verify_password(password, &stored) {
        Ok(()) => Ok(true),
        Err(password_hash::Error::PasswordInvalid) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password::new(text.to_owned()).expect("length")
    }

    #[tokio::test]
    async fn right_wrong_and_nobody() {
        let passwords = Passwords::new().expect("started");
        let stored = passwords.hash(password("correct horse")).await.expect("hashed");
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        let right = passwords.verify(Some(stored.clone()), password("correct horse")).await;
        assert!(right.expect("checked"));
        assert!(!passwords.verify(Some(stored), password("wrong horse")).await.expect("checked"));
        let nobody = passwords.verify(None, password("the password of nobody")).await;
        assert!(!nobody.expect("checked"), "the dummy lets nobody in");
    }

    #[test]
    fn hostile_parameters_are_refused_before_they_are_used() {
        let tail = "$c29tZXNhbHRzb21lc2FsdA$RdescudvJCsgt3ub+b7dWRWJTmaOsvPQCDkNLnq12s4";
        for parameters in ["m=4194304,t=2,p=1", "m=19456,t=11,p=1", "m=19456,t=2,p=5"] {
            let stored = format!("$argon2id$v=19${parameters}{tail}");
            let verdict = verify(&stored, b"anything");
            assert!(matches!(verdict, Err(PasswordError::Expensive)), "{parameters}: {verdict:?}");
        }
        for stored in ["", "plain text", "$argon2id$v=19$m=99999999999,t=1,p=1$x$y"] {
            assert!(verify(stored, b"anything").is_err(), "{stored}");
        }
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let passwords = Passwords::new().expect("started");
        let Workers::Cores { queue, .. } = &passwords.workers else { panic!("not the caller") };
        let places = queue.available_permits();
        let held = queue.clone().try_acquire_many_owned(places as u32).expect("all");
        let verdict = passwords.verify(None, password("correct horse")).await;
        assert!(matches!(verdict, Err(PasswordError::Overloaded)));
        let load = passwords.load();
        assert_eq!((load.waiting, load.refused), (load.places, 1), "it is counted");
        drop(held);
        assert!(passwords.verify(None, password("correct horse")).await.is_ok());
    }
}
