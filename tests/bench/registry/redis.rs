//! What people would use instead: Redis, a key for each peer that expires unless it is set again.
//!
//! Its protocol is spoken by hand, as little of it as this takes. Redis checks no seal and answers no peer of
//! its own; it is the storing alone that is compared.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use harness::{DEADLINE, ProgressLine, eventually, has_program};

use super::{
    Wanted,
    blast::blast,
    crowd::Crowd,
    ground::Ground,
    people::Stride,
    process::{Cores, Process, run_here_on},
    report::{RedisRow, Spread},
    wire::Wire,
};

/// The program.
pub(crate) const PROGRAM: &str = "redis-server";

/// Commands of one write, and the most under way: as of HELLO.
const BATCH: usize = 64;
const UNDER_WAY: usize = 4 * BATCH;

/// The answer to a command that was done.
const DONE: &[u8] = b"+OK\r\n";

/// Sets keys and says HELLO by turns; `None` where there is no Redis.
///
/// # Errors
/// Those of starting it, and of the sockets.
pub(crate) fn measure(
    wanted: &Wanted,
    ground: &mut Ground,
    crowd: &mut Crowd,
    wire: &mut Wire,
) -> io::Result<Option<RedisRow>> {
    if !has_program(PROGRAM) {
        return Ok(None);
    }
    let sessions = ground.sessions();
    let mut redis = Redis::start()?;
    let empty = redis.process().memory().resident;
    for process in [ground.process(), redis.process()] {
        process.run_on(Cores::Others);
    }
    run_here_on(Cores::Last);
    let progress = ProgressLine::begin("keys of Redis", Some(wanted.rounds.into()));
    let (count, mut rounds) = (crowd.len(), Vec::new());
    let mut order = Stride::over(count);
    let mut per_second = 400_000.0;
    for done in 0..wanted.rounds {
        let hellos = crowd.seal((per_second * wanted.round.as_secs_f64()) as usize);
        let hello = blast(wire, &hellos, wanted.round, |_| {})?;
        per_second = hello.per_second * 1.5;
        let sets = redis.set(&mut order, usize::MAX, wanted.round)?;
        rounds.push((hello.per_second, sets));
        progress.at(u64::from(done) + 1, "");
    }
    redis.set(&mut Stride::over(count), count, Duration::from_secs(25))?;
    let full = redis.process().memory().resident;
    run_here_on(Cores::All);
    ground.process().run_on(Cores::All);
    progress.end(wanted.rounds.into(), "");
    #[expect(clippy::cast_precision_loss, reason = "few digits are shown")]
    let bytes_a_key = full.saturating_sub(empty) as f64 / sessions as f64;
    Ok(Some(RedisRow {
        sessions,
        version: version(),
        hello_per_second: Spread::of(rounds.iter().map(|round| round.0)),
        set_per_second: Spread::of(rounds.iter().map(|round| round.1)),
        of_redis: Spread::of(rounds.iter().map(|round| round.0 / round.1)),
        bytes_a_key,
    }))
}

fn version() -> String {
    let output = Command::new(PROGRAM).arg("--version").output();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    text.split_whitespace().find_map(|word| word.strip_prefix("v=")).unwrap_or("?").to_owned()
}

/// A running Redis that keeps nothing; killed when dropped.
struct Redis {
    child: Child,
    stream: TcpStream,
    _folder: tempfile::TempDir,
}

impl Redis {
    fn start() -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let free = TcpListener::bind(("127.0.0.1", 0))?;
        let place: SocketAddr = free.local_addr()?;
        drop(free);
        let log = File::create(folder.path().join("log"))?;
        let port = place.port().to_string();
        let child = Command::new(PROGRAM)
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log)
            .spawn()?;
        let stream = eventually("Redis serves", DEADLINE, || TcpStream::connect(place).ok());
        stream.set_nodelay(true)?;
        Ok(Self { child, stream, _folder: folder })
    }

    fn process(&self) -> Process {
        Process::of(self.child.id())
    }

    /// Sets keys in this order, so many or until the time is over; how many in a second.
    #[expect(clippy::cast_precision_loss, reason = "a rate is shown in few digits")]
    fn set(&mut self, order: &mut Stride, count: usize, time: Duration) -> io::Result<f64> {
        let start = Instant::now();
        let (mut asked, mut answered) = (0_usize, 0_usize);
        let (mut out, mut come) = (Vec::new(), [0; 64 * 1024]);
        let mut bytes = 0;
        loop {
            while asked - answered + BATCH <= UNDER_WAY && asked < count && start.elapsed() < time {
                out.clear();
                for at in order.by_ref().take(BATCH.min(count - asked)) {
                    write!(
                        out,
                        "*5\r\n$3\r\nSET\r\n$12\r\nsess:{at:07}\r\n$1\r\n1\r\n$2\r\nEX\r\n$2\r\n30\r\n"
                    )?;
                    asked += 1;
                }
                self.stream.write_all(&out)?;
            }
            if asked == answered {
                return Ok(answered as f64 / start.elapsed().as_secs_f64());
            }
            let length = self.stream.read(&mut come)?;
            if length == 0 || come[..length].contains(&b'-') {
                return Err(io::Error::other("Redis does not set a key"));
            }
            bytes += length;
            answered = bytes / DONE.len();
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
