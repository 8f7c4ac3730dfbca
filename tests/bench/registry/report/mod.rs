//! What a run found: one value, written as Markdown for people, as JSON for programs, and drawn.
//!
//! Figures, ratios and what must be shown; what they mean stands in README.

mod markdown;
mod plot;

use std::{fs, io, path::Path};

use serde::Serialize;

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

impl Report {
    /// Whether all is as it must be.
    pub(crate) fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// Writes the Markdown to `path`, the JSON and the drawings beside it.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let plots = plot::draw(self, path)?;
        fs::write(path, markdown::text(self, &plots))?;
        fs::write(path.with_extension("json"), serde_json::to_string_pretty(self)? + "\n")
    }
}
