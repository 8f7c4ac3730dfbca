//! Searches, many under way on one TLS connection; and what a bare lookup in the same table does.

use std::{
    collections::VecDeque,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    time::{Duration, Instant},
};

use registryd_proto::{
    Answer, PresenceState, PublicKey, Reply, Request, Username, frame, frame::Kind, tls,
};
use rusqlite::{Connection, OpenFlags};
use rustls::{ClientConnection, StreamOwned};

use super::{
    crowd::Told,
    people::{ASKER, FIRST, Stride, keys, name},
};

/// Requests under way when as many as possible are wanted.
pub(crate) const UNDER_WAY: usize = 64;

/// Answers of which one is read whole, unless all are.
const SAMPLE: usize = 32;

/// How long a read waits before the time is looked at.
const PATIENCE: Duration = Duration::from_millis(2);

/// How late our own timer may make a search.
const TIMER: Duration = Duration::from_millis(10);

/// An answer takes no longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// What is searched, how fast, and how closely the answers are read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan<'a> {
    /// Searches go to the first so many accounts, in an order of no meaning.
    pub(crate) among: u64,
    /// The most under way.
    pub(crate) under_way: usize,
    /// Searches in a second; `None`: as many as are answered.
    pub(crate) per_second: Option<f64>,
    /// Every answer is read whole; else some are.
    pub(crate) read_all: bool,
    /// Whoever is searched must be told online if these know that it is.
    pub(crate) live: Option<&'a Told>,
}

impl Plan<'_> {
    /// From when the next answer is waited for. Whoever is held up by a registry that does not read waits as
    /// well; a few milliseconds are those of our own timer.
    #[expect(clippy::cast_precision_loss, reason = "a moment, to microseconds")]
    fn asked_at(&self, start: Instant, asked: u64) -> Instant {
        let now = Instant::now();
        let Some(rate) = self.per_second else { return now };
        let due = start + Duration::from_secs_f64(asked as f64 / rate);
        if now.saturating_duration_since(due) > TIMER { due } else { now }
    }
}

/// What the searches saw.
#[derive(Debug, Default)]
pub(crate) struct Searched {
    /// Answered.
    pub(crate) count: u64,
    /// In how many seconds.
    pub(crate) seconds: f64,
    /// Of each, from writing to reading, in microseconds.
    pub(crate) micros: Vec<u32>,
    /// Answers read whole.
    pub(crate) read: u64,
    /// Of these, of users told offline whose HELLO was answered in time.
    pub(crate) offline: u64,
    /// Of users told offline whose HELLO was not: this machine lost it, or said it too late.
    pub(crate) silent: u64,
    /// Answers that were errors, or of another user.
    pub(crate) wrong: u64,
    /// One of those that were wrong.
    pub(crate) example: Option<String>,
}

impl Searched {
    /// Answers in a second.
    #[expect(clippy::cast_precision_loss, reason = "a rate is shown in few digits")]
    pub(crate) fn per_second(&self) -> f64 {
        self.count as f64 / self.seconds.max(1e-9)
    }

    /// Of a thousand, so many took no longer than this, in milliseconds.
    pub(crate) fn per_mille_ms(&mut self, share: usize) -> f64 {
        self.micros.sort_unstable();
        let last = self.micros.len().saturating_sub(1);
        let at = (self.micros.len() * share / 1000).min(last);
        self.micros.get(at).map_or(0.0, |micros| f64::from(*micros) / 1000.0)
    }
}

/// A search under way.
#[derive(Debug, Clone, Copy)]
struct Asked {
    number: u64,
    since: Instant,
    /// What was known when it was asked.
    live_until: Option<Instant>,
}

/// A TLS connection that asks.
#[derive(Debug)]
pub(crate) struct Searcher {
    stream: StreamOwned<ClientConnection, TcpStream>,
    incoming: Vec<u8>,
}

