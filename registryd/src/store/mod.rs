//! What must survive: accounts, sessions and rooms, in one SQLite file.
//!
//! [`Store`] is a handle. One thread owns the writing connection and commits queued writes together
//! (WAL, synchronous=FULL): a write that returned is on disk. Another thread owns a reading connection,
//! so that look-ups never wait for a commit. Both queues are bounded; who comes to a full one is told so.
//!
//! The methods speak of accounts and rooms, never of SQL, so that another engine can stand behind them.
//! Only this module names rusqlite.
//!
//! Invariant: each method is one transaction. Nothing is answered to a caller before its commit.

mod account;
mod admin;
pub(crate) mod archive;
mod card;
pub(crate) mod check;
#[cfg(test)]
mod conformance;
mod counts;
mod invite;
mod membership;
mod room;
mod schema;
mod session;
#[cfg(any(test, feature = "simulation"))]
mod simulation;
#[cfg(test)]
mod tests;
mod worker;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use p2pchat_host::copy::CopyError;
use registryd_proto::Keypair;
use rusqlite::{Connection, Transaction};
use tokio::time;
use tokio_util::sync::CancellationToken;

pub(crate) use account::{Credentials, NewAccount, Profile, Standing};
pub(crate) use admin::{AccountRow, AccountState, Ended, RoomDetails, RoomSummary, SessionRow};
pub(crate) use card::Contact;
pub(crate) use counts::Counts;
pub(crate) use invite::{CodeHash, Invite, NewInvite};
pub(crate) use membership::member;
pub(crate) use room::{Change, NewRoom, RoomState};
pub(crate) use schema::SCHEMA_VERSION;
pub(crate) use session::{ActiveSession, Entry, LoginRequest, OpenedSession, ResumeRequest};
#[cfg(any(test, feature = "simulation"))]
pub(crate) use simulation::Memory;

use counts::Counted;
use worker::{Batch, Patience, Worker};

use crate::{instance::Begun, random::Random, stats::QueueStats};

/// A thread hangs if so many looks in a row find it so: time in which the process was stopped is one look.
const HUNG_LOOKS: u32 = 6;
/// The threads are asked at least so often whether they live.
const ASK_PAUSE_MAX: Duration = Duration::from_secs(2);

/// An account's number: also the id of its session, for it has one at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct AccountId(pub u64);

/// Accounts whose version grew, with the new version: to be nudged.
pub(crate) type Bumped = Vec<(AccountId, u64)>;

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A fault of the database or its disk.
    #[error("the database failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A stored value cannot be read.
    #[error("a stored value in {0} cannot be read")]
    Format(&'static str),
    /// No space is left: nothing of it happened.
    #[error("the registry's disk is full: nothing was changed")]
    Full,
    /// The commit failed: nothing of it happened.
    #[error("the database did not commit")]
    NotCommitted,
    /// Too much waits already: nothing of it happened.
    #[error("the registry has too much to do")]
    Overloaded,
    /// The thread of the store is gone.
    #[error("the store has stopped")]
    Stopped,
    /// The system gave no randomness.
    #[error("the system gave no randomness")]
    Randomness,
    /// The rules of accounts and rooms forbid it.
    #[error(transparent)]
    Rule(#[from] Rule),
}

/// What a request may run into though everything works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    /// The name of an account is taken, for ever.
    #[error("the user name is taken")]
    UsernameTaken,
    /// The peer key belongs to another account.
    #[error("this peer key belongs to another account")]
    KeyTaken,
    /// Another device is online.
    #[error("the account is online on another device; log in with takeover to replace it")]
    OnlineElsewhere,
    /// Another device took over.
    #[error("another device took over this account")]
    Superseded,
    /// The key is enrolled, but has no session.
    #[error("there is no session: log in first")]
    NoSession,
    /// No such account.
    #[error("no such user")]
    NoUser,
    /// No such room.
    #[error("no such room")]
    NoRoom,
    /// The name of a room is taken.
    #[error("the room name is taken")]
    RoomTaken,
    /// The caller or the user named is no member.
    #[error("not a member of the room")]
    NoMember,
    /// The room is by invitation.
    #[error("the room is by invitation only")]
    NotInvited,
    /// The caller's role is too low.
    #[error("your role in the room does not allow it")]
    RoleTooLow,
    /// The owner cannot leave others behind.
    #[error("the owner cannot leave: make another member the owner, or delete the room")]
    OwnerStays,
    /// The owner gives the role away, it does not lay it down.
    #[error("a room has one owner: make another member the owner instead")]
    OwnerGivesAway,
    /// An invitation to a room that anybody may join.
    #[error("the room needs no invitation")]
    NoInvitationNeeded,
    /// The operator disabled the account.
    #[error("this account is disabled: ask whoever runs the registry")]
    Disabled,
    /// The code of an invitation to the registry does not hold: why is not said.
    #[error("the invitation code is not valid: it is wrong, used up, expired or taken back")]
    InviteInvalid,
    /// No invitation of that number.
    #[error("no such invitation")]
    NoInvite,
    /// Too many of something.
    #[error("the limit of members, rooms or invitations is reached")]
    Full,
}

