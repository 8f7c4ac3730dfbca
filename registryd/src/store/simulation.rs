//! The store in memory, for a simulator: one connection, on which every caller runs its job at once.
//!
//! The transactions are those of the store on disk, so that an image taken between two requests is what a
//! crash at that moment leaves.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use registryd_proto::Keypair;
use rusqlite::{Connection, MAIN_DB};
use tokio_util::sync::CancellationToken;

use super::{Store, schema, worker::Worker};
use crate::{instance::Begun, random::Random};

/// A database in memory.
#[derive(Debug)]
pub(crate) struct Memory(Arc<Mutex<Connection>>);

impl Memory {
    /// An empty database with a store over it.
    pub(crate) fn new(keys: &Arc<Keypair>, random: &Random) -> (Memory, Store) {
        static MIGRATED: OnceLock<Vec<u8>> = OnceLock::new();
        // The schema is made once; what belongs to one registry is drawn for each.
        let image = MIGRATED.get_or_init(|| {
            let mut connection = Connection::open_in_memory().expect("memory for a database");
            schema::prepare(&mut connection, &keys.public(), Begun::Anew, random)
                .expect("the migrations of a new database");
            connection.execute_batch("DELETE FROM meta").expect("a table of the schema");
            serialize(&mut connection)
        });
        Self::open(image, Begun::Anew, keys, random)
    }

    /// The database of an image with a store over it.
    pub(crate) fn open(
        image: &[u8],
        begun: Begun,
        keys: &Arc<Keypair>,
        random: &Random,
    ) -> (Memory, Store) {
        let mut connection = Connection::open_in_memory().expect("memory for a database");
        connection
            .deserialize_read_exact(MAIN_DB, image, image.len(), false)
            .expect("the image of a database");
        schema::prepare(&mut connection, &keys.public(), begun, random)
            .expect("an image that a registry with this key left");
        let connection = Arc::new(Mutex::new(connection));
        let store = Store {
            writer: Worker::Caller(connection.clone()),
            reader: Worker::Caller(connection.clone()),
            keys: keys.clone(),
            random: random.clone(),
            path: None,
            counted: Arc::default(),
            writes: Arc::default(),
            reads: Arc::default(),
            damaged: CancellationToken::new(),
        };
        (Memory(connection), store)
    }

    /// What is committed.
    pub(crate) fn image(&self) -> Vec<u8> {
        serialize(&mut self.connection())
    }

    /// Lets every commit that changes something fail, as a full disk does, or no longer.
    pub(crate) fn refuse_commits(&self, refuse: bool) {
        let hook = refuse.then_some(|| true);
        self.connection().commit_hook(hook).expect("a connection of our own");
    }

    /// Takes the newest record of every room out of its log.
    pub(crate) fn cut_logs(&self) {
        self.change("DELETE FROM record WHERE epoch = (SELECT epoch FROM room WHERE id = room)");
    }

    /// Forgets the interval in force.
    pub(crate) fn forget_interval(&self) {
        self.change("DELETE FROM meta WHERE name = 'interval_ms'");
    }

    /// Forgets all sessions.
    pub(crate) fn forget_sessions(&self) {
        self.change("DELETE FROM session");
    }

    fn change(&self, sql: &'static str) {
        self.connection().execute_batch(sql).expect("a change of our own tables");
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serialize(connection: &mut Connection) -> Vec<u8> {
    connection.serialize(MAIN_DB).expect("memory for an image").to_vec()
}