impl Searcher {
    /// Connects as the asker.
    ///
    /// # Errors
    /// Those of the socket.
    pub(crate) fn connect((place, key): (SocketAddr, PublicKey)) -> io::Result<Self> {
        let config =
            tls::client_config(&keys("peer", ASKER), Some(key)).map_err(io::Error::other)?;
        let connection =
            ClientConnection::new(config, tls::server_name()).map_err(io::Error::other)?;
        let socket = TcpStream::connect(place)?;
        socket.set_nodelay(true)?;
        let mut stream = StreamOwned::new(connection, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        stream.sock.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, incoming: Vec::new() })
    }

    /// Searches until `until` says so, and waits for the answers under way.
    ///
    /// # Errors
    /// Those of the socket; a registry that closes or does not answer is one.
    pub(crate) fn run(
        &mut self,
        plan: Plan<'_>,
        until: impl Fn(Duration) -> bool,
    ) -> io::Result<Searched> {
        let mut order = Stride::over(usize::try_from(plan.among).unwrap_or(usize::MAX).max(1));
        let mut waiting: VecDeque<Asked> = VecDeque::with_capacity(plan.under_way);
        let mut searched = Searched::default();
        let mut requests = Vec::new();
        let mut asked = 0_u64;
        let start = Instant::now();
        loop {
            let over = until(start.elapsed());
            let due = plan
                .per_second
                .map_or(u64::MAX, |rate| (start.elapsed().as_secs_f64() * rate) as u64);
            requests.clear();
            while !over && waiting.len() < plan.under_way && asked < due {
                let number = FIRST + order.next().unwrap_or(0) as u64;
                write_request(&mut requests, &name(number))?;
                let live_until = plan.live.map(|told| told.live_until(number));
                waiting.push_back(Asked { number, since: plan.asked_at(start, asked), live_until });
                asked += 1;
            }
            if !requests.is_empty() {
                self.stream.write_all(&requests)?;
                self.stream.flush()?;
            }
            match waiting.front() {
                None if over => break,
                Some(first) if first.since.elapsed() > ANSWER_WITHIN => {
                    return Err(io::Error::from(io::ErrorKind::TimedOut));
                }
                _ => {}
            }
            self.read(&mut waiting, &mut searched, plan)?;
        }
        searched.seconds = start.elapsed().as_secs_f64();
        Ok(searched)
    }

    /// Takes what has come; returns after a moment if nothing does.
    fn read(
        &mut self,
        waiting: &mut VecDeque<Asked>,
        searched: &mut Searched,
        plan: Plan<'_>,
    ) -> io::Result<()> {
        let mut chunk = [0; 64 * 1024];
        let length = match self.stream.read(&mut chunk) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => length,
            Err(error)
                if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
            {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        self.incoming.extend_from_slice(&chunk[..length]);
        let now = Instant::now();
        let mut from = 0;
        while let Some(body) = next_frame(&self.incoming[from..]) {
            let Some(asked) = waiting.pop_front() else {
                return Err(io::Error::other("an answer to nothing"));
            };
            from += 4 + body.len();
            let micros = now.saturating_duration_since(asked.since).as_micros();
            searched.micros.push(u32::try_from(micros).unwrap_or(u32::MAX));
            searched.count += 1;
            if plan.read_all || searched.count.is_multiple_of(SAMPLE as u64) {
                judge(searched, &asked, body);
            }
        }
        self.incoming.drain(..from);
        Ok(())
    }
}

fn judge(searched: &mut Searched, asked: &Asked, body: &[u8]) {
    searched.read += 1;
    let name = name(asked.number);
    let presence = match frame::decode::<Answer>(body) {
        Ok(Answer::Ok(Reply::User(view))) if view.username == name => view.presence,
        _ => {
            searched.wrong += 1;
            let text = || String::from_utf8_lossy(body).chars().take(300).collect();
            searched.example.get_or_insert_with(text);
            return;
        }
    };
    let Some(live_until) = asked.live_until else { return };
    if presence == PresenceState::Online {
        return;
    }
    if Instant::now() < live_until {
        searched.offline += 1;
        searched.example.get_or_insert_with(|| format!("{name} is told offline"));
    } else {
        searched.silent += 1;
    }
}

fn write_request(into: &mut Vec<u8>, username: &Username) -> io::Result<()> {
    let request = Request::Search { username: username.clone() };
    let json = frame::encode(Kind::Request, &request).map_err(io::Error::other)?;
    into.extend_from_slice(&(json.len() as u32).to_be_bytes());
    into.extend_from_slice(&json);
    Ok(())
}

fn next_frame(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.get(..u32::from_be_bytes(*length) as usize)
}

/// Rows found in a second by the query of a search, prepared once, over the same table: the limit.
///
/// # Errors
/// Those of SQLite.
#[expect(clippy::cast_precision_loss, reason = "a rate is shown in few digits")]
pub(crate) fn lookups(database: &Path, among: u64, time: Duration) -> rusqlite::Result<f64> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(database, flags)?;
    let mut query = db.prepare(
        "SELECT id, username, binding, endpoints, serial, epoch, version
         FROM account WHERE username = ?1 AND deleted = 0",
    )?;
    let mut order = Stride::over(usize::try_from(among).unwrap_or(usize::MAX).max(1));
    let (start, mut count, mut bytes) = (Instant::now(), 0_u64, 0_usize);
    while start.elapsed() < time {
        let username = name(FIRST + order.next().unwrap_or(0) as u64);
        bytes += query.query_row([username.as_str()], |row| {
            let text = |at| row.get_ref(at).and_then(|value| Ok(value.as_str()?.len()));
            let numbers = [row.get::<_, i64>(0)?, row.get(4)?, row.get(5)?, row.get(6)?];
            Ok(text(1)? + text(2)? + text(3)? + numbers.len())
        })?;
        count += 1;
    }
    // What was read is used, so that nothing of it is left out.
    assert!(bytes > 0 || count == 0, "rows have content");
    Ok(count as f64 / start.elapsed().as_secs_f64())
}
