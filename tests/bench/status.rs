//! The whole-process time of `p2pctl status`, beside the least that a client can do.

use std::{
    io,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use harness::{Peer, binaries};

use crate::{milliseconds, quantiles, row, title, two_users};

const RUNS: usize = 200;

/// Measures both by turns, so that both see the same machine.
///
/// # Errors
/// Those of stdout.
pub(crate) fn run() -> io::Result<()> {
    let (_registry, alice, _bob) = two_users();
    let mut status = Vec::with_capacity(RUNS);
    let mut least = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        status.push(timed(p2pctl_status(&alice))?);
        least.push(timed(one_line(&alice))?);
    }
    let ((status, status_95), (least, least_95)) = (quantiles(status), quantiles(least));
    title(&format!("p2pctl status, whole process, {RUNS} runs"))?;
    row("p2pctl status, median", &milliseconds(status))?;
    row("p2pctl status, 95th percentile", &milliseconds(status_95))?;
    row("a program that exchanges one line, median", &milliseconds(least))?;
    row("a program that exchanges one line, 95th percentile", &milliseconds(least_95))?;
    row("ratio of the medians", &format!("{:.2}", status.as_secs_f64() / least.as_secs_f64()))
}

fn p2pctl_status(peer: &Peer) -> Command {
    let mut command = peer.bare_ctl();
    command.arg("--socket").arg(peer.socket()).arg("status");
    command
}

fn one_line(peer: &Peer) -> Command {
    let beside = binaries().p2pctl.with_file_name("one-line");
    let mut command = Command::new(beside);
    command.arg(peer.socket());
    command
}

fn timed(mut command: Command) -> io::Result<Duration> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let start = Instant::now();
    let status = command.status()?;
    let time = start.elapsed();
    if status.success() { Ok(time) } else { Err(io::Error::other("the program failed")) }
}
