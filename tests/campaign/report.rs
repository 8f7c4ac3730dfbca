//! What a run found: one value, written as Markdown for people and as JSON for programs.
//!
//! Figures only. What they mean, and what is not covered, stands in README.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    fs, io,
    path::Path,
};

use serde::Serialize;
use sim::counts::Messages;

/// A run of `cargo faults`.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Of this format.
    pub(crate) schema: &'static str,
    /// When it ended, in UTC.
    pub(crate) date: String,
    /// The commit that was run; with `+` if the tree had changes.
    pub(crate) commit: String,
    /// How to run it again.
    pub(crate) command: String,
    /// Of the machine.
    pub(crate) cores: usize,
    /// How long it took.
    pub(crate) seconds: u64,
    /// The simulated worlds.
    pub(crate) worlds: Vec<World>,
    /// The planted faults.
    pub(crate) planted: Vec<Planted>,
    /// The real programs.
    pub(crate) real: Vec<Real>,
}

/// All schedules of one kind of world.
#[derive(Debug, Default, Serialize)]
pub(crate) struct World {
    /// The kind.
    pub(crate) name: String,
    /// How many schedules ran.
    pub(crate) schedules: u64,
    /// In virtual time, of all schedules.
    pub(crate) virtual_ms: u64,
    /// In real time.
    pub(crate) seconds: u64,
    /// What became of the messages.
    pub(crate) messages: Messages,
    /// How often each fault was injected.
    pub(crate) faults: BTreeMap<String, u64>,
    /// How long it took from the end of all faults until nothing was pending, in virtual time.
    pub(crate) healing: Quantiles,
    /// What broke, each with the command that replays it.
    pub(crate) violations: Vec<String>,
}

/// A distribution of milliseconds.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub(crate) struct Quantiles {
    /// Half are below.
    pub(crate) median_ms: u64,
    /// Of a hundred, 99 are below.
    pub(crate) p99_ms: u64,
    /// None is above.
    pub(crate) max_ms: u64,
}

impl Quantiles {
    /// Of these values.
    pub(crate) fn of(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        let at =
            |share: usize| values.get((values.len() * share / 100).min(values.len().max(1) - 1));
        let at = |share| at(share).copied().unwrap_or(0);
        Self { median_ms: at(50), p99_ms: at(99), max_ms: at(100) }
    }
}

impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |ms: u64| ms as f64 / 1000.0;
        let (median, p99, max) = (self.median_ms, self.p99_ms, self.max_ms);
        write!(f, "{:.1} / {:.1} / {:.1} s", seconds(median), seconds(p99), seconds(max))
    }
}

/// A planted fault, which the checks must find.
#[derive(Debug, Serialize)]
pub(crate) struct Planted {
    /// What was planted.
    pub(crate) name: String,
    /// The first seed at which it was found.
    pub(crate) found_at: Option<u64>,
    /// It must be found below this seed.
    pub(crate) limit: u64,
}

/// A run of the real programs.
#[derive(Debug, Serialize)]
pub(crate) struct Real {
    /// Which.
    pub(crate) name: String,
    /// How long it took.
    pub(crate) seconds: u64,
    /// What became of the messages.
    pub(crate) messages: Messages,
    /// How often each fault was injected.
    pub(crate) faults: BTreeMap<String, u64>,
    /// How long it took from the end of each fault until nothing was pending, in real time.
    pub(crate) healing: Quantiles,
    /// The memory of all daemons, in KiB: after five minutes (or a tenth of the run), and at the end.
    pub(crate) memory_kib: Option<(u64, u64)>,
    /// What broke.
    pub(crate) violations: Vec<String>,
}

impl Report {
    /// Whether all is as it must be.
    pub(crate) fn is_clean(&self) -> bool {
        self.worlds.iter().all(|world| world.violations.is_empty())
            && self.real.iter().all(|run| run.violations.is_empty())
            && self.planted.iter().all(|planted| planted.found_at.is_some())
    }

