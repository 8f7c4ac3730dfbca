//! HELLOs as fast as they are answered: a closed loop with a fixed number under way.
//!
//! What is sent is sealed beforehand, so the generator does the same work for the registry as for an echo:
//! the same system calls on datagrams that lie ready.

use std::{
    io,
    time::{Duration, Instant},
};

use super::wire::{BATCH, Wire};

/// Datagrams under way: enough to keep both sides busy, few enough that no buffer overflows.
const UNDER_WAY: usize = 4 * BATCH;

/// How long answers may take before what is under way counts as lost.
pub(crate) const PATIENCE: Duration = Duration::from_millis(100);

/// What a blast saw.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Blasted {
    /// Answers in a second.
    pub(crate) per_second: f64,
    /// Answers.
    pub(crate) answered: u64,
    /// Datagrams without an answer.
    pub(crate) lost: u64,
}

/// Sends `datagrams` in their order, each once, until they or the time are over. Every answer is shown to
/// `each`.
///
/// # Errors
/// Those of the socket.
#[expect(clippy::cast_precision_loss, reason = "a rate is shown in few digits")]
pub(crate) fn blast<const BYTES: usize>(
    wire: &mut Wire,
    datagrams: &[[u8; BYTES]],
    time: Duration,
    mut each: impl FnMut(&[u8]),
) -> io::Result<Blasted> {
    let start = Instant::now();
    let (mut rest, mut under_way, mut answered, mut lost) = (datagrams, 0_usize, 0_u64, 0_u64);
    loop {
        while under_way + BATCH <= UNDER_WAY && !rest.is_empty() && start.elapsed() < time {
            let sent = wire.send(rest)?;
            rest = &rest[sent..];
            under_way += sent;
        }
        if under_way == 0 {
            break;
        }
        let came = wire.receive(&mut each)?;
        if came == 0 {
            lost += under_way as u64;
            under_way = 0;
        }
        answered += came as u64;
        under_way = under_way.saturating_sub(came);
    }
    let seconds = start.elapsed().as_secs_f64();
    Ok(Blasted { per_second: answered as f64 / seconds, answered, lost })
}
