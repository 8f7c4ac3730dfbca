//! The running registry: its ports and tasks, and an end in good order.
//!
//! TCP and UDP have the same number. Every task is in one set and told to stop by one token; a stop
//! refuses new connections, lets requests that run finish, and cuts what is left after a grace period.

use std::{
    convert::Infallible,
    fmt, io,
    net::{IpAddr, SocketAddr, ToSocketAddrs as _, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt};
use registryd_proto::{PublicKey, tls};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::TcpListener, task::JoinSet, time};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    accept, admin,
    clock::Clock,
    config::Config,
    hello,
    instance::{Begun, Instance, InstanceError},
    limits::Limits,
    metrics::{self, MetricsAddress},
    outlet::Outlet,
    password::{PasswordError, Passwords},
    random::Random,
    registry::{BeginError, Registry, Surroundings},
    reload::{self, Reloaded},
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

/// Room for HELLOs that arrive while the loop is busy: 20,000 of them, for the system takes about 800 bytes
/// for one, and doubles this number.
const UDP_BUFFER_BYTES: usize = 8 * 1024 * 1024;

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

/// The registry, of which nothing is shown: it holds secrets.
struct Running(Arc<Registry>);

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").finish_non_exhaustive()
    }
}

/// A registry that serves.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    key: PublicKey,
    /// Dropped, it tells all tasks to stop: the thread of HELLO among them would go on for ever.
    stop: DropGuard,
    tasks: JoinSet<()>,
    metrics: Option<MetricsAddress>,
    registry: Running,
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

        let nudges = socket
            .try_clone()
            .map_err(|source| StartError::Listen { listen: config.listen.clone(), source })?;
        let surroundings = Surroundings {
            clock: Clock::system(),
            random: Random::System,
            passwords: Passwords::new()?,
            limits: Limits::new(&config.limits),
            outlet: Outlet::Socket(nudges),
            port: address.port(),
        };
        let registry = Registry::begin(config, keys.clone(), store, surroundings).await?;
        let registry = Arc::new(registry);

        let running = registry.clone();
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let (shared, token) = (registry.clone(), stop.clone());
        tasks.spawn_blocking(move || hello::serve(&shared, socket, &token));
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
        match admin::open(&registry.config().data_dir) {
            Ok(door) => {
                tasks.spawn(admin::serve(registry.clone(), door, stop.clone()));
            }
            // Whoever chats needs no operator.
            Err(error) => tracing::error!(%error, "`registryd admin` cannot reach this registry"),
        }
        tasks.spawn(accept::serve(registry, acceptor, listener, stop.clone()));
        // Only now: nobody waits for it.
        running.store.check_if_large();
        Ok(Server {
            address,
            key: keys.public(),
            stop: stop.drop_guard(),
            tasks,
            metrics: metrics_address,
            registry: Running(running),
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

    /// Another configuration: what can change does at once, and the rest is told.
    pub fn reload(&self, config: Config) -> Reloaded {
        reload::apply(&self.registry.0, config)
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
        self.stop.disarm().cancel();
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
    let (store, hang_limit) = (&registry.store, registry.config().store.hang_limit());
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
            // What is kept already, never less: a peer may still use an interval that is offered no more.
            let interval_ms = registry.presence().kept_interval_ms();
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
        // Beyond the system's limit only root gets it; a smaller one loses HELLOs earlier under load.
        let _ = setsockopt(&udp, sockopt::RcvBufForce, &UDP_BUFFER_BYTES)
            .map_err(io::Error::from)
            .or_else(|_| udp.set_recv_buffer_size(UDP_BUFFER_BYTES));
        let same = SocketAddr::new(address.ip(), listener.local_addr()?.port());
        match udp.bind(&same.into()) {
            Ok(()) => return Ok((listener, udp.into())),
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
