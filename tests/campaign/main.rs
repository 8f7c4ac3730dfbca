//! `cargo faults`: the guarantees under every fault, as many schedules as wanted, and a report.
//!
//! First the cores in virtual time ([`simulated`]), then the checks themselves on planted faults, then the
//! real programs ([`real`]). It ends with exit code 1 if anything was lost, shown twice, out of order, or
//! broke another guarantee; the report then says how to see it again.

mod cli;
mod real;
mod report;
mod simulated;

use std::{
    env,
    io::{self, Write as _},
    process::ExitCode,
    thread,
    time::{Instant, SystemTime},
};

use clap::Parser as _;

use cli::Cli;
use report::Report;
use simulated::Extent;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "cargo faults: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all is as it must be.
fn run(cli: &Cli) -> io::Result<bool> {
    let started = Instant::now();
    let extent = cli.time.map_or(Extent::Schedules(cli.seeds), Extent::Time);
    let worlds = match cli.no_simulation {
        true => Vec::new(),
        false => simulated::run(cli.from, extent, cli.world.as_deref())
            .ok_or_else(|| io::Error::other("there is no world of this name"))?,
    };
    let planted = if cli.no_simulation { Vec::new() } else { simulated::planted() };
    let real = real::run(cli);
    let report = Report {
        schema: "p2pchat.faults/1",
        date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        commit: harness::commit(),
        command: command(),
        cores: thread::available_parallelism().map_or(1, usize::from),
        seconds: started.elapsed().as_secs(),
        worlds,
        planted,
        real,
    };
    report.write(&cli.report)?;
    write!(io::stdout(), "{report}")?;
    Ok(report.is_clean())
}

/// How somebody else runs the same.
fn command() -> String {
    let args: Vec<String> = env::args().skip(1).collect();
    ["cargo faults".to_owned()].into_iter().chain(args).collect::<Vec<_>>().join(" ")
}
