//! `cargo figures [NAME]…`: what the programs cost, measured with the real binaries on this machine.
//!
//! Names: `status`, `latency`, `throughput`, `size`; without one all. Each prints a small table beside
//! something to compare with, taken in the same run. Run by hand, in release; nothing here is a test.

mod latency;
mod size;
mod status;
mod throughput;

use std::{
    env,
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use harness::{Peer, Registry};

/// A measurement, by name.
type Figure = (&'static str, fn() -> io::Result<()>);

const FIGURES: [Figure; 4] = [
    ("status", status::run),
    ("latency", latency::run),
    ("throughput", throughput::run),
    ("size", size::run),
];

fn main() -> ExitCode {
    let names: Vec<String> = env::args().skip(1).collect();
    for name in &names {
        if !FIGURES.iter().any(|(known, _)| known == name) {
            let _ = writeln!(io::stderr(), "no figure {name}");
            return ExitCode::from(2);
        }
    }
    for (name, run) in FIGURES {
        if (names.is_empty() || names.iter().any(|n| n == name)) && run().is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
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
