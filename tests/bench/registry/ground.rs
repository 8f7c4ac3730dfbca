//! A registry with as many accounts and sessions as wanted, in a temporary folder.
//!
//! A million passwords cannot be hashed, so one account is made over the wire, and its rows are copied by SQL
//! for all others, with names, keys and salts of their own. What else the tables hold is copied as it is, so
//! this goes on working when they get another column. Everything but the registry's own secrets is the same at
//! each run.

use std::{fs, io, net::SocketAddr, path::PathBuf};

use harness::{ProgressLine, Registry, RegistryClient};
use registryd_proto::{Answer, Digest, Endpoints, KeyBinding, Password, PublicKey, Reply, Request};
use rusqlite::Connection;
use tempfile::TempDir;

use super::{
    people::{ASKER, EPOCH, FIRST, PASSWORD, binding, keys, name, salt},
    process::Process,
};

/// So many accounts have keys of their own that this can speak for. The others have bindings of these, under
/// peer keys that nobody holds: for a lookup it is the same, and a binding takes 70 µs to sign.
pub(crate) const SPOKEN_FOR: u64 = 6_000;

/// What the registry must allow: limits are not what is measured, but that of passwords is left as it is.
const CONFIG: &str = "
[connections]
max = 8192
per_source_max = 8192

[limits]
searches = { burst = 1000000000, every_ms = 1 }
requests = { burst = 1000000000, every_ms = 1 }
";

/// HELLOs a second on which the first interval is reckoned; the answers tell the true one.
const HELLO_PER_SECOND: u64 = 20_000;

/// Between two looks at the progress of seeding.
const STEP: u64 = 10_000;

/// A registry and what is known of it.
#[derive(Debug)]
pub(crate) struct Ground {
    registry: Registry,
    secret: [u8; 32],
    accounts: u64,
    sessions: u64,
    /// Resident memory with one account and one session, in bytes.
    idle_bytes: u64,
    _config: TempDir,
}

impl Ground {
    /// A running registry with so many accounts, the first of which have a session.
    ///
    /// # Errors
    /// Those of files and of SQLite.
    ///
    /// # Panics
    /// If the registry does not get ready, or does not do as its protocol says.
    pub(crate) fn lay(accounts: u64, sessions: u64) -> io::Result<Self> {
        let config = tempfile::tempdir()?;
        let file = config.path().join("registryd.toml");
        fs::write(&file, CONFIG)?;
        let file = file.to_string_lossy().into_owned();
        let mut registry = Registry::start_with(&["--config", &file], "warn");
        enrol(&registry);
        // Anew: checking passwords took memory that the allocator keeps.
        registry.restart();
        let idle_bytes = registry.daemon().resident_bytes();
        registry.daemon().stop();
        let mut ground =
            Self { registry, secret: [0; 32], accounts, sessions, idle_bytes, _config: config };
        ground.secret = ground.seed().map_err(io::Error::other)?;
        ground.registry.restart();
        Ok(ground)
    }

    /// How many accounts there are besides the one that asks.
    pub(crate) fn accounts(&self) -> u64 {
        self.accounts
    }

    /// How many sessions there are besides that of the one that asks.
    pub(crate) fn sessions(&self) -> u64 {
        self.sessions
    }

    /// The secret of all session keys.
    pub(crate) fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// Resident memory with one account and one session, in bytes.
    pub(crate) fn idle_bytes(&self) -> u64 {
        self.idle_bytes
    }

