//! Passwords: argon2id, on threads of its own, one fewer than there are cores: however many passwords come,
//! searches and resumes have a core that does nothing else. Who finds the queue full is told so.
//!
//! Each thread keeps the memory of its last hash for the next one (19 MiB): the allocator gives it back to
//! the system only while it has not seen the size before. It is the same memory each time, so what passwords
//! take is bounded by the number of threads.
//!
//! An unknown user costs the same as a wrong password: [`Passwords::verify`] without a hash runs against
//! a dummy of the same parameters. What a stored hash asks for is bounded before it is done, so that a
//! doctored database cannot make the registry allocate gigabytes.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{self, PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash},
};
use registryd_proto::Password;
use serde::Serialize;
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot,
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

/// Callers that wait, for each thread: at 20 ms a hash, more than a second of work.
const QUEUE_PER_THREAD: usize = 64;

/// More threads than this are for machines on which somebody else wants to do something as well.
const THREADS_MAX: usize = 16;

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
    /// The system gave no thread.
    #[error("cannot start a thread for passwords: {0}")]
    Thread(#[from] std::io::Error),
    /// A thread ended by a fault.
    #[error("the thread that checked a password ended")]
    Stopped,
}

/// How much there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Load {
    /// Passwords that wait for a thread.
    pub(crate) waiting: u64,
    /// How many may be.
    pub(crate) places: u64,
    /// Refused since the start, because all places were taken.
    pub(crate) refused: u64,
}

impl Workers {
    /// `None`: the caller works itself.
    fn jobs(&self) -> Option<&mpsc::Sender<Job>> {
        match self {
            Self::Threads(jobs) => Some(jobs),
            #[cfg(any(test, feature = "simulation"))]
            Self::Caller => None,
        }
    }
}

type Job = Box<dyn FnOnce() + Send>;

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
    /// Threads of their own. They end when this is dropped and the queue is empty.
    Threads(mpsc::Sender<Job>),
    /// The caller itself, for a simulator.
    #[cfg(any(test, feature = "simulation"))]
    Caller,
}

impl Passwords {
    /// As wide as the machine. Hashes once, for the dummy.
    ///
    /// # Errors
    /// [`PasswordError`] if the system gives no randomness, memory or threads.
    pub(crate) fn new() -> Result<Passwords, PasswordError> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let workers = start(cores.saturating_sub(1).clamp(1, THREADS_MAX))?;
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
        let jobs = self.workers.jobs();
        let (free, places) = jobs.map_or((1, 1), |jobs| (jobs.capacity(), jobs.max_capacity()));
        let waiting = places.saturating_sub(free) as u64;
        Load { waiting, places: places as u64, refused: self.refused.get() }
    }

    async fn work<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let Some(jobs) = self.workers.jobs() else { return job() };
        let (done, answer) = oneshot::channel();
        // A caller that went away needs no answer, and no work.
        let job: Job = Box::new(move || {
            if !done.is_closed() {
                let _ = done.send(job());
            }
        });
        jobs.try_send(job).map_err(|error| match error {
            TrySendError::Closed(_) => PasswordError::Stopped,
            TrySendError::Full(_) => {
                self.refused.count();
                PasswordError::Overloaded
            }
        })?;
        answer.await.map_err(|_| PasswordError::Stopped)?
    }
}

fn start(threads: usize) -> Result<Workers, PasswordError> {
    let (jobs, queue) = mpsc::channel::<Job>(threads * QUEUE_PER_THREAD);
    let queue = Arc::new(Mutex::new(queue));
    for _ in 0..threads {
        let queue = queue.clone();
        // The lock is held while waiting for a job, never while doing one.
        let next = move || queue.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        thread::Builder::new().name("password".to_owned()).spawn(move || {
            while let Some(job) = next() {
                job();
            }
        })?;
    }
    Ok(Workers::Threads(jobs))
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
        let jobs = passwords.workers.jobs().expect("not the caller");
        let held = jobs.try_reserve_many(jobs.max_capacity()).expect("all");
        let verdict = passwords.verify(None, password("correct horse")).await;
        assert!(matches!(verdict, Err(PasswordError::Overloaded)));
        let load = passwords.load();
        assert_eq!((load.waiting, load.refused), (load.places, 1), "it is counted");
        drop(held);
        assert!(passwords.verify(None, password("correct horse")).await.is_ok());
    }
}
