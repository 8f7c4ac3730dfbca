//! What lies around a simulated registry: clocks, randomness, and the way out for datagrams. Each is a
//! handle, shared by the registry and its [`simulation`](super).

use std::{
    future, mem,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use registryd_proto::hello::Datagram;

use super::Now;

/// Clocks that stand still until they are set.
#[derive(Debug, Clone)]
pub(crate) struct VirtualClock {
    started_ms: u64,
    now: Arc<Mutex<Now>>,
}

impl VirtualClock {
    pub(super) fn new(now: Now) -> Self {
        Self { started_ms: now.monotonic_ms, now: Arc::new(Mutex::new(now)) }
    }

    pub(super) fn now(&self) -> Now {
        *lock(&self.now)
    }

    pub(super) fn set(&self, now: Now) {
        *lock(&self.now) = now;
    }

    /// Monotonic time since the start.
    pub(crate) fn elapsed_ms(&self) -> u64 {
        lock(&self.now).monotonic_ms.saturating_sub(self.started_ms)
    }

    /// The wall clock.
    pub(crate) fn unix_ms(&self) -> u64 {
        lock(&self.now).wall_ms
    }
}

/// An endless sequence of bytes that its seed decides.
#[derive(Debug, Clone)]
pub(crate) struct Seeded(Arc<Mutex<blake3::OutputReader>>);

impl Seeded {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        let sequence = blake3::Hasher::new_keyed(&seed).finalize_xof();
        Self(Arc::new(Mutex::new(sequence)))
    }

    /// The next bytes of the sequence.
    pub(crate) fn fill(&self, bytes: &mut [u8]) {
        lock(&self.0).fill(bytes);
    }
}

/// Lets others go first: what stands for the time that a job waits for its turn, and its caller to be woken.
pub(crate) async fn pause() {
    let mut has_paused = false;
    future::poll_fn(|context| match mem::replace(&mut has_paused, true) {
        true => Poll::Ready(()),
        false => {
            // A simulator polls when it likes; a runtime wants to be told.
            context.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}

/// Datagrams that were sent and not yet taken.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outbox(Arc<Mutex<Vec<(SocketAddr, Datagram)>>>);

impl Outbox {
    /// Adds one.
    pub(crate) fn push(&self, to: SocketAddr, datagram: &Datagram) {
        lock(&self.0).push((to, *datagram));
    }

    pub(super) fn take(&self) -> Vec<(SocketAddr, Datagram)> {
        mem::take(&mut lock(&self.0))
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