    /// The registry.
    pub(crate) fn registry(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// Its process.
    pub(crate) fn process(&mut self) -> Process {
        Process::of(self.registry.daemon().pid())
    }

    /// Where it listens, and its key.
    pub(crate) fn place(&self) -> (SocketAddr, PublicKey) {
        (self.registry.socket_address(), self.registry.key())
    }

    /// The database.
    pub(crate) fn database(&self) -> PathBuf {
        self.registry.data().join("registry.db")
    }

    /// Starts it again with fewer sessions, and the same accounts.
    ///
    /// # Errors
    /// Those of SQLite.
    pub(crate) fn shrink(&mut self, sessions: u64) -> io::Result<()> {
        self.registry.daemon().stop();
        let shrunk = || {
            let db = Connection::open(self.database())?;
            db.execute("DELETE FROM session WHERE account >= ?1", [number(FIRST + sessions)])?;
            set_interval(&db, sessions)
        };
        shrunk().map_err(io::Error::other)?;
        self.sessions = sessions;
        self.registry.restart();
        Ok(())
    }

    /// Copies the rows of the asker for all others, and returns the secret of session keys.
    fn seed(&self) -> rusqlite::Result<[u8; 32]> {
        let mut db = Connection::open(self.database())?;
        db.execute_batch(
            "PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF; PRAGMA cache_size = -500000;",
        )?;
        let secret =
            db.query_row("SELECT value FROM meta WHERE name = 'hello_secret'", [], |r| r.get(0))?;
        let epoch: i64 =
            db.query_row("SELECT epoch FROM account WHERE id = ?1", [number(ASKER)], |r| r.get(0))?;
        assert_eq!(epoch, number(EPOCH), "the epoch of a first login");
        let bindings = self.bindings();
        let progress = ProgressLine::begin("accounts written", Some(self.accounts));
        let all = db.transaction()?;
        {
            let mut account = copier(&all, "account", &["id", "username", "binding"], "id")?;
            let mut key = copier(&all, "peer_key", &["key", "account"], "account")?;
            let mut session = copier(&all, "session", &["account", "salt"], "account")?;
            for at in 0..self.accounts {
                let id = FIRST + at;
                let text = &bindings[(at % bindings.len() as u64) as usize];
                account.execute((number(id), name(id).as_str(), text))?;
                key.execute((peer_key(id), number(id)))?;
                if at < self.sessions {
                    session.execute((number(id), salt(id)))?;
                }
                if at % STEP == 0 {
                    progress.at(at, "");
                }
            }
        }
        set_interval(&all, self.sessions)?;
        all.commit()?;
        db.execute_batch("PRAGMA journal_mode = WAL;")?;
        progress.end(self.accounts, "");
        Ok(secret)
    }

    /// The bindings of those that can be spoken for, as the database holds them.
    fn bindings(&self) -> Vec<String> {
        let registry = self.registry.key();
        let json = |binding: &KeyBinding| serde_json::to_string(binding).expect("plain JSON");
        (FIRST..FIRST + self.accounts.clamp(1, SPOKEN_FOR))
            .map(|id| json(&binding(&registry, id, &keys("peer", id))))
            .collect()
    }
}

/// The asker's account and session, made as everybody makes them.
fn enrol(registry: &Registry) {
    let own = keys("peer", ASKER);
    let mut client = RegistryClient::connect(registry.socket_address(), registry.key(), &own);
    let binding = binding(&registry.key(), ASKER, &own);
    let password = || Password::new(PASSWORD.to_owned()).expect("a long password");
    let made = client.ask(&Request::CreateAccount {
        username: name(ASKER),
        password: password(),
        binding: binding.clone(),
        invite: None,
    });
    assert!(matches!(made, Answer::Ok(Reply::Account(_))), "{made:?}");
    let opened = client.ask(&Request::Login {
        username: name(ASKER),
        password: password(),
        binding,
        attempt: Digest::derive("p2pchat bench attempt 1", &[]),
        takeover: false,
        endpoints: Endpoints {
            peer: vec![([192, 0, 2, 7], 40_001).into()],
            room: vec![([192, 0, 2, 7], 40_002).into()],
        },
    });
    assert!(matches!(opened, Answer::Ok(Reply::Session(_))), "{opened:?}");
}

fn peer_key(id: u64) -> [u8; 32] {
    if id < FIRST + SPOKEN_FOR {
        *keys("peer", id).public().as_bytes()
    } else {
        Digest::derive("p2pchat bench silent key 1", &[&id.to_be_bytes()]).0
    }
}

/// Copies the row of the asker with `columns` given anew, in this order, and all others as they are.
fn copier<'db>(
    db: &'db Connection,
    table: &str,
    columns: &[&str],
    owner: &str,
) -> rusqlite::Result<rusqlite::Statement<'db>> {
    let mut info = db.prepare("SELECT name FROM pragma_table_info(?1)")?;
    let all: Vec<String> =
        info.query_map([table], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let rest: Vec<&str> = all.iter().map(String::as_str).filter(|c| !columns.contains(c)).collect();
    let given: Vec<String> = (1..=columns.len()).map(|n| format!("?{n}")).collect();
    let into = [columns, &rest].concat().join(", ");
    let from = given.iter().map(String::as_str).chain(rest).collect::<Vec<_>>().join(", ");
    db.prepare(&format!(
        "INSERT INTO {table} ({into}) SELECT {from} FROM {table} WHERE {owner} = {ASKER}"
    ))
}

/// As if it had run with so many online.
fn set_interval(db: &Connection, sessions: u64) -> rusqlite::Result<()> {
    let millis = (sessions * 1000 / HELLO_PER_SECOND).max(1000).to_string();
    db.execute(
        "INSERT INTO meta (name, value) VALUES ('interval_ms', ?1)
         ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        [millis.as_bytes()],
    )?;
    Ok(())
}

fn number(number: u64) -> i64 {
    i64::try_from(number).expect("far fewer accounts")
}