/// Why the database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// SQLite refused.
    #[error("cannot open the database {path}: {source}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The file is damaged. It is left as it is.
    #[error("the database {path} is damaged: restore it from a backup; nothing was changed")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// It was there and is gone, or empty.
    #[error(
        "the database {path} is lost or empty: restore it from a backup, or remove the key as well \
         to begin anew"
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Others can read it.
    #[error("{path} can be read by others: make it private (chmod 600) and consider it known")]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// A newer registryd wrote it.
    #[error(
        "the database {path} has schema {found}, this registryd knows up to {SCHEMA_VERSION}: \
         run the newer registryd, or restore the backup made before the upgrade"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// No copy can be made before a migration, so there is no migration.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// It belongs to another registry key.
    #[error("the database {path} belongs to another registry key: restore the key file with it")]
    OtherKey {
        /// The file.
        path: PathBuf,
    },
    /// The system gave no randomness or no thread.
    #[error("cannot start the store: {0}")]
    System(#[from] std::io::Error),
}

/// The handle to the store: cheap to clone. The threads end when the last one is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    writer: Worker,
    reader: Worker,
    keys: Arc<Keypair>,
    random: Random,
    /// `None`: a database in memory.
    path: Option<Arc<Path>>,
    counted: Arc<Counted>,
    writes: Arc<QueueStats>,
    reads: Arc<QueueStats>,
    /// The file was found damaged while it was in use.
    damaged: CancellationToken,
}

impl Store {
    /// Opens or makes the database, migrates it, and starts the threads. Blocking. A very large one is
    /// not read through yet: see [`check_if_large`](Self::check_if_large).
    ///
    /// # Errors
    /// [`OpenError`]; a damaged, newer or foreign database is left untouched.
    pub(crate) fn open(path: &Path, keys: Arc<Keypair>, begun: Begun) -> Result<Store, OpenError> {
        let random = Random::System;
        let connection = schema::open(path, &keys.public(), begun, &random)?;
        let reading = schema::open_reader(path)?;
        let (writes, reads) = (Arc::<QueueStats>::default(), Arc::<QueueStats>::default());
        Ok(Store {
            writer: Worker::start("store-writer", connection, Batch::Shared, writes.clone())?,
            reader: Worker::start("store-reader", reading, Batch::Single, reads.clone())?,
            keys,
            random,
            path: Some(path.into()),
            counted: Arc::default(),
            writes,
            reads,
            damaged: CancellationToken::new(),
        })
    }

    /// Reads all of a database that was too large to be checked before the start, beside those who use it:
    /// on a thread, for some seconds of a core, so it is for when everybody is served. Damage ends the store.
    pub(crate) fn check_if_large(&self) {
        let Some(path) = &self.path else { return };
        let begun = schema::open_reader(path).and_then(|connection| {
            match schema::is_small(&connection).map_err(|source| schema::cause(path, source))? {
                true => Ok(()),
                false => check_in_use(connection, path.clone(), self.damaged.clone()),
            }
        });
        if let Err(error) = begun {
            tracing::warn!(%error, "the database could not be checked");
        }
    }

