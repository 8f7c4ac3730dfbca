//! From starting `p2pctl send` to the line at a `p2pctl listen` that runs on the other side.

use std::{
    io::{self, BufRead as _, BufReader},
    process::Stdio,
    time::{Duration, Instant},
};

use crate::{milliseconds, quantiles, row, title, two_users};

const RUNS: usize = 200;

/// Measures.
///
/// # Errors
/// Those of the pipes and stdout.
pub(crate) fn run() -> io::Result<()> {
    let (_registry, alice, bob) = two_users();
    let mut listen = bob.bare_ctl();
    listen.arg("--socket").arg(bob.socket()).args(["--json", "listen", "--after", "0"]);
    let mut listening = listen.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let stdout = listening.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let mut lines = BufReader::new(stdout).lines();
    let mut seen = Vec::with_capacity(RUNS);
    let mut acknowledged = Vec::with_capacity(RUNS);
    for n in 0..RUNS {
        let body = format!("run {n} of the latency figure");
        let start = Instant::now();
        let sending = alice.text_ctl().args(&["send", "bob", &body]).spawn();
        for line in lines.by_ref() {
            if line?.contains(&body) {
                break;
            }
        }
        seen.push(start.elapsed());
        // Waits by looking, so this one is coarse: only its order of magnitude counts.
        let code = sending.wait().code;
        acknowledged.push(start.elapsed());
        if code != Some(0) {
            return Err(io::Error::other("send failed"));
        }
    }
    listening.kill()?;
    listening.wait()?;
    let (median, worst): (Duration, Duration) = quantiles(seen);
    title(&format!("p2pctl send to the line at p2pctl listen, {RUNS} messages"))?;
    row("median", &milliseconds(median))?;
    row("95th percentile", &milliseconds(worst))?;
    row(
        "until send has exited (looked at every 20 ms), median",
        &milliseconds(quantiles(acknowledged).0),
    )
}
