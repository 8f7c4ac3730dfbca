//! What a registry for a million must do, beside what was seen.
//!
//! A goal that was not met is told and fails no run: a machine may be slower, or shared.

use serde::Serialize;

use super::Report;

/// One of them.
#[derive(Debug, Serialize)]
pub(crate) struct Goal {
    /// What.
    pub(crate) what: &'static str,
    /// The bound.
    pub(crate) bound: String,
    /// What was seen.
    pub(crate) seen: String,
    /// Whether that is within the bound.
    pub(crate) met: bool,
}

/// What can be said of them, each for the most sessions and accounts that were measured.
pub(crate) fn of(report: &Report) -> Vec<Goal> {
    let mut goals = Vec::new();
    hello(report, &mut goals);
    search(report, &mut goals);
    online(report, &mut goals);
    restart(report, &mut goals);
    flood(report, &mut goals);
    goals
}

#[expect(clippy::cast_precision_loss, reason = "few digits are shown")]
fn hello(report: &Report, goals: &mut Vec<Goal>) {
    if let Some(row) = report.memory.last() {
        let mib = row.online_bytes as f64 / f64::from(1 << 20);
        goals.push(at_most("resident memory with all online", mib, 256.0, "MiB"));
    }
    if let [.., before, last] = report.memory.as_slice() {
        // What grows with sessions alone: buffers and caches that a busy registry has anyway are in both.
        let bytes = last.online_bytes.saturating_sub(before.online_bytes) as f64;
        let a_session = bytes / last.sessions.saturating_sub(before.sessions).max(1) as f64;
        goals.push(at_most("memory of a session more", a_session, 160.0, "bytes"));
    }
    if let Some(row) = report.hello.last() {
        goals.push(at_least("HELLO by plain echo", row.of_echo.median, 0.9));
    }
}

fn search(report: &Report, goals: &mut Vec<Goal>) {
    if let Some(row) = report.search_accounts.last() {
        goals.push(at_least("search by bare lookup", row.of_lookups.median, 0.5));
    }
    if let Some(row) = &report.search_under_hello {
        let what = "99 % of searches while all say HELLO";
        goals.push(at_most(what, row.p99_ms.median, 5.0, "ms"));
    }
}

#[expect(clippy::cast_precision_loss, reason = "few digits are shown")]
fn online(report: &Report, goals: &mut Vec<Goal>) {
    if let Some(row) = &report.online {
        goals.push(at_most("live sessions told offline", row.offline as f64, 0.0, ""));
    }
}

fn restart(report: &Report, goals: &mut Vec<Goal>) {
    let Some(row) = &report.restart else { return };
    goals.push(at_most("serving again after kill -9", row.ready_seconds, 2.0, "s"));
    let back = row.back_seconds.unwrap_or(f64::INFINITY);
    goals.push(at_most("99.9 % online again", back, row.back_seconds_max, "s"));
}

#[expect(clippy::cast_precision_loss, reason = "few digits are shown")]
fn flood(report: &Report, goals: &mut Vec<Goal>) {
    let Some(row) = &report.flood else { return };
    goals.push(at_most("99 % of searches in a flood of passwords", row.search_p99_ms, 100.0, "ms"));
    goals.push(at_most("logins without an answer", row.unanswered as f64, 0.0, ""));
    goals.push(at_most("resumes in vain meanwhile", row.resumes_failed as f64, 0.0, ""));
}

fn at_most(what: &'static str, seen: f64, bound: f64, unit: &str) -> Goal {
    let text = |value: f64| format!("{value:.1} {unit}").trim_end().to_owned();
    Goal { what, bound: format!("≤ {}", text(bound)), seen: text(seen), met: seen <= bound }
}

fn at_least(what: &'static str, seen: f64, bound: f64) -> Goal {
    Goal { what, bound: format!("≥ {bound:.2}"), seen: format!("{seen:.2}"), met: seen >= bound }
}
