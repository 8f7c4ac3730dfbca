//! One connection: handshake, then requests answered in order, each under a deadline.
//!
//! A client that is silent, slow, or sends what is no frame costs one task and one small buffer until its
//! deadline, then it is cut.

use std::{
    io,
    net::IpAddr,
    time::{Duration, Instant},
};

use registryd_proto::{
    Answer, Code, Failure,
    frame::{self, Kind},
    tls,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{error::Elapsed, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{
    bytes::BytesMut,
    codec::{Decoder as _, Encoder as _, LengthDelimitedCodec},
    sync::CancellationToken,
};

use crate::{
    handler::{self, Caller},
    registry::Registry,
    stats::Verb,
};

/// The handshake, all of it.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// One request from its first byte to its last.
const REQUEST_READ: Duration = Duration::from_secs(10);
/// Between requests.
const IDLE: Duration = Duration::from_secs(30);
/// One reply.
const REPLY_WRITE: Duration = Duration::from_secs(10);

/// Why a connection ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error("too slow")]
    Slow(#[from] Elapsed),
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    #[error("a reply could not be written: {0}")]
    Frame(#[from] frame::FrameError),
}

/// Serves a connection to its end.
pub(crate) async fn serve(
    registry: &Registry,
    acceptor: &TlsAcceptor,
    stream: TcpStream,
    address: IpAddr,
    stop: &CancellationToken,
) -> Result<(), ConnectionError> {
    stream.set_nodelay(true)?;
    let mut stream = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        shaken = timeout(HANDSHAKE, acceptor.accept(stream)) => shaken??,
    };
    let key = tls::remote_key(stream.get_ref().1)?;
    let caller = Caller { registry, key, address };
    let mut codecs = Codecs { requests: Kind::Request.codec(), replies: Kind::Reply.codec() };
    let mut buffer = BytesMut::new();
    loop {
        let next = tokio::select! {
            () = stop.cancelled() => break,
            next = next_frame(&mut stream, &mut codecs.requests, &mut buffer) => next,
        };
        match next {
            Ok(Some(json)) => {
                let start = Instant::now();
                let (verb, answer) = match frame::decode(&json) {
                    Ok(request) => {
                        (Verb::from(&request), Ok(handler::answer(caller, request).await))
                    }
                    Err(error) => (Verb::Unreadable, handler::refuse(caller, error)),
                };
                let is_last = answer.is_err();
                let answer = answer.unwrap_or_else(Answer::Error);
                registry.stats.requests.answered(verb, &answer, start);
                write(&mut stream, &mut codecs.replies, &answer).await?;
                if is_last {
                    break;
                }
            }
            Ok(None) => break,
            // The codec refused a length: what follows cannot be told apart any more.
            Err(ConnectionError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                let failure = Failure::new(Code::Usage, "the request is too large");
                write(&mut stream, &mut codecs.replies, &Answer::Error(failure)).await?;
                break;
            }
            Err(error) => return Err(error),
        }
    }
    timeout(REPLY_WRITE, stream.shutdown()).await??;
    Ok(())
}

struct Codecs {
    requests: LengthDelimitedCodec,
    replies: LengthDelimitedCodec,
}

/// The next frame; `None` at the end of the stream or of patience between two requests.
async fn next_frame(
    stream: &mut (impl AsyncRead + Unpin),
    codec: &mut LengthDelimitedCodec,
    buffer: &mut BytesMut,
) -> Result<Option<BytesMut>, ConnectionError> {
    if buffer.is_empty() {
        match timeout(IDLE, stream.read_buf(buffer)).await {
            Ok(read) => {
                if read? == 0 {
                    return Ok(None);
                }
            }
            Err(_) => return Ok(None),
        }
    }
    let whole = async {
        loop {
            if let Some(frame) = codec.decode(buffer)? {
                return Ok(Some(frame));
            }
            if stream.read_buf(buffer).await? == 0 {
                return Ok(None);
            }
        }
    };
    timeout(REQUEST_READ, whole).await?
}

async fn write(
    stream: &mut TlsStream<TcpStream>,
    codec: &mut LengthDelimitedCodec,
    answer: &Answer,
) -> Result<(), ConnectionError> {
    let mut wire = BytesMut::new();
    codec.encode(frame::encode(Kind::Reply, answer)?, &mut wire)?;
    timeout(REPLY_WRITE, async {
        stream.write_all(&wire).await?;
        stream.flush().await
    })
    .await??;
    Ok(())
}
