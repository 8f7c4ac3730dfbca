//! The part of the Markdown on what happens with all online: Redis beside it, a long time, a restart, a flood.

use std::fmt::{self, Write as _};

use super::{
    FloodRow, OnlineRow, RedisRow, Report, RestartRow,
    markdown::{mib, rate, ratio},
};

/// What must be shown.
pub(crate) fn goals(f: &mut String, report: &Report) -> fmt::Result {
    if report.goals.is_empty() {
        return Ok(());
    }
    f.write_str("## What must be shown\n\n| what | bound | seen | |\n|---|---|---|---|\n")?;
    for goal in &report.goals {
        let met = if goal.met { "met" } else { "**not met**" };
        writeln!(f, "| {} | {} | {} | {met} |", goal.what, goal.bound, goal.seen)?;
    }
    f.write_char('\n')
}

/// All of it.
pub(crate) fn write(f: &mut String, report: &Report) -> fmt::Result {
    redis(f, report.redis.as_ref())?;
    report.online.as_ref().map_or(Ok(()), |row| online(f, row))?;
    report.restart.as_ref().map_or(Ok(()), |row| restart(f, row))?;
    report.flood.as_ref().map_or(Ok(()), |row| flood(f, row))
}

fn redis(f: &mut String, row: Option<&RedisRow>) -> fmt::Result {
    let Some(row) = row else {
        return f.write_str("## Redis\n\nredis-server is not installed, or was not asked for.\n\n");
    };
    writeln!(
        f,
        "## Redis\n\n`SET key 1 EX 30` to Redis {}, 256 under way on one connection: it stores, and checks \
         no seal.\n\n| sessions | HELLO/s | SET/s | of Redis | bytes a key |\n|---|---|---|---|---|",
        row.version
    )?;
    let (hello, set, of) =
        (rate(row.hello_per_second), rate(row.set_per_second), ratio(row.of_redis));
    writeln!(f, "| {} | {hello} | {set} | {of} | {:.0} |\n", row.sessions, row.bytes_a_key)
}

fn online(f: &mut String, row: &OnlineRow) -> fmt::Result {
    writeln!(
        f,
        "## All online\n\n{} sessions for {:.0} s, each saying HELLO every {:.1} s: {} HELLOs, {} answered. \
         {} searches of {} different peers: **{} told offline** though their HELLO \
         was answered in time, {} whose HELLO was lost or late; {} answered wrongly; 99 % within {:.2} ms. The \
         registry took {:.1} % of one core, {} at the end, {} at the most. The generator was never later \
         than {} ms.\n",
        row.sessions,
        row.seconds,
        f64::from(row.interval_ms) / 1000.0,
        row.sent,
        row.answered,
        row.searched,
        row.different,
        row.offline,
        row.silent,
        row.wrong,
        row.p99_ms,
        row.cpu_percent,
        mib(row.resident_bytes),
        mib(row.peak_bytes),
        row.late_ms,
    )
}

fn restart(f: &mut String, row: &RestartRow) -> fmt::Result {
    let back =
        row.back_seconds.map_or("not waited for any longer".to_owned(), |s| format!("{s:.1} s"));
    writeln!(
        f,
        "## Restart\n\nkill -9 with {} sessions, and a start: ready after {:.2} s; 99.9 % online after that \
         within: {back} (interval {:.1} s).\n",
        row.sessions,
        row.ready_seconds,
        f64::from(row.interval_ms) / 1000.0,
    )
}

fn flood(f: &mut String, row: &FloodRow) -> fmt::Result {
    writeln!(
        f,
        "## Passwords at once\n\n{} logins at once, half by enrolled keys, half by strangers who guess: \
         {:.1} s until the last was answered.\n",
        row.logins, row.seconds
    )?;
    writeln!(
        f,
        "| let in | wrong password | told when to come again | other answers | no answer | cut and came again |\n\
         |---|---|---|---|---|---|\n| {} | {} | {} | {} | {} | {} |\n",
        row.granted, row.refused, row.told_later, row.otherwise, row.unanswered, row.cut
    )?;
    writeln!(
        f,
        "Meanwhile {} searches: half within {:.1} ms, 99 % within {:.1} ms (before: {:.1} ms). {} resumes by \
         an enrolled key, {} in vain, the longest {:.0} ms. Memory {} before, {} at the most.\n",
        row.searches,
        row.search_p50_ms,
        row.search_p99_ms,
        row.search_p99_before_ms,
        row.resumes,
        row.resumes_failed,
        row.resume_max_ms,
        mib(row.resident_before_bytes),
        mib(row.resident_most_bytes),
    )
}
