//! `cargo figures registry`: a million peers from one process against a real registry, over loopback.
//!
//! Everything that is compared is measured in the same run, by turns, for machines are shared and uneven: an
//! echo beside HELLO, a bare lookup in the same table beside search. The generator speaks the protocol by
//! `registryd-proto` alone. What comes out is a report ([`report`]); exit code 1 says that something did not
//! go as it must, never that something was slow.

mod blast;
mod crowd;
mod echo;
mod flood;
mod ground;
mod hello;
mod load;
mod lookups;
mod people;
mod process;
mod redis;
mod report;
mod search;
mod wire;

use std::{
    env, fs,
    io::{self, Write as _},
    path::PathBuf,
    thread,
    time::{Duration, Instant, SystemTime},
};

use clap::{Args, ValueEnum};
use p2pchat_host::duration;

pub(crate) use echo::{Manner, serve as serve_echo};

use ground::Ground;
use report::{Machine, Report};

/// From so many sessions or accounts on, in powers of ten.
const LEAST: u64 = 1000;

/// What is asked for on the command line.
#[derive(Debug, Args)]
pub(crate) struct Wanted {
    /// The most sessions; each power of ten from 1000 up to it is measured as well.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    sessions: u64,
    /// The most accounts; never fewer than sessions.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    accounts: u64,
    /// How long all sessions stay online and are searched.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse, default_value = "10m")]
    time: Duration,
    /// Passwords at once.
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    logins: u64,
    /// Rounds of each thing that is compared to another.
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: u32,
    /// How long one thing is measured in one round.
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "2s")]
    round: Duration,
    /// Measures these alone.
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    only: Vec<Part>,
    /// Measures with the most sessions and accounts alone, and draws no lines.
    #[arg(long)]
    most_only: bool,
    /// Writes the report here as Markdown; beside it, ending in `.json`, for programs, and the drawings.
    #[arg(long, value_name = "FILE", default_value = "target/figures/registry.md")]
    report: PathBuf,
}

/// A part of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// HELLO against sessions, with memory and processor time.
    Hello,
    /// Search against accounts and sessions, and while all say HELLO.
    Search,
    /// Keys of Redis that expire, beside HELLO.
    Redis,
    /// All sessions online for a long time.
    Online,
    /// kill -9, and who is online again when.
    Restart,
    /// Thousands of passwords at once.
    Flood,
}

impl Wanted {
    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    fn sizes(&self, most: u64) -> Vec<u64> {
        let tens = (0..).map(|n| LEAST * 10_u64.pow(n)).take_while(|size| *size < most);
        let mut sizes: Vec<u64> = if self.most_only { Vec::new() } else { tens.collect() };
        sizes.push(most);
        sizes
    }

    fn accounts(&self) -> u64 {
        self.accounts.max(self.sessions)
    }
}

/// Measures, writes the report, and returns whether all went as it must.
///
/// # Errors
/// Those of files, sockets and SQLite.
///
/// # Panics
/// If the registry does not get ready.
pub(crate) fn run(wanted: &Wanted) -> io::Result<bool> {
    let started = Instant::now();
    let mut report = Report {
        schema: "p2pchat.figures.registry/1",
        commit: harness::commit(),
        command: command(),
        release: !cfg!(debug_assertions),
        machine: machine(),
        ..Report::default()
    };
    for size in wanted.sizes(wanted.accounts()) {
        let most = size == wanted.accounts();
        if !most && !wanted.wants(Part::Hello) && !wanted.wants(Part::Search) {
            continue;
        }
        let mut ground = Ground::lay(size, if most { wanted.sessions } else { size })?;
        measure(wanted, &mut ground, most, &mut report)?;
        if most && wanted.wants(Part::Search) {
            fewer_sessions(wanted, &mut ground, &mut report)?;
        }
    }
    report.date = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    report.seconds = started.elapsed().as_secs();
    let text = report.write(&wanted.report)?;
    io::stdout().write_all(text.as_bytes())?;
    Ok(report.is_clean())
}

/// What is measured at each size.
fn measure(
    wanted: &Wanted,
    ground: &mut Ground,
    most: bool,
    report: &mut Report,
) -> io::Result<()> {
    let ready = ground.process().memory();
    let mut crowd = hello::crowd(ground);
    let mut wire = hello::online(ground, &mut crowd)?;
    if wanted.wants(Part::Hello) {
        let row = hello::measure(wanted, ground, &mut crowd, &mut wire)?;
        report.violations.extend(row.1);
        report.hello.push(row.0);
        report.memory.push(hello::memory(ground, ready));
    }
    if wanted.wants(Part::Search) {
        report.search_accounts.push(lookups::measure(wanted, ground, &mut report.violations)?);
    }
    if !most {
        return Ok(());
    }
    if wanted.wants(Part::Redis) {
        report.redis = redis::measure(wanted, ground, &mut crowd, &mut wire)?;
    }
    load::measure(wanted, ground, &mut crowd, report)?;
    Ok(())
}

/// Search among all accounts while fewer and fewer of them are online.
fn fewer_sessions(wanted: &Wanted, ground: &mut Ground, report: &mut Report) -> io::Result<()> {
    report.search_sessions.extend(report.search_accounts.last().cloned());
    let sizes = wanted.sizes(wanted.sessions);
    for size in sizes.into_iter().rev().skip(1) {
        ground.shrink(size)?;
        let mut crowd = hello::crowd(ground);
        hello::online(ground, &mut crowd)?;
        report.search_sessions.push(lookups::measure(wanted, ground, &mut report.violations)?);
    }
    report.search_sessions.reverse();
    Ok(())
}

fn machine() -> Machine {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let memory = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
    let kib: u64 = memory.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0);
    Machine {
        cores: thread::available_parallelism().map_or(1, usize::from),
        processor: field(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
        memory_mib: kib / 1024,
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
    }
}

/// How somebody else runs the same.
fn command() -> String {
    let args: Vec<String> = env::args().skip(1).collect();
    ["cargo figures".to_owned()].into_iter().chain(args).collect::<Vec<_>>().join(" ")
}