    /// Writes both files.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, self.to_string())?;
        fs::write(path.with_extension("json"), serde_json::to_string_pretty(self)?)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Nothing lost: report of {}\n", self.date)?;
        writeln!(
            f,
            "Commit {}, `{}`, {} cores, {} s.\n",
            self.commit, self.command, self.cores, self.seconds
        )?;
        let verdict = if self.is_clean() { "No violation." } else { "**Violations: see below.**" };
        writeln!(f, "{verdict}\n")?;
        self.worlds(f)?;
        self.faults(f)?;
        self.planted(f)?;
        self.real(f)?;
        self.violations(f)
    }
}

impl Report {
    fn worlds(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.worlds.is_empty() {
            return Ok(());
        }
        f.write_str("## Simulated schedules\n\n")?;
        f.write_str("Healing: median / 99 % / longest, from the end of the faults until nothing is pending, in virtual time.\n\n")?;
        f.write_str("| world | schedules | virtual time | accepted | shown | lost | twice | out of order | healing | took |\n|---|---|---|---|---|---|---|---|---|---|\n")?;
        for world in &self.worlds {
            let (name, hours) = (&world.name, world.virtual_ms / 3_600_000);
            let Messages { accepted, shown, lost, duplicated, misordered } = world.messages;
            writeln!(
                f,
                "| {name} | {} | {hours} h | {accepted} | {shown} | {lost} | {duplicated} | {misordered} | {} | {} s |",
                world.schedules, world.healing, world.seconds
            )?;
        }
        f.write_char('\n')
    }

    fn faults(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all: BTreeMap<&str, u64> = BTreeMap::new();
        for (fault, times) in self.worlds.iter().flat_map(|world| &world.faults) {
            *all.entry(fault).or_default() += times;
        }
        if all.is_empty() {
            return Ok(());
        }
        f.write_str("## Faults injected in them\n\n| fault | times |\n|---|---|\n")?;
        all.iter().try_for_each(|(fault, times)| writeln!(f, "| {fault} | {times} |"))?;
        f.write_char('\n')
    }

    fn planted(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.planted.is_empty() {
            return Ok(());
        }
        f.write_str("## Faults planted to test the checks\n\n| planted | found at schedule | must be found within |\n|---|---|---|\n")?;
        for planted in &self.planted {
            let found =
                planted.found_at.map_or("**not found**".to_owned(), |n| (n + 1).to_string());
            writeln!(f, "| {} | {found} | {} |", planted.name, planted.limit)?;
        }
        f.write_char('\n')
    }

    fn real(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.real.is_empty() {
            return Ok(());
        }
        f.write_str("## The real programs\n\n| run | took | accepted | shown | lost | twice | out of order | healing | memory early → end |\n|---|---|---|---|---|---|---|---|---|\n")?;
        for run in &self.real {
            let Messages { accepted, shown, lost, duplicated, misordered } = run.messages;
            let memory = run.memory_kib.map_or("-".to_owned(), |(early, end)| {
                format!("{} → {} MiB", early / 1024, end / 1024)
            });
            writeln!(
                f,
                "| {} | {} s | {accepted} | {shown} | {lost} | {duplicated} | {misordered} | {} | {memory} |",
                run.name, run.seconds, run.healing
            )?;
        }
        f.write_char('\n')?;
        for run in self.real.iter().filter(|run| !run.faults.is_empty()) {
            let faults: Vec<String> = run.faults.iter().map(|(k, n)| format!("{k} {n}")).collect();
            writeln!(f, "Faults of {}: {}.\n", run.name, faults.join(", "))?;
        }
        Ok(())
    }

    fn violations(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let worlds = self.worlds.iter().map(|world| (&world.name, &world.violations));
        let real = self.real.iter().map(|run| (&run.name, &run.violations));
        for (name, violations) in worlds.chain(real).filter(|(_, found)| !found.is_empty()) {
            writeln!(f, "## Violations in {name}\n")?;
            violations.iter().try_for_each(|violation| writeln!(f, "- {violation}"))?;
            f.write_char('\n')?;
        }
        Ok(())
    }
}
