//! One connection after its handshake: requests answered in order, each under a deadline.
//!
//! Whatever has arrived is taken together, up to a bound: searches one behind the other are looked up at
//! once, and their replies leave at once. No reply waits for a slower request behind it.
//!
//! A client that is silent, slow, or sends what is no frame costs one task and one small buffer until its
//! deadline, then it is cut.

use std::{
    io,
    net::IpAddr,
    sync::OnceLock,
    time::{Duration, Instant},
};

use registryd_proto::{
    Code, Failure, Request, Username,
    frame::{self, FrameError, Kind},
    tls,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{error::Elapsed, timeout},
};
use tokio_rustls::server::TlsStream;
use tokio_util::{
    bytes::BytesMut,
    codec::{Decoder as _, LengthDelimitedCodec},
    sync::CancellationToken,
};

use crate::{
    connections::Place,
    error::RequestError,
    handler::{self, Caller, Said},
    registry::Registry,
    stats::Verb,
};

/// One request from its first byte to its last.
const REQUEST_READ: Duration = Duration::from_secs(10);
/// Between requests.
const IDLE: Duration = Duration::from_secs(30);
/// What is written at once.
const REPLY_WRITE: Duration = Duration::from_secs(10);
/// All that a connection costs which is refused.
const REFUSE: Duration = Duration::from_secs(2);

/// Room for each read, and with it about as many searches as are looked up at once.
const READ_BYTES: usize = 4 * 1024;
/// Searches that are looked up at once: others wait for the store's reader no longer than that takes.
const SEARCHES_MAX: usize = 64;
/// Replies that wait for each other; those of one look-up may come on top.
const REPLIES_BYTES: usize = 64 * 1024;

