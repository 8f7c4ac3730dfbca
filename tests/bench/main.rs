//! `cargo figures [NAME]…`: what the programs cost, measured with the real binaries on this machine.
//!
//! Names: `status`, `latency`, `throughput`, `size`; without one all of these. Each prints a small table beside
//! something to compare with, taken in the same run. Run by hand, in release; nothing here is a test.
//!
//! `cargo figures registry` is another matter: a registry under the load of a million peers, with a report
//! (`registry/mod.rs`).

mod latency;
mod registry;
mod size;
mod status;
mod throughput;

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, Subcommand, ValueEnum};
use harness::{Peer, Registry};

/// What the programs cost on this machine.
#[derive(Debug, Parser)]
#[command(name = "cargo figures", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Measures these; without, all of them.
    figures: Vec<Figure>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A registry under the load of a million peers, and a report.
    Registry(registry::Wanted),
    /// Sends back datagrams, for `registry` to compare with.
    #[command(hide = true)]
    Echo { manner: registry::Manner },
}

/// A small measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Figure {
    /// The whole-process time of `p2pctl status`.
    Status,
    /// From `p2pctl send` to the line at `p2pctl listen`.
    Latency,
    /// Messages a second of one chat.
    Throughput,
    /// Memory of idle daemons, and sizes of the programs.
    Size,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.command {
        Some(Command::Registry(wanted)) => registry::run(wanted),
        Some(Command::Echo { manner }) => registry::serve_echo(*manner).map(|()| true),
        None => measure(&cli.figures).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "cargo figures: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(figures: &[Figure]) -> io::Result<()> {
    let all = Figure::value_variants().iter();
    for figure in all.filter(|figure| figures.is_empty() || figures.contains(figure)) {
        match figure {
            Figure::Status => status::run()?,
            Figure::Latency => latency::run()?,
            Figure::Throughput => throughput::run()?,
            Figure::Size => size::run()?,
        }
    }
    Ok(())
}

/// One line of a table.
fn row(what: &str, value: &str) -> io::Result<()> {
    writeln!(io::stdout(), "  {what:<52} {value:>14}")
}

fn title(text: &str) -> io::Result<()> {
    writeln!(io::stdout(), "\n{text}")
}

fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}

/// The median and the 95th percentile.
fn quantiles(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() * 95 / 100])
}

/// Two users that let each other write, quiet in their logs.
fn two_users() -> (Registry, Peer, Peer) {
    let registry = Registry::start_with(&[], "warn");
    let [alice, bob] = ["alice", "bob"].map(|name| {
        let mut options = harness::PeerOptions::default();
        "warn".clone_into(&mut options.log_filter);
        let peer = Peer::start_with(name, options);
        peer.create_account(&registry.address()).ok();
        peer.login(&[]).ok();
        peer.ctl(&["policy", "--default", "allow"]).ok();
        peer
    });
    alice.ctl(&["send", "bob", "warm"]).ok();
    (registry, alice, bob)
}
