//! Whether the writer gets on: a count that it moves, and who looks at it from time to time.
//!
//! A disk can hang for ever in a sync that neither ends nor fails. Nobody can interrupt it then; the
//! watchdogs (`shutdown`, `run`) notice, and the process ends.

use std::sync::atomic::{AtomicU64, Ordering};

/// Moved by the writer: odd while it is at work at the disk.
#[derive(Debug, Default)]
pub(super) struct Progress(AtomicU64);

impl Progress {
    /// The disk is asked.
    pub(super) fn begin(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// It has answered.
    pub(super) fn end(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn step(&self) -> Option<u64> {
        let count = self.0.load(Ordering::Relaxed);
        (count % 2 == 1).then_some(count)
    }
}

/// Looks again and again: time in which nobody looked, for the machine was suspended or the process stopped,
/// does not count.
#[derive(Debug, Default)]
pub struct Watch {
    at: Option<u64>,
    looks: u32,
}

impl Watch {
    /// How many looks in a row, this one included, have found the writer at work at one and the same thing.
    pub(super) fn look(&mut self, progress: &Progress) -> u32 {
        let at = progress.step();
        self.looks = match at {
            None => 0,
            Some(_) if at == self.at => self.looks.saturating_add(1),
            Some(_) => 1,
        };
        self.at = at;
        self.looks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_and_the_same_work_counts() {
        let (progress, mut watch) = (Progress::default(), Watch::default());
        assert_eq!(watch.look(&progress), 0, "idle");
        progress.begin();
        assert_eq!([watch.look(&progress), watch.look(&progress)], [1, 2]);
        progress.end();
        progress.begin();
        assert_eq!(watch.look(&progress), 1, "the next commit");
        progress.end();
        assert_eq!(watch.look(&progress), 0);
    }
}
