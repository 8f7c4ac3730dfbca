//! How bad the network and the disks of a whole world are.

use rand::{RngExt as _, rngs::StdRng};

/// How bad the world is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conditions {
    /// The longest way of a frame, a datagram, a request or a reply.
    pub delay_max_ms: u64,
    /// The longest commit.
    pub commit_max_ms: u64,
    /// Of 100 dials, datagrams and calls, so many are lost.
    pub loss: u32,
    /// Of 100 frames of entries or vectors and datagrams, so many come twice.
    pub duplicates: u32,
    /// Of 100 reads of the disk, so many fail.
    pub failed_reads: u32,
}

impl Conditions {
    /// No faults.
    pub const CALM: Self =
        Self { delay_max_ms: 20, commit_max_ms: 5, loss: 0, duplicates: 0, failed_reads: 0 };

    /// Drawn from a seed.
    pub fn draw(rng: &mut StdRng) -> Self {
        Self {
            delay_max_ms: pick(rng, &[5, 40, 300, 1_500]),
            commit_max_ms: pick(rng, &[2, 20, 200]),
            loss: pick(rng, &[0, 5, 30]),
            duplicates: pick(rng, &[0, 5, 30]),
            failed_reads: 0,
        }
    }
}

/// One of several.
pub(super) fn pick<T: Copy>(rng: &mut StdRng, of: &[T]) -> T {
    of[rng.random_range(0..of.len())]
}
