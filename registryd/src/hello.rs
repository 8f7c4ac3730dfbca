//! The HELLO port: datagrams in, answers out, and the upkeep of presence.
//!
//! What does not open is dropped in silence, and an answer has the size of its HELLO, so the port can be
//! used neither to learn anything nor to amplify.

use std::{io, net::SocketAddr, time::Duration};

use registryd_proto::hello::{DATAGRAM_BYTES, Direction, Hello, HelloKey, peek};
use tokio::{
    net::UdpSocket,
    time::{self, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use crate::{registry::Registry, store::AccountId};

/// How often presence moves on and the interval is looked at.
pub(crate) const UPKEEP: Duration = Duration::from_millis(500);

/// How often limiters drop idle keys, in upkeeps: a minute.
const FORGET_EVERY: u32 = 120;

/// Datagrams taken before others get a turn.
const BATCH: usize = 64;

/// Answers HELLOs until told to stop.
pub(crate) async fn serve(registry: &Registry, socket: &UdpSocket, stop: &CancellationToken) {
    // One byte more than a datagram, so that a longer one is seen as such.
    let mut buffer = [0; DATAGRAM_BYTES + 1];
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            ready = socket.readable() => {
                if let Err(error) = ready {
                    tracing::error!(%error, "the HELLO socket failed");
                    return;
                }
            }
        }
        for _ in 0..BATCH {
            match socket.try_recv_from(&mut buffer) {
                Ok((length, from)) => answer(registry, &buffer[..length], from),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // A port unreachable of somebody's that comes back to us.
                Err(error) => tracing::debug!(%error, "a datagram was not received"),
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Takes one datagram.
pub(crate) fn answer(registry: &Registry, datagram: &[u8], from: SocketAddr) {
    let stats = &registry.stats.hello;
    stats.received.count();
    let Some(clear) = peek(datagram).filter(|c| c.direction == Direction::Peer) else {
        return stats.malformed.count();
    };
    let account = AccountId(clear.session);
    let Some(salt) = registry.presence().salt(account, clear.epoch) else {
        return stats.unknown_session.count();
    };
    let key = HelloKey::peer(&registry.session_key(account, clear.epoch, &salt));
    let Some(hello) = Hello::open(datagram, &key) else { return stats.unsealed.count() };
    let (outgoing, arrived) = {
        let mut presence = registry.presence();
        (presence.on_hello(&hello, from, registry.now_ms()), presence.has_arrived())
    };
    if arrived {
        registry.arrived.notify_one();
    }
    let Some(outgoing) = outgoing else { return stats.replayed.count() };
    registry.outlet.send(&registry.seal(&outgoing), outgoing.address);
    stats.answered.count();
}

/// Moves presence on, adapts the interval, and tells watchers, until told to stop.
pub(crate) async fn upkeep(registry: &Registry, stop: &CancellationToken) {
    let mut ticks = time::interval(UPKEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut count = 0_u32;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = registry.arrived.notified() => tell_watchers(registry).await,
            _ = ticks.tick() => {
                move_on(registry).await;
                count = count.wrapping_add(1);
                if count.is_multiple_of(FORGET_EVERY) {
                    registry.limits.forget_idle();
                }
            }
        }
    }
}

/// One upkeep: counts out who is gone, and adapts the interval.
pub(crate) async fn move_on(registry: &Registry) {
    registry.presence().tick(registry.now_ms());
    registry.stats.presence_moved();
    adapt_interval(registry).await;
}

/// The interval is on disk before it is offered: the grace after a restart depends on it.
async fn adapt_interval(registry: &Registry) {
    let Some(wanted_ms) = registry.presence().wanted_interval_ms(registry.now_ms()) else { return };
    match registry.store.set_interval(Duration::from_millis(u64::from(wanted_ms))).await {
        Ok(()) => {
            let mut presence = registry.presence();
            presence.set_interval(wanted_ms);
            let online = presence.online();
            tracing::info!(online, interval_ms = wanted_ms, "the HELLO interval changed");
        }
        Err(error) => tracing::error!(%error, "the HELLO interval cannot be kept"),
    }
}

/// Raises the versions of those who waited for somebody that came online, and nudges them.
pub(crate) async fn tell_watchers(registry: &Registry) {
    let arrived = registry.presence().take_arrived();
    if arrived.is_empty() {
        return;
    }
    let watchers = arrived.iter().map(|arrival| arrival.watcher).collect();
    match registry.store.bump(watchers).await {
        Ok(bumped) => {
            // Raised in order, one by one; a watcher that is gone was left out.
            let mut versions = bumped.iter().copied().peekable();
            for arrival in arrived {
                if let Some((_, version)) = versions.next_if(|(who, _)| *who == arrival.watcher) {
                    registry.presence().date_arrival(arrival, version);
                }
            }
            registry.announce(&bumped);
        }
        Err(error) => tracing::error!(%error, "watchers cannot be told"),
    }
}
