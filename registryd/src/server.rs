//! The running registry: ports, accept loop, and an end in good order.
//!
//! TCP and UDP have the same number. Every task is in one set and told to stop by one token; a stop
//! refuses new connections, lets requests that run finish, and cuts what is left after a grace period.

use std::{
    collections::HashMap,
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use registryd_proto::{PublicKey, tls};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::{
    admin,
    clock::Clock,
    config::Config,
    connection, hello,
    instance::{Begun, Instance, InstanceError},
    limits::{Limits, Source},
    metrics::{self, MetricsAddress},
    outlet::Outlet,
    password::{PasswordError, Passwords},
    random::Random,
    registry::{BeginError, Registry, Surroundings},
    stats::Present,
    store::{OpenError, Store},
};

/// How long requests that run may take to finish at a stop; below the 5 s that the contract gives.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// How often a full disk is asked whether there is space again.
const FULL_RETRY: Duration = Duration::from_secs(5);

/// Tries to find a number that is free in TCP and UDP, for port 0.
const PORT_TRIES: usize = 32;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Room for HELLOs that arrive while the loop is busy: 50,000 of them.
const UDP_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Why the registry does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// The database.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What is in it.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// The dummy hash.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// The address of the metrics.
    #[error("cannot listen on {listen} for metrics: {source}")]
    Metrics {
        /// As configured.
        listen: MetricsAddress,
        /// Why.
        source: io::Error,
    },
    /// The address to listen on.
    #[error("cannot listen on {listen}: {source}")]
    Listen {
        /// As configured.
        listen: String,
        /// Why.
        source: io::Error,
    },
}

/// A registry that serves.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    key: PublicKey,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    metrics: Option<MetricsAddress>,
    /// How often the store was found alive.
    answers: Arc<AtomicU64>,
    /// Unlocks the data folder when all is done.
    _instance: Instance,
}

impl Server {
    /// Takes the data folder, opens the ports and serves. Needs a runtime.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub async fn start(config: Config) -> Result<Server, StartError> {
        let instance = Instance::lock(&config.data_dir)?;
        let (keys, begun) = instance.keys()?;
        let keys = Arc::new(keys);
        let store = Store::open(&instance.database(), keys.clone(), begun)?;
        if begun == Begun::Anew {
            instance.complete()?;
        }
        let (listener, socket) = bind(&config.listen)
            .map_err(|source| StartError::Listen { listen: config.listen.clone(), source })?;
        let address = local(&listener, &config)?;
        let (metrics, metrics_address) = bind_metrics(&config).await?.unzip();
        let acceptor = TlsAcceptor::from(tls::server_config(&keys)?);

