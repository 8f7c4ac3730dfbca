//! Whole worlds: the cores of peerd around the handlers, the store and the presence of registryd, in virtual
//! time, under everything that can go wrong between and below them.
//!
//! A [`step::Schedule`] says who is there, how bad the network is and what happens; [`run::Run`] carries it
//! out; [`check`] holds what users were told and shown against the guarantees of the design. [`machine`]
//! is the world itself: `wire` between devices, `registry` between devices and the registry, [`index`] the
//! registry's machine, [`shape`] the state from which all schedules of a kind start.

pub mod check;
pub mod conditions;
mod hello;
pub mod index;
pub mod look;
pub mod machine;
pub mod planted;
mod registry;
pub mod run;
pub mod shape;
pub mod shrink;
pub mod step;
mod wire;

#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};

use check::Violation;
use planted::Planted;
use run::Run;
use step::Schedule;

use crate::{
    campaign::SeedReport,
    counts::{Counts, Messages},
};

/// The most runs that one shrinking takes.
const SHRINK_RUNS_MAX: usize = 400;

/// What came of a run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What it broke.
    pub violations: Vec<Violation>,
    /// How many messages were sent.
    pub messages: usize,
    /// What became of them.
    pub fates: Messages,
    /// What was injected.
    pub counts: Counts,
    /// How long it took in virtual time.
    pub virtual_ms: u64,
    /// How long after the end of all faults the last entry was committed.
    pub healing_ms: u64,
    /// How many inputs the devices had.
    pub inputs: u64,
}

/// Runs the schedule of a seed.
pub fn run(seed: u64, planted: Planted) -> Outcome {
    run_schedule(&Schedule::draw(seed), planted)
}

/// Runs a schedule. A panic in a core is a violation of it.
pub fn run_schedule(schedule: &Schedule, planted: Planted) -> Outcome {
    catch_unwind(AssertUnwindSafe(|| {
        let run = Run::of(schedule, planted);
        let violations = check::all(&run);
        Outcome {
            messages: run.said.len(),
            fates: check::fates(&run, &violations),
            counts: run.machine.counts,
            virtual_ms: run.machine.now_ms,
            healing_ms: run.machine.last_entry_ms.saturating_sub(run.healed_ms),
            inputs: run.machine.inputs,
            violations,
        }
    }))
    .unwrap_or_else(|_| Outcome { violations: vec![Violation::Panicked], ..Outcome::default() })
}

/// Runs a seed, for a campaign.
pub fn report(seed: u64) -> SeedReport {
    let outcome = run(seed, Planted::default());
    let violations = outcome.violations.into_iter().map(Box::new).map(crate::Violation::Whole);
    SeedReport {
        seed,
        violations: violations.collect(),
        virtual_ms: outcome.virtual_ms,
        faults: outcome.counts,
        messages: outcome.fates,
        healing_ms: outcome.healing_ms,
    }
}

/// How a seed fails, as small as can be found; `None` if it does not.
pub fn explain(seed: u64) -> Option<String> {
    use std::fmt::Write as _;

    let schedule = Schedule::draw(seed);
    let first = run_schedule(&schedule, Planted::default()).violations.into_iter().next()?;
    let kind = std::mem::discriminant(&first);
    let small = shrink::shrink(&schedule, SHRINK_RUNS_MAX, |shorter| {
        let violations = run_schedule(shorter, Planted::default()).violations;
        violations.iter().any(|violation| std::mem::discriminant(violation) == kind)
    });
    let violations = run_schedule(&small, Planted::default()).violations;
    let mut text = format!(
        "whole seed {seed} fails: {violations:?}\nreplay it with:\nP2P_SIM_SEED={seed} cargo test -p \
         p2pchat-sim -- --exact whole::tests::whole_worlds_keep_the_guarantees_over_all_seeds\nthe same in \
         few steps:\n{:?}, {:?}, gone: {:?}\n",
        small.shape, small.conditions, small.gone
    );
    for (pause_ms, step) in &small.steps {
        // Writing to a string does not fail.
        let _ = writeln!(text, "after {pause_ms} ms: {step:?}");
    }
    Some(text)
}
