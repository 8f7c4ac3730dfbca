//! What a run found: one value, written as Markdown for people, as JSON for programs, and drawn.
//!
//! Figures, ratios and what must be shown; what they mean stands in README.

mod events;
mod goals;
mod markdown;
mod plot;

use std::{fs, io, path::Path};

use serde::Serialize;

pub(crate) use goals::Goal;

/// Several measurements of the same: the one in the middle and both ends.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub(crate) struct Spread {
    /// The one in the middle.
    pub(crate) median: f64,
    /// The least.
    pub(crate) min: f64,
    /// The most.
    pub(crate) max: f64,
}

impl Spread {
    /// Of these; zeros of none.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |at: usize| values.get(at).copied().unwrap_or_default();
        Self { median: at(values.len() / 2), min: at(0), max: at(values.len().saturating_sub(1)) }
    }
}

/// A run of `cargo figures registry`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// Of this format.
    pub(crate) schema: &'static str,
    /// When it ended, in UTC.
    pub(crate) date: String,
    /// The commit that was run; with `+` if the tree had changes.
    pub(crate) commit: String,
    /// How to run it again.
    pub(crate) command: String,
    /// Whether the programs are built as they are shipped.
    pub(crate) release: bool,
    /// Where it ran.
    pub(crate) machine: Machine,
    /// How long it took.
    pub(crate) seconds: u64,
    /// HELLO against sessions.
    pub(crate) hello: Vec<HelloRow>,
    /// Memory against sessions.
    pub(crate) memory: Vec<MemoryRow>,
    /// Search with as many online as there are accounts.
    pub(crate) search_accounts: Vec<SearchRow>,
    /// Search among all accounts, with ever fewer of them online.
    pub(crate) search_sessions: Vec<SearchRow>,
    /// Search among all accounts while all sessions say HELLO at the interval set.
    pub(crate) search_under_hello: Option<SearchRow>,
    /// Redis; `None` where it is not installed, or not asked for.
    pub(crate) redis: Option<RedisRow>,
    /// All online for a long time.
    pub(crate) online: Option<OnlineRow>,
    /// A kill and a restart.
    pub(crate) restart: Option<RestartRow>,
    /// A flood of passwords.
    pub(crate) flood: Option<FloodRow>,
    /// What must be shown, and what was seen.
    pub(crate) goals: Vec<Goal>,
    /// What did not go as it must; each makes the run fail.
    pub(crate) violations: Vec<String>,
}

/// A machine.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Machine {
    /// How many.
    pub(crate) cores: usize,
    /// As the system calls it.
    pub(crate) processor: String,
    /// In MiB.
    pub(crate) memory_mib: u64,
    /// Its release.
    pub(crate) kernel: String,
}

/// HELLO with so many sessions.
#[derive(Debug, Serialize)]
pub(crate) struct HelloRow {
    /// In memory.
    pub(crate) sessions: u64,
    /// HELLOs answered in a second, as fast as it goes.
    pub(crate) per_second: Spread,
    /// Datagrams echoed in a second by tokio, by turns with the former.
    pub(crate) echo_per_second: Spread,
    /// The same with many datagrams for each system call.
    pub(crate) batched_echo_per_second: Spread,
    /// HELLO by echo, round by round.
    pub(crate) of_echo: Spread,
    /// HELLO by batched echo, round by round.
    pub(crate) of_batched_echo: Spread,
    /// Processor time of the registry for a HELLO, in microseconds: less a matter of who else is at work.
    pub(crate) cpu_micros: Spread,
    /// Of the plain echo for a datagram.
    pub(crate) echo_cpu_micros: Spread,
    /// Of the batched echo for a datagram.
    pub(crate) batched_echo_cpu_micros: Spread,
    /// HELLOs by plain echoes for the same processor time, round by round.
    pub(crate) of_echo_by_cpu: Spread,
    /// HELLOs without an answer while going as fast as it goes.
    pub(crate) lost: u64,
    /// The interval that the answers tell when all are online.
    pub(crate) interval_ms: u32,
    /// HELLOs in a second at that interval.
    pub(crate) paced_per_second: f64,
    /// Share of one core that the registry takes for them, in percent.
    pub(crate) paced_cpu_percent: f64,
}

/// Memory of the registry with so many sessions.
#[derive(Debug, Serialize)]
pub(crate) struct MemoryRow {
    /// In memory.
    pub(crate) sessions: u64,
    /// Resident with one session, in bytes.
    pub(crate) idle_bytes: u64,
    /// Resident as soon as it serves, in bytes.
    pub(crate) ready_bytes: u64,
    /// Resident when all are online, in bytes.
    pub(crate) online_bytes: u64,
    /// The most until then.
    pub(crate) peak_bytes: u64,
    /// What a session adds: online less idle.
    pub(crate) bytes_a_session: f64,
}

/// Search among so many accounts.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct SearchRow {
    /// In the table.
    pub(crate) accounts: u64,
    /// Online, none of them saying HELLO at the moment.
    pub(crate) sessions: u64,
    /// Answered in a second, over one connection.
    pub(crate) per_second: Spread,
    /// Of those, half are faster.
    pub(crate) p50_ms: Spread,
    /// Of a hundred, 99 are faster.
    pub(crate) p99_ms: Spread,
    /// Bare lookups in a second in the same table, by turns with the former.
    pub(crate) lookups_per_second: Spread,
    /// Search by lookup, round by round.
    pub(crate) of_lookups: Spread,
}

