//! The report as Markdown.

use std::fmt::{self, Write as _};

use super::{Report, SearchRow, Spread, events, plot::Drawn};

/// All of it.
pub(crate) fn text(report: &Report, plots: &[Drawn]) -> String {
    let mut text = String::new();
    // Writing into a String never fails.
    let _ = write(&mut text, report, plots);
    text
}

fn write(f: &mut String, report: &Report, plots: &[Drawn]) -> fmt::Result {
    head(f, report)?;
    events::goals(f, report)?;
    hello(f, report)?;
    memory(f, report)?;
    search(f, "Search against accounts, all of them online", &report.search_accounts)?;
    search(f, "Search against sessions, among all accounts", &report.search_sessions)?;
    if let Some(row) = &report.search_under_hello {
        search(f, "Search while all say HELLO at the interval set", std::slice::from_ref(row))?;
    }
    events::write(f, report)?;
    for plot in plots {
        writeln!(f, "![{}]({})\n", plot.title, plot.file)?;
    }
    if !report.violations.is_empty() {
        writeln!(f, "## Violations\n")?;
        report.violations.iter().try_for_each(|violation| writeln!(f, "- {violation}"))?;
    }
    f.truncate(f.trim_end().len());
    f.write_char('\n')
}

fn head(f: &mut String, report: &Report) -> fmt::Result {
    let machine = &report.machine;
    writeln!(f, "# A registry under load: report of {}\n", report.date)?;
    let build = if report.release { "release" } else { "debug: the figures say nothing" };
    writeln!(
        f,
        "Commit {}, `{}`, {build}, {} s.\n",
        report.commit, report.command, report.seconds
    )?;
    writeln!(
        f,
        "{} cores ({}), {} MiB of memory, Linux {}. The generator runs on the same machine, on one core of \
         its own while HELLOs are counted. Where there are several values they are median (least to most) \
         of rounds taken by turns with what they are compared to.\n",
        machine.cores, machine.processor, machine.memory_mib, machine.kernel
    )?;
    let verdict = if report.is_clean() { "No violation." } else { "**Violations: see below.**" };
    writeln!(f, "{verdict}\n")
}

fn hello(f: &mut String, report: &Report) -> fmt::Result {
    if report.hello.is_empty() {
        return Ok(());
    }
    f.write_str(
        "## HELLO\n\nAs fast as it goes, from one thread; the echoes send back 64 bytes.\n\n",
    )?;
    f.write_str("| sessions | HELLO/s | echo/s | batched echo/s | of echo | of batched echo | lost |\n|---|---|---|---|---|---|---|\n")?;
    for row in &report.hello {
        writeln!(
            f,
            "| {} | {} | {} | {} | {} | {} | {} |",
            row.sessions,
            rate(row.per_second),
            rate(row.echo_per_second),
            rate(row.batched_echo_per_second),
            ratio(row.of_echo),
            ratio(row.of_batched_echo),
            row.lost,
        )?;
    }
    f.write_str("\nProcessor time that one took whoever answered: less a matter of who else is at work on the machine.\n\n")?;
    f.write_str("| sessions | HELLO | echo | batched echo | HELLOs by echoes for the same time |\n|---|---|---|---|---|\n")?;
    for row in &report.hello {
        let [hello, echo, batched] =
            [row.cpu_micros, row.echo_cpu_micros, row.batched_echo_cpu_micros].map(micros);
        let of = ratio(row.of_echo_by_cpu);
        writeln!(f, "| {} | {hello} | {echo} | {batched} | {of} |", row.sessions)?;
    }
    f.write_str("\nAt the interval that the answers tell.\n\n")?;
    f.write_str("| sessions | interval | HELLO/s | of one core |\n|---|---|---|---|\n")?;
    for row in &report.hello {
        let (seconds, cpu) = (f64::from(row.interval_ms) / 1000.0, row.paced_cpu_percent);
        let (sessions, per_second) = (row.sessions, row.paced_per_second);
        writeln!(f, "| {sessions} | {seconds:.1} s | {per_second:.0} | {cpu:.1} % |")?;
    }
    f.write_char('\n')
}

fn memory(f: &mut String, report: &Report) -> fmt::Result {
    if report.memory.is_empty() {
        return Ok(());
    }
    f.write_str("## Memory of the registry\n\n")?;
    f.write_str("| sessions | with one session | when it serves | all online | peak | bytes a session, all counted |\n|---|---|---|---|---|---|\n")?;
    for row in &report.memory {
        writeln!(
            f,
            "| {} | {} | {} | {} | {} | {:.0} |",
            row.sessions,
            mib(row.idle_bytes),
            mib(row.ready_bytes),
            mib(row.online_bytes),
            mib(row.peak_bytes),
            row.bytes_a_session,
        )?;
    }
    f.write_char('\n')
}

fn search(f: &mut String, title: &str, rows: &[SearchRow]) -> fmt::Result {
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(f, "## {title}\n\nOne TLS connection, 64 under way.\n")?;
    f.write_str("| accounts | sessions | searches/s | lookups/s | of lookups | p50 | p99 |\n|---|---|---|---|---|---|---|\n")?;
    for row in rows {
        writeln!(
            f,
            "| {} | {} | {} | {} | {} | {} | {} |",
            row.accounts,
            row.sessions,
            rate(row.per_second),
            rate(row.lookups_per_second),
            ratio(row.of_lookups),
            millis(row.p50_ms),
            millis(row.p99_ms),
        )?;
    }
    f.write_char('\n')
}

/// A rate with its spread.
pub(super) fn rate(rate: Spread) -> String {
    format!("{:.0} ({:.0} to {:.0})", rate.median, rate.min, rate.max)
}

/// A ratio with its spread.
pub(super) fn ratio(ratio: Spread) -> String {
    format!("**{:.2}** ({:.2} to {:.2})", ratio.median, ratio.min, ratio.max)
}

fn micros(time: Spread) -> String {
    format!("{:.2} µs ({:.2} to {:.2})", time.median, time.min, time.max)
}

fn millis(time: Spread) -> String {
    format!("{:.2} ms ({:.2} to {:.2})", time.median, time.min, time.max)
}

/// Bytes in MiB.
#[expect(clippy::cast_precision_loss, reason = "one digit behind the point is shown")]
pub(super) fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