    /// Ends when the store cannot go on: the disk failed, or one of its threads did.
    pub(crate) async fn failed(&self) {
        tokio::select! {
            () = self.writer.failed() => {}
            () = self.reader.failed() => {}
            () = self.damaged.cancelled() => {}
        }
    }

    /// Ends when a thread has not answered for `patience`: it hangs in the disk or in a job. Asks again
    /// and again, and calls `answered` each time that both have.
    pub(crate) async fn hung(&self, patience: Duration, answered: impl Fn()) {
        loop {
            let asked = async {
                self.writer.run(Patience::Waits, |_| Ok(())).await?;
                self.reader.run(Patience::Waits, |_| Ok(())).await
            };
            tokio::pin!(asked);
            let mut looks = 0;
            // A fault is an answer; a thread that ended is for `failed` to tell.
            while time::timeout(patience / HUNG_LOOKS, &mut asked).await.is_err() {
                looks += 1;
                if looks == HUNG_LOOKS {
                    return;
                }
            }
            answered();
            time::sleep((patience / HUNG_LOOKS).min(ASK_PAUSE_MAX)).await;
        }
    }

    /// What the writing and the reading thread have counted.
    pub(crate) fn queues(&self) -> (Arc<QueueStats>, Arc<QueueStats>) {
        (self.writes.clone(), self.reads.clone())
    }

    /// Whether the last write met a full disk.
    pub(crate) fn is_full(&self) -> bool {
        self.writes.is_full()
    }

    /// Whether callers are told to come back later.
    pub(crate) fn is_overloaded(&self) -> bool {
        let full = worker::QUEUE_JOBS_MAX as u64;
        self.writes.waiting() >= full || self.reads.waiting() >= full
    }

    async fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.queue_write(Patience::Refused, job).await
    }

    /// For the registry's own tasks, which cannot come back later.
    async fn write_in_line<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.queue_write(Patience::Waits, job).await
    }

    async fn queue_write<T: Send + 'static>(
        &self,
        patience: Patience,
        job: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let place = self.writes.enter();
        let job = move |db: &Connection| {
            let _place = place;
            job(db)
        };
        self.writer.run(patience, job).await
    }

    async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let place = self.reads.enter();
        let job = move |db: &Connection| {
            let _place = place;
            job(db)
        };
        self.reader.run(Patience::Refused, job).await
    }
}

/// Reads a whole database beside those that use it.
fn check_in_use(
    connection: Connection,
    path: Arc<Path>,
    damaged: CancellationToken,
) -> Result<(), OpenError> {
    let check = move || match schema::is_sound(&connection) {
        Ok(true) => tracing::debug!("the database is sound"),
        Ok(false) => {
            tracing::error!("{}", OpenError::Damaged { path: path.to_path_buf() });
            damaged.cancel();
        }
        Err(error) => tracing::warn!(%error, "the database could not be checked"),
    };
    thread::Builder::new().name("store-check".to_owned()).spawn(check)?;
    Ok(())
}

/// SQLite has signed integers only; our numbers stay far below the sign.
fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn from_sql(number: i64, place: &'static str) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| StoreError::Format(place))
}

fn bytes32(blob: &[u8], place: &'static str) -> Result<[u8; 32], StoreError> {
    blob.try_into().map_err(|_| StoreError::Format(place))
}

fn draw<const N: usize>(random: &Random) -> Result<[u8; N], StoreError> {
    random.draw().map_err(|_| StoreError::Randomness)
}

/// A transaction of its own, for what runs outside the writer's batches.
fn in_transaction<T>(
    connection: &mut Connection,
    job: impl FnOnce(&Transaction<'_>) -> Result<T, rusqlite::Error>,
) -> Result<T, rusqlite::Error> {
    let transaction = connection.transaction()?;
    let value = job(&transaction)?;
    transaction.commit()?;
    Ok(value)
}
