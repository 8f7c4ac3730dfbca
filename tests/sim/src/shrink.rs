//! Shrinking: the smallest schedule at hand that still breaks a run in the same way.
//!
//! Steps are taken out in ever smaller chunks (Zeller's ddmin), then parts of the world; what is kept still
//! shows a violation of the same kind. A schedule that cannot lose any one step more is as small as it gets.

use std::{
    mem::{Discriminant, discriminant},
    panic::{AssertUnwindSafe, catch_unwind},
};

use crate::{
    Violation,
    schedule::{Schedule, Step},
    script::{Outcome, Planted, play},
    world::Conditions,
};

/// The most runs that one shrinking takes.
const RUNS_MAX: usize = 4_000;

/// Runs a schedule; a panic is a violation.
pub fn play_caught(schedule: &Schedule, planted: Planted) -> Outcome {
    catch_unwind(AssertUnwindSafe(|| play(schedule, planted, false)))
        .unwrap_or_else(|_| Outcome { violations: vec![Violation::Panicked], ..Outcome::default() })
}

/// A schedule as small as can be found that breaks a run as `schedule` does; `None` if that breaks none.
pub fn shrink(schedule: &Schedule, planted: Planted) -> Option<(Schedule, Vec<Violation>)> {
    let violations = play_caught(schedule, planted).violations;
    let kind = discriminant(violations.first()?);
    let mut search =
        Search { kind, planted, best: schedule.clone(), violations, runs_left: RUNS_MAX };
    loop {
        let before = search.best.clone();
        search.drop_steps();
        search.shrink_world();
        search.hurry();
        if search.best == before || search.runs_left == 0 {
            return Some((search.best, search.violations));
        }
    }
}

struct Search {
    kind: Discriminant<Violation>,
    planted: Planted,
    best: Schedule,
    violations: Vec<Violation>,
    runs_left: usize,
}

impl Search {
    /// Takes a schedule if it breaks the same.
    fn try_out(&mut self, schedule: Schedule) -> bool {
        if self.runs_left == 0 || schedule == self.best {
            return false;
        }
        self.runs_left -= 1;
        let violations = play_caught(&schedule, self.planted).violations;
        let same = violations.iter().any(|violation| discriminant(violation) == self.kind);
        if same {
            self.best = schedule;
            self.violations = violations;
        }
        same
    }

    fn with_steps(&self, steps: Vec<Step>) -> Schedule {
        Schedule { steps, ..self.best.clone() }
    }

    fn drop_steps(&mut self) {
        let mut chunk = self.best.steps.len().div_ceil(2);
        while chunk > 0 {
            let mut at = 0;
            while at < self.best.steps.len() {
                let mut steps = self.best.steps.clone();
                let end = (at + chunk).min(steps.len());
                let gone: u64 = steps.drain(at..end).map(|step| step.after_ms).sum();
                // What comes later stays at its time, or else moves up.
                let mut in_time = steps.clone();
                if let Some(next) = in_time.get_mut(at) {
                    next.after_ms += gone;
                }
                let dropped =
                    self.try_out(self.with_steps(steps)) || self.try_out(self.with_steps(in_time));
                if !dropped {
                    at += chunk;
                }
            }
            chunk /= 2;
        }
    }

    fn shrink_world(&mut self) {
        let edits: [fn(&mut Schedule); 8] = [
            |s| s.shape.conditions = Conditions::CALM,
            |s| s.shape.conditions.dial_loss = 0,
            |s| s.shape.conditions.frame_loss = 0,
            |s| s.shape.conditions.duplicates = 0,
            |s| s.shape.joiner = false,
            |s| s.shape.history_all = false,
            |s| s.shape.gone = None,
            |s| s.shape.nodes = (s.shape.nodes - 1).max(if s.shape.joiner { 3 } else { 2 }),
        ];
        for edit in edits {
            let mut schedule = self.best.clone();
            edit(&mut schedule);
            self.try_out(schedule);
        }
    }

    /// Shortens pauses and bursts.
    fn hurry(&mut self) {
        for at in 0..self.best.steps.len() {
            let mut steps = self.best.steps.clone();
            if steps[at].after_ms > 0 {
                steps[at].after_ms = 0;
                self.try_out(self.with_steps(steps));
            }
            let mut steps = self.best.steps.clone();
            if let crate::schedule::Deed::Say { count, .. } = &mut steps[at].deed
                && *count > 1
            {
                *count = 1;
                self.try_out(self.with_steps(steps));
            }
        }
    }
}
