//! The part with the real programs: all killed at once again and again, then a soak of ten users.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use harness::{Judged, ProgressLine, SoakOptions, SoakReport, Users, UsersOptions, soak};
use p2pchat_history::Summary;
use sim::counts::Messages;

use crate::{
    cli::Cli,
    report::{Quantiles, Real},
};

/// Between two messages of a user while all is killed: fast enough that something is always under way.
const EVERY: Duration = Duration::from_millis(15);
/// P6 says 2 HELLO intervals and 10 s; a busy machine takes longer.
const HEALS_WITHIN: Duration = Duration::from_secs(60);
/// Violations told one by one.
const TOLD_MAX: usize = 20;

/// Runs what is asked for.
///
/// # Panics
/// If the programs do not start, or hang.
pub(crate) fn run(cli: &Cli) -> Vec<Real> {
    let mut runs = Vec::new();
    if cli.rounds > 0 {
        runs.push(rounds(cli.rounds, cli.from));
    }
    if !cli.soak.is_zero() {
        runs.push(soaked(cli.soak, cli.from));
    }
    runs
}

/// kill -9 of the registry and three peerds at one moment, so many times, while everybody writes to
/// everybody and to a room.
fn rounds(rounds: u32, seed: u64) -> Real {
    let started = Instant::now();
    let progress = ProgressLine::begin("all killed at once", Some(rounds.into()));
    let options = UsersOptions::new(&["ann", "ben", "cem"]).room("den", &[0, 1, 2]);
    let mut users = Users::start(&options);
    users.talk(EVERY, seed);
    users.kill_all_rounds(rounds.into(), seed, |done| progress.at(done, ""));
    users.finish();
    let judged = users.judge(&[0, 1, 2], HEALS_WITHIN);
    progress.end(rounds.into(), &found(judged.violations.len()));
    Real {
        name: "all programs killed at once".to_owned(),
        seconds: started.elapsed().as_secs(),
        messages: messages(&judged.summary),
        faults: BTreeMap::from([("kill -9 of everything".to_owned(), rounds.into())]),
        healing: Quantiles::of(vec![milliseconds(judged.after)]),
        memory_kib: None,
        violations: violations(&judged),
    }
}

fn violations(judged: &Judged) -> Vec<String> {
    let mut told: Vec<String> =
        judged.violations.iter().take(TOLD_MAX).map(ToString::to_string).collect();
    if !told.is_empty() {
        told.push(judged.keep().map_or_else(
            |error| format!("the history cannot be kept: {error}"),
            |path| format!("the history is kept in {}", path.display()),
        ));
    }
    told
}

/// Ten users in chats and three rooms, each with two messages a second.
fn soaked(time: Duration, seed: u64) -> Real {
    let started = Instant::now();
    let progress = ProgressLine::begin("soak", None);
    let told = move |step: &harness::Progress<'_>| {
        progress.at(step.calls, &format!("messages, {} faults", step.faults));
    };
    let options = SoakOptions { progress: Box::new(told), ..SoakOptions::default() };
    let report = soak(time, seed, options);
    let healing = report.faults.values().flat_map(|f| f.healed_after_ms.iter().copied()).collect();
    Real {
        name: format!("soak of {} users, {} s", report.users, report.duration_ms / 1000),
        seconds: started.elapsed().as_secs(),
        messages: messages(&report.summary),
        faults: report.faults.iter().map(|(name, f)| ((*name).to_owned(), f.count)).collect(),
        healing: Quantiles::of(healing),
        memory_kib: report.memory_early.zip(report.memory_end).map(|(a, b)| (a / 1024, b / 1024)),
        violations: unhealed(&report),
    }
}

fn unhealed(report: &SoakReport) -> Vec<String> {
    let mut told: Vec<String> =
        report.violations.iter().take(TOLD_MAX).map(ToString::to_string).collect();
    told.extend(
        report.history.iter().map(|path| format!("the history is kept in {}", path.display())),
    );
    if report.has_grown() == Some(true) {
        told.push(
            "the daemons take over a tenth more memory in the end than after the start".to_owned(),
        );
    }
    for (name, fault) in report.faults.iter().filter(|(_, fault)| fault.not_healed > 0) {
        told.push(format!(
            "{name}: not healed in time {} times of {}",
            fault.not_healed, fault.count
        ));
    }
    told
}

fn messages(summary: &Summary) -> Messages {
    Messages {
        accepted: summary.accepted,
        shown: summary.shown,
        lost: summary.lost,
        duplicated: summary.duplicated,
        misordered: summary.misordered,
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn found(violations: usize) -> String {
    if violations == 0 { String::new() } else { format!("{violations} VIOLATIONS") }
}