/// Why a connection ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error("too slow")]
    Slow(#[from] Elapsed),
    #[error("it was silent, and its place is taken by another")]
    Shed,
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    #[error("a reply could not be written: {0}")]
    Frame(#[from] frame::FrameError),
}

/// What is to be answered next.
enum Arrived {
    /// Searches one behind the other, at least one.
    Searches(Vec<Username>),
    /// Any other request.
    Request(Box<Request>),
    /// A frame that holds no request.
    Unreadable(FrameError),
    /// A length over the limit: what follows cannot be told apart any more.
    TooLarge,
}

/// Tells a client that there is no place for it, as the answer to whatever it asks, and ends.
pub(crate) async fn refuse(
    mut stream: TlsStream<TcpStream>,
    error: &RequestError,
) -> Result<(), ConnectionError> {
    let mut reply = BytesMut::new();
    frame::append(Kind::Reply, &Said::from(error.failure()), &mut reply)?;
    timeout(REFUSE, async {
        stream.write_all(&reply).await?;
        stream.shutdown().await?;
        // Closed before its request has come, the reply could be lost on the way.
        let mut request = BytesMut::with_capacity(READ_BYTES);
        while stream.read_buf(&mut request).await? > 0 {
            request.clear();
        }
        Ok(())
    })
    .await?
}

/// Serves a connection to its end.
pub(crate) async fn serve(
    registry: &Registry,
    stream: TlsStream<TcpStream>,
    address: IpAddr,
    place: &Place,
    stop: &CancellationToken,
) -> Result<(), ConnectionError> {
    let key = tls::remote_key(stream.get_ref().1)?;
    let owner = OnceLock::new();
    let caller = Caller { registry, key, address, owner: &owner };
    let mut connection = Connection {
        stream,
        codec: Kind::Request.codec(),
        buffer: BytesMut::new(),
        decoded: None,
        replies: BytesMut::new(),
    };
    loop {
        let go_on = match connection.take() {
            Some(arrived) => connection.answer(caller, arrived).await?,
            None => {
                connection.flush().await?;
                place.is_silent();
                let more = tokio::select! {
                    () = stop.cancelled() => false,
                    () = place.shed() => false,
                    more = connection.read_more() => more?,
                };
                place.is_busy();
                more
            }
        };
        if !go_on || stop.is_cancelled() {
            break;
        }
    }
    connection.flush().await?;
    timeout(REPLY_WRITE, connection.stream.shutdown()).await??;
    Ok(())
}

/// What has arrived on a connection, and what waits to leave it.
struct Connection {
    stream: TlsStream<TcpStream>,
    codec: LengthDelimitedCodec,
    /// Frames that have arrived, and the beginning of the next.
    buffer: BytesMut,
    /// The next one, if it is out of the buffer already.
    decoded: Option<Arrived>,
    /// Whole frames.
    replies: BytesMut,
}

impl Connection {
    /// What has arrived whole; `None`: nothing more.
    fn take(&mut self) -> Option<Arrived> {
        let mut usernames = Vec::new();
        while usernames.len() < SEARCHES_MAX {
            match self.decoded.take().or_else(|| self.decode()) {
                Some(Arrived::Searches(one)) => usernames.extend(one),
                other if usernames.is_empty() => return other,
                other => {
                    self.decoded = other;
                    break;
                }
            }
        }
        Some(Arrived::Searches(usernames))
    }

    fn decode(&mut self) -> Option<Arrived> {
        let json = match self.codec.decode(&mut self.buffer) {
            Ok(json) => json?,
            Err(_) => return Some(Arrived::TooLarge),
        };
        Some(match frame::decode(&json) {
            Ok(Request::Search { username }) => Arrived::Searches(vec![username]),
            Ok(request) => Arrived::Request(Box::new(request)),
            Err(error) => Arrived::Unreadable(error),
        })
    }

    /// Waits for the next frame. `false`: at the end of the stream, or of patience between two requests.
    async fn read_more(&mut self) -> Result<bool, ConnectionError> {
        if self.buffer.is_empty() {
            let read = timeout(IDLE, self.read()).await.unwrap_or(Ok(0))?;
            if read == 0 {
                return Ok(false);
            }
        }
        let whole = async {
            loop {
                self.decoded = self.decode();
                if self.decoded.is_some() {
                    return Ok(true);
                }
                if self.read().await? == 0 {
                    return Ok(false);
                }
            }
        };
        timeout(REQUEST_READ, whole).await?
    }

    async fn read(&mut self) -> io::Result<usize> {
        self.buffer.reserve(READ_BYTES);
        self.stream.read_buf(&mut self.buffer).await
    }

    /// Answers it; `false`: that was the last.
    async fn answer(
        &mut self,
        caller: Caller<'_>,
        arrived: Arrived,
    ) -> Result<bool, ConnectionError> {
        let start = Instant::now();
        match arrived {
            Arrived::Searches(usernames) => {
                for said in handler::answer_searches(caller, usernames).await {
                    self.say(caller, Verb::Search, &said, start)?;
                }
                if self.replies.len() >= REPLIES_BYTES {
                    self.flush().await?;
                }
                Ok(true)
            }
            Arrived::Request(request) => {
                self.flush().await?;
                let verb = Verb::from(&*request);
                let said = handler::answer(caller, *request).await;
                self.say(caller, verb, &said, start)?;
                Ok(true)
            }
            Arrived::Unreadable(error) => {
                let refused = handler::refuse(caller, error);
                let go_on = refused.is_ok();
                let said = Said::from(refused.unwrap_or_else(|last| last));
                self.say(caller, Verb::Unreadable, &said, start)?;
                Ok(go_on)
            }
            Arrived::TooLarge => {
                let failure = Failure::new(Code::Usage, "the request is too large");
                self.say(caller, Verb::Unreadable, &failure.into(), start)?;
                Ok(false)
            }
        }
    }

    fn say(
        &mut self,
        caller: Caller<'_>,
        verb: Verb,
        said: &Said,
        start: Instant,
    ) -> Result<(), ConnectionError> {
        caller.registry.stats.requests.answered(verb, said.code(), start);
        Ok(frame::append(Kind::Reply, said, &mut self.replies)?)
    }

    async fn flush(&mut self) -> Result<(), ConnectionError> {
        if self.replies.is_empty() {
            return Ok(());
        }
        // Its memory goes with it: most connections are silent most of the time.
        let replies = std::mem::take(&mut self.replies);
        timeout(REPLY_WRITE, async {
            self.stream.write_all(&replies).await?;
            self.stream.flush().await
        })
        .await??;
        Ok(())
    }
}
