//! What may be asked for on the command line of `cargo faults`.

use std::{path::PathBuf, time::Duration};

use clap::Parser;
use p2pchat_host::duration;

/// How many schedules a run takes that says nothing else: some minutes on two cores.
const SEEDS: u64 = 30_000;

/// Runs seeded schedules of faults against the cores in virtual time, then the real programs under kills,
/// and says what was lost, shown twice or out of order. Exit code 0: nothing was.
#[derive(Debug, Parser)]
#[command(name = "cargo faults", version)]
pub(crate) struct Cli {
    /// How many schedules to simulate.
    #[arg(long, value_name = "N", default_value_t = SEEDS)]
    pub(crate) seeds: u64,
    /// Goes on with new seeds until so much time has passed, instead of a number.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse, conflicts_with = "seeds")]
    pub(crate) time: Option<Duration>,
    /// The first seed. Other seeds are other schedules.
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub(crate) from: u64,
    /// Only schedules of this kind of world: `replicas`, `whole`, `large200` or `large2000`. Without, all
    /// kinds, mostly small ones.
    #[arg(long, value_name = "WORLD")]
    pub(crate) world: Option<String>,
    /// Leaves out the schedules; the real programs only.
    #[arg(long)]
    pub(crate) no_simulation: bool,
    /// Rounds of killing all the real programs at once.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) rounds: u32,
    /// How long ten real users talk under kills, pauses, cut links and a full disk.
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "1m")]
    pub(crate) soak: Duration,
    /// Writes the report here as Markdown; beside it, ending in `.json`, for programs.
    #[arg(long, value_name = "FILE", default_value = "target/faults/report.md")]
    pub(crate) report: PathBuf,
}
