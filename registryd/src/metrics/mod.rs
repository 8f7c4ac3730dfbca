//! Metrics for Prometheus and a health check for whoever watches, over HTTP; off unless configured.
//!
//! `GET /metrics` is answered with all counters, `GET /health` with 200 or, if something is wrong, 503 and
//! in both cases one object of JSON that says what was looked at:
//! `{"schema":"registryd.health/1","healthy":false,"store":"ok","disk":"full","hello":"ok","load":"ok"}`.
//!
//! There is no password, so the address is one of this machine by its type. Connections, the size of a
//! request and the time of each are bounded, and a connection carries one request: who only reads costs the
//! registry next to nothing, and who does worse costs no more.

mod address;
mod encode;

use std::{
    convert::Infallible,
    fs, io,
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CONTENT_TYPE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::Semaphore,
    task::JoinSet,
    time,
};
use tokio_util::sync::CancellationToken;

pub use address::{MetricsAddress, MetricsAddressError};

use crate::{
    registry::Registry,
    stats::{health::Health, snapshot::Snapshot},
};

/// Connections at a time: a few who scrape, and none who park.
const CONNECTIONS_MAX: usize = 16;

/// Of the request's head; what has a larger one is no scraper.
const HEAD_BYTES_MAX: usize = 8 * 1024;
const HEADERS_MAX: usize = 64;

/// The head of the request.
const HEAD_READ: Duration = Duration::from_secs(5);

/// A connection from its begin to its end, the answer included.
const CONNECTION: Duration = Duration::from_secs(10);

/// After an accept that failed, for want of descriptors most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who may use a local socket: its owner, and the group that the folder gives it.
const SOCKET_MODE: u32 = 0o660;

/// What is listened on. A socket's file is removed at the end.
#[derive(Debug)]
pub(crate) enum Listener {
    /// Of loopback.
    Tcp(TcpListener),
    /// A local socket.
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Binds. A socket that a former process left is replaced, one that somebody listens on is not.
    ///
    /// # Errors
    /// Whatever the system says.
    pub(crate) async fn bind(address: &MetricsAddress) -> io::Result<Listener> {
        match address {
            MetricsAddress::Loopback(address) => Ok(Self::Tcp(TcpListener::bind(address).await?)),
            MetricsAddress::Unix(path) => {
                remove_stale(path)?;
                let listener = UnixListener::bind(path)?;
                fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
                Ok(Self::Unix(listener, path.clone()))
            }
        }
    }

    /// Where, as it can be written in the configuration, with the port that was taken.
    pub(crate) fn address(&self) -> io::Result<MetricsAddress> {
        Ok(match self {
            Self::Tcp(listener) => MetricsAddress::Loopback(listener.local_addr()?),
            Self::Unix(_, path) => MetricsAddress::Unix(path.clone()),
        })
    }

    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Tcp(listener) => Box::new(listener.accept().await?.0),
            Self::Unix(listener, _) => Box::new(listener.accept().await?.0),
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            // Only litter is left if this fails, and the next start removes it.
            let _ = fs::remove_file(path);
        }
    }
}

/// A socket that nobody listens on is in the way of ours; all else at its path is somebody's.
fn remove_stale(path: &Path) -> io::Result<()> {
    // A connection to what is no socket is refused as well.
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    match UnixStream::connect(path) {
        Err(error) if is_socket && error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path)
        }
        _ => Ok(()),
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Answers until told to stop.
pub(crate) async fn serve(registry: Arc<Registry>, listener: Listener, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a request for metrics failed");
                }
                continue;
            }
            accepted = listener.accept() => match accepted {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection for metrics was not accepted");
                    time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        // Over the limit it is cut.
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let registry = registry.clone();
        connections.spawn(async move {
            let _place = place;
            if time::timeout(CONNECTION, converse(&registry, stream)).await.is_err() {
                tracing::debug!("a connection for metrics was too slow");
            }
        });
    }
    connections.shutdown().await;
}

async fn converse(registry: &Registry, stream: Box<dyn Stream>) {
    let service =
        service_fn(|request| async move { Ok::<_, Infallible>(answer(registry, &request).await) });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_READ)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection for metrics ended early");
    }
}

/// One answer, whatever was asked.
async fn answer(registry: &Registry, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if request.method() != Method::GET {
        let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered\n");
        refused.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET"));
        return refused;
    }
    match request.uri().path() {
        "/metrics" => metrics(registry).await,
        "/health" => health(registry),
        _ => plain(StatusCode::NOT_FOUND, "there are /metrics and /health\n"),
    }
}

async fn metrics(registry: &Registry) -> Response<Full<Bytes>> {
    let snapshot = Snapshot::of(registry).await;
    match encode::text_of(snapshot, Health::of(registry)) {
        Ok(text) => response(StatusCode::OK, encode::CONTENT_TYPE, text),
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written\n"),
    }
}

/// The body of `/health`.
#[derive(Serialize)]
struct HealthBody {
    schema: &'static str,
    #[serde(flatten)]
    health: Health,
}

fn health(registry: &Registry) -> Response<Full<Bytes>> {
    let health = Health::of(registry);
    let status = if health.healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = HealthBody { schema: "registryd.health/1", health };
    let text = serde_json::to_string(&body).expect("words and a boolean are plain JSON");
    response(status, "application/json", text + "\n")
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    response(status, "text/plain; charset=utf-8", text.to_owned())
}

fn response(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
