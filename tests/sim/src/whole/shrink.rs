//! Makes a schedule that breaks something as short as it gets: leaves out steps as long as it still does.

use super::step::{Schedule, Step};

/// A shorter schedule for which `fails` still holds. `fails` is asked at most `tries_max` times.
pub fn shrink(
    schedule: &Schedule,
    tries_max: usize,
    fails: impl Fn(&Schedule) -> bool,
) -> Schedule {
    let mut best = schedule.clone();
    let mut tries = 0;
    let mut chunk = best.steps.len().div_ceil(2);
    while chunk > 0 {
        let mut at = 0;
        while at < best.steps.len() && tries < tries_max {
            tries += 1;
            let shorter = without(&best, at, chunk);
            if fails(&shorter) {
                best = shorter;
            } else {
                at += chunk;
            }
        }
        chunk /= 2;
    }
    best
}

/// Without some steps; the time that they took is kept.
fn without(schedule: &Schedule, at: usize, chunk: usize) -> Schedule {
    let mut shorter = schedule.clone();
    let end = (at + chunk).min(shorter.steps.len());
    let gone: Vec<(u64, Step)> = shorter.steps.drain(at..end).collect();
    if let Some((pause_ms, _)) = shorter.steps.get_mut(at) {
        *pause_ms += gone.iter().map(|(pause_ms, _)| pause_ms).sum::<u64>();
    }
    shorter
}
