//! The accept loop: from a port to connections that have proved their key.
//!
//! All handshakes are driven by this one task: they share one core at most, and however many come at once,
//! requests on connections that are open have their turn in between. Who has no place is told so with
//! the time to come back, as long as few are told at a time; the others are cut, which costs nothing.

use std::{net::IpAddr, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{JoinError, JoinSet},
    time::{self, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use crate::{
    connection::{self, ConnectionError},
    connections::{Connections, NoPlace, Place},
    error::RequestError,
    limits::Source,
    registry::Registry,
    stats::Present,
};

/// The handshake, all of it.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Those that are told at a time that there is no place for them.
const REFUSALS_MAX: usize = 32;

/// When the next one is accepted, where the system gave none.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What becomes of a connection that has shaken hands.
enum Fate {
    Served(Place),
    Refused(RequestError, OwnedSemaphorePermit),
}

type Shaken = (Result<TlsStream<TcpStream>, ConnectionError>, IpAddr, Fate);

/// Accepts and serves connections until told to stop, and then waits for those that are open.
pub(crate) async fn serve(
    registry: Arc<Registry>,
    acceptor: TlsAcceptor,
    listener: TcpListener,
    stop: CancellationToken,
) {
    let door = Door::new(&registry);
    let (mut served, mut handshakes) = (JoinSet::new(), FuturesUnordered::new());
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = served.join_next() => report(ended),
            Some(shaken) = handshakes.next() => {
                served.spawn(converse(registry.clone(), shaken, stop.clone()));
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, remote)) => {
                    let address = remote.ip().to_canonical();
                    if let Some(fate) = door.meet(&registry, address) {
                        handshakes.push(shake(acceptor.clone(), stream, address, fate));
                    }
                }
                Err(error) => {
                    // Out of descriptors, most likely: closing others is what helps.
                    registry.stats.connections.failed.count();
                    tracing::warn!(%error, "a connection was not accepted");
                    time::sleep(ACCEPT_RETRY).await;
                }
            },
        }
    }
    drop((listener, handshakes));
    while let Some(ended) = served.join_next().await {
        report(ended);
    }
}

/// Who is let in.
struct Door {
    connections: Arc<Connections>,
    refusals: Arc<Semaphore>,
}

impl Door {
    fn new(registry: &Registry) -> Self {
        let limits = registry.config().connections;
        Self {
            connections: Arc::new(Connections::new(limits.max, limits.per_source_max)),
            refusals: Arc::new(Semaphore::new(REFUSALS_MAX)),
        }
    }

    /// `None`: it is cut without a word.
    fn meet(&self, registry: &Registry, address: IpAddr) -> Option<Fate> {
        let limits = registry.config().connections;
        self.connections.limit(limits.max, limits.per_source_max);
        let (stats, source) = (&registry.stats.connections, Source::from(address));
        let error = match registry.limits.connection(source) {
            Ok(()) => match self.connections.enter(source) {
                Ok(place) => {
                    stats.accepted.count();
                    return Some(Fate::Served(place));
                }
                Err(no_place) => RequestError::from(no_place),
            },
            Err(limited) => limited.into(),
        };
        match &error {
            RequestError::NoPlace(NoPlace::Full) => registry.stats.refused_full(),
            _ => stats.refused_source.count(),
        }
        tracing::debug!(%address, %error, "a connection was refused");
        let permit = self.refusals.clone().try_acquire_owned().ok()?;
        Some(Fate::Refused(error, permit))
    }
}

async fn shake(acceptor: TlsAcceptor, stream: TcpStream, address: IpAddr, fate: Fate) -> Shaken {
    let shaken = async {
        stream.set_nodelay(true)?;
        Ok(timeout(HANDSHAKE, acceptor.accept(stream)).await??)
    };
    let shaken = match &fate {
        Fate::Refused(..) => shaken.await,
        Fate::Served(place) => tokio::select! {
            shaken = shaken => shaken,
            () = place.shed() => Err(ConnectionError::Shed),
        },
    };
    (shaken, address, fate)
}

async fn converse(registry: Arc<Registry>, shaken: Shaken, stop: CancellationToken) {
    let (stream, address, fate) = shaken;
    let stats = &registry.stats.connections;
    let ended = match (stream, fate) {
        (Err(error), _) => Err(error),
        (Ok(stream), Fate::Refused(error, _permit)) => connection::refuse(stream, &error).await,
        (Ok(stream), Fate::Served(place)) => {
            let _open = Present::enter(stats);
            connection::serve(&registry, stream, address, &place, &stop).await
        }
    };
    if let Err(error) = ended {
        stats.broken.count();
        tracing::debug!(%address, %error, "a connection ended early");
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection failed");
    }
}