        let socket = Arc::new(socket);
        let surroundings = Surroundings {
            clock: Clock::system(),
            random: Random::System,
            passwords: Passwords::new()?,
            limits: Limits::new(&config.limits),
            outlet: Outlet::Socket(socket.clone()),
            port: address.port(),
        };
        let registry = Registry::begin(config, keys.clone(), store, surroundings).await?;
        let registry = Arc::new(registry);

        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let (shared, token) = (registry.clone(), stop.clone());
        tasks.spawn(async move { hello::serve(&shared, &socket, &token).await });
        let (shared, token) = (registry.clone(), stop.clone());
        tasks.spawn(async move { hello::upkeep(&shared, &token).await });
        let (shared, token) = (registry.clone(), stop.clone());
        let answers = Arc::new(AtomicU64::new(0));
        let count = answers.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = token.cancelled() => {}
                () = watch_store(&shared, &count) => {}
                never = retry_full(&shared) => match never {},
            }
        });
        if let Some(metrics) = metrics {
            tasks.spawn(metrics::serve(registry.clone(), metrics, stop.clone()));
        }
        match admin::open(&registry.config.data_dir) {
            Ok(door) => {
                tasks.spawn(admin::serve(registry.clone(), door, stop.clone()));
            }
            // Whoever chats needs no operator.
            Err(error) => tracing::error!(%error, "`registryd admin` cannot reach this registry"),
        }
        tasks.spawn(accept(registry, acceptor, listener, stop.clone()));
        Ok(Server {
            address,
            key: keys.public(),
            stop,
            tasks,
            metrics: metrics_address,
            answers,
            _instance: instance,
        })
    }

    /// The registry's address as peers write it: `KEY@HOST:PORT`. A wildcard is shown as `localhost`.
    pub fn address(&self) -> String {
        let host = match self.address.ip() {
            ip if ip.is_unspecified() => format!("localhost:{}", self.address.port()),
            _ => self.address.to_string(),
        };
        format!("{}@{host}", self.key)
    }

    /// The address of both ports.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Where metrics and health can be had, if they can.
    pub fn metrics_address(&self) -> Option<&MetricsAddress> {
        self.metrics.as_ref()
    }

    /// The registry's key.
    pub fn key(&self) -> PublicKey {
        self.key
    }

    /// How often the store was found alive since the start: it is asked every two seconds at the least. Who
    /// finds the same number twice, some seconds apart, has found a disk that hangs.
    pub fn store_answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Ends only if a task of the registry ended by itself, which is a fault: the caller stops then, and
    /// whoever watches over the process starts it anew.
    pub async fn failed(&mut self) {
        if let Some(Err(error)) = self.tasks.join_next().await {
            tracing::error!(%error, "a task of the registry failed");
        }
    }

    /// Stops in good order and unlocks the data folder. Takes as long as requests that run, and not more
    /// than about 3 s.
    pub async fn stop(mut self) {
        self.stop.cancel();
        let drained = async {
            while let Some(ended) = self.tasks.join_next().await {
                if let Err(error) = ended {
                    tracing::error!(%error, "a task of the registry failed");
                }
            }
        };
        if time::timeout(STOP_GRACE, drained).await.is_err() {
            tracing::warn!("requests that ran too long were cut");
            self.tasks.shutdown().await;
        }
    }
}

/// Ends when the store cannot go on, or hangs.
async fn watch_store(registry: &Registry, answers: &AtomicU64) {
    let (store, hang_limit) = (&registry.store, registry.config.store.hang_limit());
    let answered = || {
        answers.fetch_add(1, Ordering::Relaxed);
        registry.stats.store_answered();
    };
    tokio::select! {
        () = store.failed() => tracing::error!("the store ended"),
        () = store.hung(hang_limit, answered) => {
            tracing::error!("the disk has not answered for {hang_limit:?}: the registry ends");
        }
    }
}

/// Writes now and then while the disk is full: else nobody would know that it is not any more.
async fn retry_full(registry: &Registry) -> Infallible {
    loop {
        time::sleep(FULL_RETRY).await;
        if registry.store.is_full() {
            let interval_ms = registry.presence().interval_ms();
            // An error is what is expected.
            let _ = registry.store.set_interval(Duration::from_millis(interval_ms.into())).await;
        }
    }
}

async fn bind_metrics(
    config: &Config,
) -> Result<Option<(metrics::Listener, MetricsAddress)>, StartError> {
    let Some(listen) = &config.metrics.listen else { return Ok(None) };
    let fail = |source| StartError::Metrics { listen: listen.clone(), source };
    let listener = metrics::Listener::bind(listen).await.map_err(fail)?;
    let address = listener.address().map_err(fail)?;
    tracing::info!(%address, "metrics and health can be had");
    Ok(Some((listener, address)))
}

fn local(listener: &TcpListener, config: &Config) -> Result<SocketAddr, StartError> {
    listener
        .local_addr()
        .map_err(|source| StartError::Listen { listen: config.listen.clone(), source })
}

