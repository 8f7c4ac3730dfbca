//! Messages a second of one chat, end to end, with many in flight; delivered is synced on both sides. Beside
//! it, on the same disk: rows inserted into two SQLite databases in groups, each group synced in both.

use std::{
    io,
    path::Path,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use harness::Rpc;
use peerd_proto::control::{Send, Target, WaitUntil};
use rusqlite::Connection;

use crate::{row, title, two_users};

const MESSAGES: u32 = 20_000;
const CONNECTIONS: u32 = 4;
/// Of one connection: what peerd allows.
const IN_FLIGHT: u32 = 64;
/// The rows of one commit: two groups are in flight, one in each database.
const GROUP: u32 = CONNECTIONS * IN_FLIGHT / 2;
const BODY: &str = "sixty-four bytes of text, which is about what people write here.";

/// Measures.
///
/// # Errors
/// Those of stdout.
pub(crate) fn run() -> io::Result<()> {
    let (_registry, alice, bob) = two_users();
    let start = Instant::now();
    let delays: Vec<Duration> = thread::scope(|scope| {
        let clients: Vec<_> =
            (0..CONNECTIONS).map(|_| scope.spawn(|| deliver(&mut alice.rpc()))).collect();
        clients.into_iter().flat_map(|c| c.join().expect("peerd answers")).collect()
    });
    let time = start.elapsed();
    let shown = bob.history(&["alice"]).len().saturating_sub(1);
    let folder = tempfile::tempdir()?;
    let raw = insert_into_two(folder.path()).map_err(io::Error::other)?;
    let rate = |time: Duration| f64::from(MESSAGES) / time.as_secs_f64();
    title(&format!(
        "one chat, {MESSAGES} messages of {} bytes, {} in flight",
        BODY.len(),
        CONNECTIONS * IN_FLIGHT,
    ))?;
    row("delivered, synced on both sides", &format!("{:.0}/s", rate(time)))?;
    row("median time of one among them", &crate::milliseconds(crate::quantiles(delays).0))?;
    row("of them in bob's history (at most 10,000 are told)", &shown.to_string())?;
    row("rows into two SQLite databases, synced in both", &format!("{:.0}/s", rate(raw)))?;
    row("ratio", &format!("{:.2}", rate(time) / rate(raw)))
}

/// Keeps the window full until all are delivered.
fn deliver(rpc: &mut Rpc) -> Vec<Duration> {
    let send = || Send {
        to: Target::User("bob".parse().expect("a name")),
        body: BODY.to_owned(),
        wait: WaitUntil::Delivered,
        timeout_ms: Some(60_000),
        id: None,
        expires_ms: None,
    };
    let mut started = std::collections::HashMap::new();
    let mut delays = Vec::new();
    let (mut sent, mut delivered) = (0, 0);
    while delivered < MESSAGES / CONNECTIONS {
        while sent < MESSAGES / CONNECTIONS && sent - delivered < IN_FLIGHT {
            started.insert(rpc.send(send()), Instant::now());
            sent += 1;
        }
        let answer = rpc.read().expect("peerd answers");
        assert_eq!(answer["result"]["state"], "delivered", "{answer}");
        let id = answer["id"].as_u64().expect("the id of a request");
        delays.extend(started.remove(&id).map(|at| at.elapsed()));
        delivered += 1;
    }
    delays
}

/// Rows like entries, first into one database, then into the other.
fn insert_into_two(folder: &Path) -> rusqlite::Result<Duration> {
    let mut first = database(&folder.join("first.db"))?;
    let mut second = database(&folder.join("second.db"))?;
    let (groups, committed) = mpsc::sync_channel::<u32>(0);
    let start = Instant::now();
    let other =
        thread::spawn(move || committed.into_iter().try_for_each(|from| insert(&mut second, from)));
    for from in (0..MESSAGES).step_by(GROUP as usize) {
        insert(&mut first, from)?;
        if groups.send(from).is_err() {
            break;
        }
    }
    drop(groups);
    other.join().expect("the second writer does not panic")?;
    Ok(start.elapsed())
}

fn database(path: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open(path)?;
    db.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;
         CREATE TABLE entry (seq INTEGER PRIMARY KEY, header BLOB NOT NULL,
             signature BLOB NOT NULL, body TEXT NOT NULL) STRICT;",
    )?;
    Ok(db)
}

fn insert(db: &mut Connection, from: u32) -> rusqlite::Result<()> {
    let group = db.transaction()?;
    {
        let mut row = group.prepare_cached("INSERT INTO entry VALUES (?1, ?2, ?3, ?4)")?;
        for seq in from..(from + GROUP).min(MESSAGES) {
            row.execute((seq, [7_u8; 240].as_slice(), [8_u8; 64].as_slice(), BODY))?;
        }
    }
    group.commit()
}
