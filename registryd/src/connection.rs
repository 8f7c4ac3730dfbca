//! One connection after its handshake: requests answered in order, each under a deadline.
//!
//! Searches that have arrived one behind the other are looked up together, up to a bound, and their replies
//! leave together; the next ones are looked up meanwhile. All else is answered one by one. No reply waits for
//! a slower request behind it.
//!
//! A client that is silent, slow, or sends what is no frame costs one task and one small buffer until its
//! deadline, then it is cut.

use std::{
    io,
    net::IpAddr,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream::FuturesOrdered};
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
    handler::{self, Caller, Owner, Said},
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
/// Searches in one look-up: others wait for the store's reader no longer than that takes.
const SEARCHES_MAX: usize = 32;
/// Look-ups under way: the store's reader is at one while the replies of the other are written.
const LOOKUPS_MAX: usize = 2;

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
    Search(Username),
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
    let owner = Owner::default();
    let caller = Caller { registry, key, address, owner: &owner };
    let mut connection = Connection {
        stream,
        place,
        codec: Kind::Request.codec(),
        buffer: BytesMut::new(),
        decoded: None,
        replies: BytesMut::new(),
    };
    loop {
        let go_on = match connection.take() {
            Some(Arrived::Search(first)) => {
                connection.answer_searches(caller, first, stop).await?;
                true
            }
            Some(Arrived::Request(request)) => {
                connection.answer(caller, *request).await?;
                true
            }
            Some(Arrived::Unreadable(error)) => connection.answer_unreadable(caller, error)?,
            Some(Arrived::TooLarge) => {
                let failure = Failure::new(Code::Usage, "the request is too large");
                connection.say(caller, Verb::Unreadable, &failure.into(), Instant::now())?;
                false
            }
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

async fn look_up(caller: Caller<'_>, usernames: Vec<Username>) -> (Instant, Vec<Said>) {
    let start = Instant::now();
    (start, handler::answer_searches(caller, usernames).await)
}

/// What has arrived on a connection, and what waits to leave it.
struct Connection<'a> {
    stream: TlsStream<TcpStream>,
    place: &'a Place,
    codec: LengthDelimitedCodec,
    /// Frames that have arrived, and the beginning of the next.
    buffer: BytesMut,
    /// The next one, if it is out of the buffer already.
    decoded: Option<Arrived>,
    /// Whole frames.
    replies: BytesMut,
}

impl Connection<'_> {
    /// What has arrived whole; `None`: nothing more.
    fn take(&mut self) -> Option<Arrived> {
        self.decoded.take().or_else(|| self.decode())
    }

    /// Searches that have arrived whole one behind the other, with nothing before them.
    fn take_searches(&mut self) -> Vec<Username> {
        let mut usernames = Vec::new();
        while usernames.len() < SEARCHES_MAX {
            match self.take() {
                Some(Arrived::Search(username)) => usernames.push(username),
                other => {
                    self.decoded = other;
                    break;
                }
            }
        }
        usernames
    }

    fn decode(&mut self) -> Option<Arrived> {
        let json = match self.codec.decode(&mut self.buffer) {
            Ok(json) => json?,
            Err(_) => return Some(Arrived::TooLarge),
        };
        Some(match frame::decode(&json) {
            Ok(Request::Search { username }) => Arrived::Search(username),
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

    /// Answers searches in their order, until there is something else to do. While one look-up is under way
    /// the searches of the next are read and asked for.
    async fn answer_searches(
        &mut self,
        caller: Caller<'_>,
        first: Username,
        stop: &CancellationToken,
    ) -> Result<(), ConnectionError> {
        self.decoded = Some(Arrived::Search(first));
        let mut lookups = FuturesOrdered::new();
        let mut has_ended = false;
        loop {
            let may_ask = lookups.len() < LOOKUPS_MAX && !stop.is_cancelled();
            if may_ask {
                let usernames = self.take_searches();
                if !usernames.is_empty() {
                    lookups.push_back(look_up(caller, usernames));
                    continue;
                }
            }
            let may_read = may_ask && self.decoded.is_none() && !has_ended;
            tokio::select! {
                biased;
                found = lookups.next() => {
                    let Some((start, found)) = found else { return Ok(()) };
                    for said in found {
                        self.say(caller, Verb::Search, &said, start)?;
                    }
                    self.flush().await?;
                }
                read = self.read(), if may_read => has_ended = read? == 0,
            }
        }
    }

    async fn answer(
        &mut self,
        caller: Caller<'_>,
        request: Request,
    ) -> Result<(), ConnectionError> {
        // No reply waits for what may take long.
        self.flush().await?;
        let (start, verb) = (Instant::now(), Verb::from(&request));
        let said = handler::answer(caller, request).await;
        self.say(caller, verb, &said, start)
    }

    /// `false`: that was the last that is answered.
    fn answer_unreadable(
        &mut self,
        caller: Caller<'_>,
        error: FrameError,
    ) -> Result<bool, ConnectionError> {
        let start = Instant::now();
        let refused = handler::refuse(caller, error);
        let go_on = refused.is_ok();
        let said = Said::from(refused.unwrap_or_else(|last| last));
        self.say(caller, Verb::Unreadable, &said, start)?;
        Ok(go_on)
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
        let written = timeout(REPLY_WRITE, async {
            self.stream.write_all(&replies).await?;
            self.stream.flush().await
        });
        // Who does not read is as silent as who does not ask.
        self.place.is_silent();
        tokio::select! {
            written = written => written??,
            () = self.place.shed() => return Err(ConnectionError::Shed),
        }
        self.place.is_busy();
        Ok(())
    }
}
