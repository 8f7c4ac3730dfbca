//! HELLO against sessions: as fast as it goes beside two echoes, then at the interval that the answers tell.

use std::{
    fmt, io,
    sync::atomic::Ordering::Relaxed,
    thread,
    time::{Duration, Instant},
};

use harness::{ProgressLine, eventually};

use super::{
    Wanted,
    blast::{self, Blasted, blast},
    crowd::{Crowd, Told},
    echo::{ECHO_BYTES, Echo, Manner},
    ground::Ground,
    people::peers,
    process::{Cores, Memory, Process, run_here_on},
    report::{HelloRow, MemoryRow, Spread},
    wire::Wire,
};

/// Datagrams made ready for a second of a blast at first, and at the most: more than any machine answers.
const PER_SECOND_FIRST: f64 = 400_000.0;
const PER_SECOND_MAX: f64 = 2_000_000.0;

/// How long the crowd runs at the interval set before processor time is looked at, and how long it is
/// looked at, in intervals and at the least in time.
const PACED_LEAST: Duration = Duration::from_secs(5);
const PACED_MOST: Duration = Duration::from_secs(20);

/// All peers of a ground.
pub(crate) fn crowd(ground: &Ground) -> Crowd {
    Crowd::new(peers(ground.secret(), ground.sessions()))
}

/// Lets all say HELLO once, as fast as it goes; who is not heard is heard later.
///
/// # Errors
/// Those of the socket, or nobody answers.
pub(crate) fn online(ground: &Ground, crowd: &mut Crowd) -> io::Result<Wire> {
    let mut wire = Wire::connect(ground.place().0, blast::PATIENCE)?;
    crowd.meet(&mut wire)?;
    let all = crowd.seal(crowd.len());
    blast(&mut wire, &all, Duration::from_secs(60), |_| {})?;
    Ok(wire)
}

/// A row, and what did not go as it must.
///
/// # Errors
/// Those of the sockets.
pub(crate) fn measure(
    wanted: &Wanted,
    ground: &mut Ground,
    crowd: &mut Crowd,
    wire: &mut Wire,
) -> io::Result<(HelloRow, Vec<String>)> {
    let sessions = ground.sessions();
    let rounds = rounds(wanted, ground, crowd, wire)?;
    let (told, cpu, seconds, sent) = paced(wanted, ground, crowd)?;
    let mut violations = Vec::new();
    let wrong = rounds.wrong + told.wrong.load(Relaxed);
    if wrong > 0 {
        violations
            .push(format!("{sessions} sessions: {wrong} datagrams are no answers to a HELLO"));
    }
    let rates = |of: fn(&Round) -> f64| Spread::of(rounds.all.iter().map(of));
    let row = HelloRow {
        sessions,
        per_second: rates(|round| round.hello.per_second),
        echo_per_second: rates(|round| round.plain.per_second),
        batched_echo_per_second: rates(|round| round.batched.per_second),
        of_echo: rates(|round| round.hello.per_second / round.plain.per_second),
        of_batched_echo: rates(|round| round.hello.per_second / round.batched.per_second),
        cpu_micros: rates(|round| round.hello.micros),
        echo_cpu_micros: rates(|round| round.plain.micros),
        batched_echo_cpu_micros: rates(|round| round.batched.micros),
        of_echo_by_cpu: rates(|round| round.plain.micros / round.hello.micros.max(1e-9)),
        lost: rounds.lost,
        interval_ms: told.interval_ms.load(Relaxed),
        paced_per_second: sent / seconds,
        paced_cpu_percent: cpu / seconds * 100.0,
    };
    Ok((row, violations))
}

/// Memory now, with all online.
pub(crate) fn memory(ground: &mut Ground, ready: Memory) -> MemoryRow {
    let (sessions, idle_bytes) = (ground.sessions(), ground.idle_bytes());
    let now = ground.process().memory();
    #[expect(clippy::cast_precision_loss, reason = "few digits are shown")]
    let bytes_a_session = now.resident.saturating_sub(idle_bytes) as f64 / sessions as f64;
    MemoryRow {
        sessions,
        idle_bytes,
        ready_bytes: ready.resident,
        online_bytes: now.resident,
        peak_bytes: now.peak,
        bytes_a_session,
    }
}

/// All three by turns.
#[derive(Debug, Clone, Copy)]
struct Round {
    hello: Pace,
    plain: Pace,
    batched: Pace,
}

/// How fast one of them went.
#[derive(Debug, Clone, Copy)]
struct Pace {
    per_second: f64,
    /// Processor time that one answer took the process that gave it.
    micros: f64,
}

