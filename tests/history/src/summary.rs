//! The figures of a history and its violations, for reports.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use crate::{
    history::History,
    record::{Conversation, Outcome, Reading, Record, Seen},
    violation::Violation,
};

/// How much happened, and how much of it went wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Calls of `send`.
    pub calls: u64,
    /// Different messages among them.
    pub messages: u64,
    /// Messages that were told as queued or better.
    pub accepted: u64,
    /// Calls that may or may not have happened.
    pub unknown: u64,
    /// Calls that were refused.
    pub refused: u64,
    /// Messages in final readings, at all readers together.
    pub shown: u64,
    /// Lost, half sent, or falsely told as delivered.
    pub lost: u64,
    /// Shown again.
    pub duplicated: u64,
    /// Shown out of the author's order.
    pub misordered: u64,
    /// Violations of any other kind.
    pub other_violations: u64,
}

impl Summary {
    /// Counts.
    pub fn of(history: &History, violations: &[Violation]) -> Self {
        let mut summary = Self::default();
        let mut ops = HashMap::new();
        let mut messages = HashSet::new();
        let mut accepted: HashSet<(&String, &Conversation, &String)> = HashSet::new();
        let mut answered = HashSet::new();
        for record in history.records() {
            match record {
                Record::Invoked { op, who, to, id, .. } => {
                    summary.calls += 1;
                    messages.insert((who, to, id));
                    ops.insert(op, (who, to, id));
                }
                Record::Told { op, outcome, .. } => match outcome {
                    Outcome::Queued(_) | Outcome::Delivered(_) => {
                        answered.insert(op);
                        accepted.extend(ops.get(op));
                    }
                    Outcome::Refused(_) => {
                        answered.insert(op);
                        summary.refused += 1;
                    }
                    Outcome::Expired | Outcome::Rejected | Outcome::Failed(_) => {
                        answered.insert(op);
                    }
                    Outcome::TimedOut | Outcome::Crashed => {}
                },
                Record::Saw { reading: Reading::Final, what: Seen::Message { .. }, .. } => {
                    summary.shown += 1;
                }
                _ => {}
            }
        }
        summary.messages = messages.len() as u64;
        summary.accepted = accepted.len() as u64;
        summary.unknown = ops.keys().filter(|op| !answered.contains(**op)).count() as u64;
        for violation in violations {
            *summary.counter_of(violation) += 1;
        }
        summary
    }

    fn counter_of(&mut self, violation: &Violation) -> &mut u64 {
        match violation {
            Violation::Lost { .. }
            | Violation::HalfSent { .. }
            | Violation::FalseDelivered { .. } => &mut self.lost,
            Violation::Duplicated { .. } => &mut self.duplicated,
            Violation::OutOfOrder { .. } | Violation::TwoOrders { .. } => &mut self.misordered,
            _ => &mut self.other_violations,
        }
    }
}
