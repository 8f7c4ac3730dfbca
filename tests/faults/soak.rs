//! A short soak: the long one is a command of its own.

use std::{env, time::Duration};

use harness::{Progress, SoakOptions, soak};

/// Unless `P2P_FAULT_SOAK_SECONDS` says otherwise.
const SECONDS: u64 = 20;

#[expect(clippy::print_stderr, reason = "whoever runs it for long sees that it goes on")]
fn show(progress: &Progress<'_>) {
    eprintln!("{progress:?}");
}

/// Rows 2, 3, 4 and 14: ten users in chats and three rooms go on talking while daemons are killed and paused
/// by chance.
#[test]
fn ten_users_lose_and_double_nothing_while_their_daemons_are_killed_and_paused() {
    let told = |name: &str| env::var(name).ok().map(|n| n.parse().expect("a number"));
    let seconds = told("P2P_FAULT_SOAK_SECONDS").unwrap_or(SECONDS);
    let seed = told("P2P_FAULT_SEED").unwrap_or(1);
    let options = SoakOptions { progress: Box::new(show), ..SoakOptions::default() };
    let report = soak(Duration::from_secs(seconds), seed, options);
    let shown: Vec<String> = report.violations.iter().take(20).map(ToString::to_string).collect();
    assert!(
        report.is_clean(),
        "seed {seed}: {} violations; the history is in {:?}\n{}\n{:?}",
        report.violations.len(),
        report.history,
        shown.join("\n"),
        report.faults
    );
    assert!(report.summary.accepted > 0 && report.summary.shown > 0, "{:?}", report.summary);
    let memory = (report.memory_early, report.memory_end);
    assert!(memory.0.is_some() && memory.1.is_some(), "memory was looked at");
    show_figures(&report);
}

#[expect(clippy::print_stderr, reason = "the figures of a run by hand")]
fn show_figures(report: &harness::SoakReport) {
    let memory = (report.memory_early, report.memory_end, report.in_order_after_ms);
    eprintln!("{:?}\n{:?}\n{memory:?}", report.summary, report.faults);
}