/// A blast, and what it took `process`.
#[expect(clippy::cast_precision_loss, reason = "few digits are shown")]
fn timed(
    process: Process,
    blast: impl FnOnce() -> io::Result<Blasted>,
) -> io::Result<(Pace, Blasted)> {
    let before = process.cpu_seconds();
    let blasted = blast()?;
    let seconds = process.cpu_seconds() - before;
    let micros = seconds * 1e6 / (blasted.answered.max(1) as f64);
    Ok((Pace { per_second: blasted.per_second, micros }, blasted))
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Round { hello, plain, batched } = self;
        write!(f, "{:.0}/s at {:.2} µs", hello.per_second, hello.micros)?;
        write!(f, ", echo {:.0}/s at {:.2} µs", plain.per_second, plain.micros)?;
        write!(f, ", batched {:.0}/s at {:.2} µs", batched.per_second, batched.micros)
    }
}

#[derive(Debug, Default)]
struct Rounds {
    all: Vec<Round>,
    lost: u64,
    wrong: u64,
}

fn rounds(
    wanted: &Wanted,
    ground: &mut Ground,
    crowd: &mut Crowd,
    wire: &mut Wire,
) -> io::Result<Rounds> {
    let [plain, batched] = [Manner::Plain, Manner::Batched].map(Echo::start);
    let (plain, batched) = (plain?, batched?);
    for process in [ground.process(), plain.process(), batched.process()] {
        process.run_on(Cores::Others);
    }
    run_here_on(Cores::Last);
    let [mut plain_wire, mut batched_wire] =
        [&plain, &batched].map(|echo| Wire::connect(echo.address(), blast::PATIENCE));
    let name = format!("HELLO of {} sessions", ground.sessions());
    let progress = ProgressLine::begin(&name, Some(wanted.rounds.into()));
    let mut rounds = Rounds::default();
    let mut per_second = PER_SECOND_FIRST;
    for done in 0..wanted.rounds {
        let count = (per_second * wanted.round.as_secs_f64()) as usize;
        let hellos = crowd.seal(count);
        let (mut seen, mut wrong) = (0_u64, 0_u64);
        let (hello, blasted) = timed(ground.process(), || {
            blast(wire, &hellos, wanted.round, |datagram| {
                seen += 1;
                wrong += u64::from(!crowd.check(datagram, seen));
            })
        })?;
        drop(hellos);
        let echoes = vec![[7; ECHO_BYTES]; count];
        let echo = |wire: &mut io::Result<Wire>, process| -> io::Result<Pace> {
            let wire = wire.as_mut().map_err(|error| io::Error::from(error.kind()))?;
            Ok(timed(process, || blast(wire, &echoes, wanted.round, |_| {}))?.0)
        };
        let plain = echo(&mut plain_wire, plain.process())?;
        let batched = echo(&mut batched_wire, batched.process())?;
        let fastest = hello.per_second.max(plain.per_second).max(batched.per_second);
        per_second = (fastest * 1.5).min(PER_SECOND_MAX);
        rounds.lost += blasted.lost;
        rounds.wrong += wrong;
        let of = Round { hello, plain, batched };
        rounds.all.push(of);
        progress.at(u64::from(done) + 1, &of.to_string());
    }
    let last = rounds.all.last().map(ToString::to_string).unwrap_or_default();
    progress.end(wanted.rounds.into(), &last);
    run_here_on(Cores::All);
    ground.process().run_on(Cores::All);
    Ok(rounds)
}

/// Lets all say HELLO at the interval set: what was told, processor time in seconds, in how many, and the
/// HELLOs of that time.
#[expect(clippy::cast_precision_loss, reason = "a rate is shown in few digits")]
fn paced(
    wanted: &Wanted,
    ground: &mut Ground,
    crowd: &mut Crowd,
) -> io::Result<(Told, f64, f64, f64)> {
    let told = Told::of(crowd.len());
    let process = ground.process();
    let place = ground.place().0;
    let spread_ms = crowd.interval_ms();
    let (running, cpu, seconds, sent) = thread::scope(|scope| {
        let running = scope.spawn(|| crowd.run(place, &told, spread_ms));
        let stop = told.stop_at_end();
        let patience = PACED_MOST.min(wanted.round * 5);
        eventually("the first HELLOs are answered", patience + PACED_LEAST, || {
            running.is_finished() || told.answered.load(Relaxed) > 0
        });
        let sent = told.sent.load(Relaxed);
        let (start, before) = (Instant::now(), process.cpu_seconds());
        let time = (wanted.round * 5).clamp(Duration::from_secs(1), PACED_MOST);
        harness::never("the crowd ends by itself", time, || running.is_finished());
        let seconds = start.elapsed().as_secs_f64();
        let cpu = process.cpu_seconds() - before;
        let sent = told.sent.load(Relaxed) - sent;
        drop(stop);
        (running.join(), cpu, seconds, sent)
    });
    running.map_err(|_| io::Error::other("the crowd panicked"))??;
    Ok((told, cpu, seconds, sent as f64))
}