/// Binds both ports with one number; a wildcard IPv6 address takes IPv4 as well, and falls back to it on
/// a machine without IPv6.
fn bind(listen: &str) -> io::Result<(TcpListener, UdpSocket)> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in listen.to_socket_addrs()? {
        match bind_at(address) {
            Ok(bound) => return Ok(bound),
            Err(error) => last = error,
        }
        if address.ip() == IpAddr::from([0_u16; 8]) && !has_ipv6() {
            return bind_at((IpAddr::from([0, 0, 0, 0]), address.port()).into());
        }
    }
    Err(last)
}

fn has_ipv6() -> bool {
    Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))
        .and_then(|s| s.bind(&SocketAddr::from(([0_u16; 8], 0)).into()))
        .is_ok()
}

fn bind_at(address: SocketAddr) -> io::Result<(TcpListener, UdpSocket)> {
    let tries = if address.port() == 0 { PORT_TRIES } else { 1 };
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..tries {
        let tcp = socket(address, Type::STREAM, Protocol::TCP)?;
        tcp.set_reuse_address(true)?;
        tcp.bind(&address.into())?;
        tcp.listen(BACKLOG)?;
        let listener = TcpListener::from_std(tcp.into())?;

        let udp = socket(address, Type::DGRAM, Protocol::UDP)?;
        // A smaller buffer only loses HELLOs earlier under load.
        let _ = udp.set_recv_buffer_size(UDP_BUFFER_BYTES);
        let same = SocketAddr::new(address.ip(), listener.local_addr()?.port());
        match udp.bind(&same.into()) {
            Ok(()) => return Ok((listener, UdpSocket::from_std(udp.into())?)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// How many connections a source holds.
#[derive(Debug, Default)]
struct Sources(Mutex<HashMap<Source, usize>>);

/// One connection of a source; gives its place back when dropped.
struct Place {
    sources: Arc<Sources>,
    source: Source,
    _permit: OwnedSemaphorePermit,
}

impl Sources {
    fn enter(
        self: &Arc<Self>,
        source: Source,
        max: usize,
        permit: OwnedSemaphorePermit,
    ) -> Option<Place> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(source).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Place { sources: self.clone(), source, _permit: permit })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.sources.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.source);
            }
        }
    }
}

async fn accept(
    registry: Arc<Registry>,
    acceptor: TlsAcceptor,
    listener: TcpListener,
    stop: CancellationToken,
) {
    let all = Arc::new(Semaphore::new(registry.config.connections.max));
    let sources = Arc::new(Sources::default());
    let mut connections = JoinSet::new();
    loop {
        let (stream, address) = tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => {
                report(ended);
                continue;
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, remote)) => (stream, remote.ip().to_canonical()),
                Err(error) => {
                    // Out of descriptors, most likely: closing others is what helps.
                    registry.stats.connections.failed.count();
                    tracing::warn!(%error, "a connection was not accepted");
                    time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let stats = &registry.stats.connections;
        let Ok(permit) = all.clone().try_acquire_owned() else {
            stats.refused_full.count();
            tracing::debug!(%address, "a connection over the limit was cut");
            continue;
        };
        let per_source_max = registry.config.connections.per_source_max;
        let Some(place) = sources.enter(address.into(), per_source_max, permit) else {
            stats.refused_source.count();
            tracing::debug!(%address, "a connection over the limit of its source was cut");
            continue;
        };
        stats.accepted.count();
        connections.spawn(converse(
            registry.clone(),
            acceptor.clone(),
            (stream, address),
            stop.clone(),
            place,
        ));
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        report(ended);
    }
}

async fn converse(
    registry: Arc<Registry>,
    acceptor: TlsAcceptor,
    (stream, address): (TcpStream, IpAddr),
    stop: CancellationToken,
    _place: Place,
) {
    let stats = &registry.stats.connections;
    let _open = Present::enter(stats);
    let served = connection::serve(&registry, &acceptor, stream, address, &stop).await;
    if let Err(error) = served {
        stats.broken.count();
        tracing::debug!(%address, %error, "a connection ended early");
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection failed");
    }
}
