//! The accept loop of one listener: from a first packet of anybody to a connection with its stream.
//!
//! Costs are bounded before anything is known of the caller: handshakes in flight, in all and for each
//! source; connections; and the time for each step. A source that has not shown that it receives what we
//! send to it is asked to (QUIC Retry) once there are many.
//!
//! The endpoint's own buffer of first packets is large, but this loop takes each at once.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use iroh::{
    Endpoint,
    endpoint::{Accepting, Incoming, IncomingAddr},
};
use registryd_proto::PublicKey;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::{Id, JoinSet},
    time::timeout,
};

use super::{
    Listener,
    task::{CloseCode, Established, close},
};
use crate::core::LinkKind;

/// Handshakes in flight on one listener.
const HANDSHAKES_MAX: usize = 256;
/// Of them, from one source. A whole room may be behind one address.
const SOURCE_HANDSHAKES_MAX: usize = 64;
/// Above so many in flight, sources must prove their address first.
const RETRY_ABOVE: usize = 32;
/// From accepted to handshake done.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// From there to the first bytes on the stream.
const FIRST_STREAM: Duration = Duration::from_secs(5);

/// Where a packet comes from, as far as it counts: an IPv6 customer has a /64. `None`: through a relay.
type Source = Option<IpAddr>;

/// Takes connections until the endpoint is closed. `connections` bounds how many it holds
/// open.
pub(super) async fn run(
    listener: Arc<Listener>,
    generation: u64,
    endpoint: Endpoint,
    connections: Arc<Semaphore>,
    established: mpsc::Sender<Established>,
) {
    let mut gate = Gate::default();
    let mut handshakes = JoinSet::new();
    loop {
        tokio::select! {
            Some(done) = handshakes.join_next_with_id() => match done {
                Ok((task, ())) => gate.leave(task),
                Err(error) => {
                    tracing::error!(%error, "a handshake's task failed");
                    gate.leave(error.id());
                }
            },
            incoming = endpoint.accept() => {
                let Some(incoming) = incoming else { return };
                let Some((accepting, source, permit)) = admit(&gate, incoming, &connections) else {
                    continue;
                };
                let (listener, established) = (Arc::clone(&listener), established.clone());
                let task = handshakes.spawn(async move {
                    let link = welcome(listener.kind, generation, accepting, permit).await;
                    if let Some(link) = link {
                        // The links' task has ended: nobody wants this connection.
                        let _ = established.send(link).await;
                    }
                });
                gate.enter(task.id(), source);
            }
        }
    }
}

fn admit(
    gate: &Gate,
    incoming: Incoming,
    connections: &Arc<Semaphore>,
) -> Option<(Accepting, Source, OwnedSemaphorePermit)> {
    let source = source(&incoming.remote_addr());
    match gate.check(source, incoming.remote_addr_validated()) {
        Verdict::Take => {}
        Verdict::Retry => {
            // Fails only for a source that is validated, which this one is not.
            let _ = incoming.retry();
            return None;
        }
        Verdict::Ignore => {
            // An honest peer sends again after a second; to a flood no byte is spent.
            incoming.ignore();
            return None;
        }
    }
    let Ok(permit) = Arc::clone(connections).try_acquire_owned() else {
        incoming.refuse();
        return None;
    };
    match incoming.accept() {
        Ok(accepting) => Some((accepting, source, permit)),
        Err(error) => {
            tracing::debug!(%error, "an incoming connection failed");
            None
        }
    }
}

/// The handshake, then the first stream. The dialler writes its `hello` at once, so a caller without one
/// is no peer and never becomes a link.
async fn welcome(
    kind: LinkKind,
    generation: u64,
    accepting: Accepting,
    permit: OwnedSemaphorePermit,
) -> Option<Established> {
    let remote = match accepting.remote_addr() {
        IncomingAddr::Ip(address) => Some(address),
        _ => None,
    };
    let connection = match timeout(HANDSHAKE, accepting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a handshake failed");
            return None;
        }
        Err(_) => return None,
    };
    let Ok(key) = PublicKey::from_bytes(connection.remote_id().as_bytes()) else {
        close(&connection, CloseCode::Violation);
        return None;
    };
    match timeout(FIRST_STREAM, connection.accept_bi()).await {
        Ok(Ok((send, recv))) => Some(Established {
            kind,
            generation,
            key,
            connection,
            send,
            recv,
            dialled: false,
            remote,
            permit,
        }),
        Ok(Err(_)) => None,
        Err(_) => {
            close(&connection, CloseCode::TooSlow);
            None
        }
    }
}

fn source(address: &IncomingAddr) -> Source {
    match address {
        IncomingAddr::Ip(address) => Some(match address.ip().to_canonical() {
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            v4 => v4,
        }),
        _ => None,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Take,
    Retry,
    Ignore,
}

/// Counts the handshakes in flight.
#[derive(Debug, Default)]
struct Gate {
    tasks: HashMap<Id, Source>,
    sources: HashMap<Source, usize>,
}

impl Gate {
    fn check(&self, source: Source, validated: bool) -> Verdict {
        let from_source = self.sources.get(&source).copied().unwrap_or(0);
        match self.tasks.len() {
            n if n >= HANDSHAKES_MAX || from_source >= SOURCE_HANDSHAKES_MAX => Verdict::Ignore,
            n if n >= RETRY_ABOVE && !validated => Verdict::Retry,
            _ => Verdict::Take,
        }
    }

    fn enter(&mut self, task: Id, source: Source) {
        self.tasks.insert(task, source);
        *self.sources.entry(source).or_default() += 1;
    }

    fn leave(&mut self, task: Id) {
        let Some(source) = self.tasks.remove(&task) else { return };
        if let Some(count) = self.sources.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.sources.remove(&source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_gate_counts_each_source_and_all() {
        let mut gate = Gate::default();
        let source = |n: usize| Some(IpAddr::from([10, 0, 0, u8::try_from(n).expect("few")]));
        let mut tasks = JoinSet::new();
        for n in 0..HANDSHAKES_MAX {
            let from = source(n / SOURCE_HANDSHAKES_MAX);
            let wanted = if n >= RETRY_ABOVE { Verdict::Retry } else { Verdict::Take };
            assert_eq!(gate.check(from, false), wanted);
            assert_eq!(gate.check(from, true), Verdict::Take);
            gate.enter(tasks.spawn(async {}).id(), from);
            if (n + 1) % SOURCE_HANDSHAKES_MAX == 0 {
                assert_eq!(gate.check(from, true), Verdict::Ignore, "one source has enough");
            }
        }
        assert_eq!(gate.check(source(99), true), Verdict::Ignore, "all have enough");
        while let Some(done) = tasks.join_next_with_id().await {
            gate.leave(done.expect("empty task").0);
        }
        assert_eq!(gate.check(source(0), false), Verdict::Take);
        assert!(gate.sources.is_empty() && gate.tasks.is_empty());
    }

    #[test]
    fn an_ipv6_source_is_its_network() {
        let of = |text: &str| source(&IncomingAddr::Ip(text.parse().expect("address")));
        assert_eq!(of("[2001:db8::1]:1"), of("[2001:db8::ffff]:2"));
        assert_ne!(of("[2001:db8::1]:1"), of("[2001:db8:0:1::1]:1"));
        assert_eq!(of("[::ffff:192.0.2.1]:1"), of("192.0.2.1:9"));
    }
}