/// Redis beside HELLO, by turns.
#[derive(Debug, Serialize)]
pub(crate) struct RedisRow {
    /// And as many keys.
    pub(crate) sessions: u64,
    /// Of Redis.
    pub(crate) version: String,
    /// HELLOs answered in a second.
    pub(crate) hello_per_second: Spread,
    /// Keys set in a second, many under way.
    pub(crate) set_per_second: Spread,
    /// HELLO by key, round by round.
    pub(crate) of_redis: Spread,
    /// Resident memory that a key adds.
    pub(crate) bytes_a_key: f64,
}

/// All online for a long time.
#[derive(Debug, Serialize)]
pub(crate) struct OnlineRow {
    /// Online.
    pub(crate) sessions: u64,
    /// For so long.
    pub(crate) seconds: f64,
    /// The interval at the end.
    pub(crate) interval_ms: u32,
    /// HELLOs sent.
    pub(crate) sent: u64,
    /// HELLOs answered.
    pub(crate) answered: u64,
    /// Searches for peers that say HELLO.
    pub(crate) searched: u64,
    /// Of different ones.
    pub(crate) different: u64,
    /// Told offline: each is a violation.
    pub(crate) offline: u64,
    /// Told offline whose HELLO this machine had lost, or said too late.
    pub(crate) silent: u64,
    /// Answered wrongly: each is a violation.
    pub(crate) wrong: u64,
    /// Of a hundred searches, 99 are faster.
    pub(crate) p99_ms: f64,
    /// The most that the generator said a HELLO late.
    pub(crate) late_ms: u64,
    /// Share of one core that the registry took, searches included.
    pub(crate) cpu_percent: f64,
    /// Resident at the end, in bytes.
    pub(crate) resident_bytes: u64,
    /// The most since the start.
    pub(crate) peak_bytes: u64,
    /// One that was wrong.
    pub(crate) example: String,
}

/// kill -9 and a start.
#[derive(Debug, Serialize)]
pub(crate) struct RestartRow {
    /// Online before.
    pub(crate) sessions: u64,
    /// The interval before.
    pub(crate) interval_ms: u32,
    /// From the start of the process to its ready line.
    pub(crate) ready_seconds: f64,
    /// From there until 99.9 % were online; `None`: it was not waited for any longer.
    pub(crate) back_seconds: Option<f64>,
    /// What that may be: one interval and five seconds.
    pub(crate) back_seconds_max: f64,
    /// Share online, by seconds since the kill.
    pub(crate) curve: Vec<(f64, f64)>,
}

/// Passwords at once.
#[derive(Debug, Serialize)]
pub(crate) struct FloodRow {
    /// How many.
    pub(crate) logins: u64,
    /// Until the last was answered.
    pub(crate) seconds: f64,
    /// Let in.
    pub(crate) granted: u64,
    /// Told that the password is wrong.
    pub(crate) refused: u64,
    /// Told when to come again.
    pub(crate) told_later: u64,
    /// Answered in another way.
    pub(crate) otherwise: u64,
    /// Never answered: each is a violation.
    pub(crate) unanswered: u64,
    /// Connections that ended without an answer and were made again.
    pub(crate) cut: u64,
    /// Of a hundred searches before the flood, 99 were faster.
    pub(crate) search_p99_before_ms: f64,
    /// Searches meanwhile.
    pub(crate) searches: u64,
    /// Of them answered wrongly: each is a violation.
    pub(crate) search_wrong: u64,
    /// Half were faster.
    pub(crate) search_p50_ms: f64,
    /// Of a hundred, 99 were faster.
    pub(crate) search_p99_ms: f64,
    /// Resumes by an enrolled key meanwhile.
    pub(crate) resumes: u64,
    /// Of them in vain: each is a violation.
    pub(crate) resumes_failed: u64,
    /// The longest, its connection included.
    pub(crate) resume_max_ms: f64,
    /// Resident before, in bytes.
    pub(crate) resident_before_bytes: u64,
    /// The most meanwhile.
    pub(crate) resident_most_bytes: u64,
}

impl FloodRow {
    /// What did not go as it must.
    pub(crate) fn violations(&self) -> Vec<String> {
        let told = [
            (self.unanswered, "logins were never answered"),
            (self.search_wrong, "searches beside the flood were answered wrongly"),
            (self.resumes_failed, "resumes by an enrolled key were refused in the flood"),
        ];
        told.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect()
    }
}

impl Report {
    /// Whether all is as it must be.
    pub(crate) fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// Writes the Markdown to `path`, the JSON and the drawings beside it, and returns the Markdown.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub(crate) fn write(&mut self, path: &Path) -> io::Result<String> {
        self.goals = goals::of(self);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let plots = plot::draw(self, path)?;
        let text = markdown::text(self, &plots);
        fs::write(path, &text)?;
        fs::write(path.with_extension("json"), serde_json::to_string_pretty(self)? + "\n")?;
        Ok(text)
    }
}
