//! The talk with peerd: requests out, responses and notices in, one JSON object a line.
//!
//! A [`Connection`] carries one request at a time; notices that come in between are kept for
//! [`Connection::notice`]. Reading is cancel safe: a half line stays in the buffer. A line is never longer
//! than [`LINE_BYTES_MAX`]. Deadlines are the caller's (see [`crate::context`]); a request whose connection
//! is dropped is given up by peerd.

use std::{collections::VecDeque, io};

use peerd_proto::control::{LINE_BYTES_MAX, Request, RpcError, Timestamp, Verb, VersionTag};
use registryd_proto::Code;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use zeroize::Zeroizing;

/// How many notices may come before a response; peerd cuts slow readers far below.
const NOTICES_MAX: usize = 65_536;

/// JSON-RPC's number for a verb that peerd does not have.
const NO_SUCH_METHOD: i32 = -32601;

/// Any request without a message body fits.
const REQUEST_BYTES: usize = 4096;

/// Why a talk failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// peerd said no.
    #[error("{}", .0.message)]
    Refused(Box<RpcError>),
    /// peerd closed the connection: it stopped, or cut us.
    #[error("peerd is gone: it closed the connection")]
    Gone,
    /// The connection broke.
    #[error("peerd is gone: {0}")]
    Broken(#[source] io::Error),
    /// More than [`LINE_BYTES_MAX`] bytes without a line feed, or too many notices.
    #[error("peerd sends more than the local API allows")]
    TooLong,
    /// Not what the local API says.
    #[error("peerd's answer cannot be understood: {0}")]
    Garbled(#[source] serde_json::Error),
    /// A response to a request that nobody made.
    #[error("peerd answers what nobody asked")]
    Unasked,
}

impl ClientError {
    /// The code of the table.
    pub fn code(&self) -> Code {
        match self {
            // p2pctl has no other words than those of the local API, so peerd speaks an older one.
            ClientError::Refused(error) if error.code == NO_SUCH_METHOD => Code::VersionMismatch,
            ClientError::Refused(error) => error.data.code,
            ClientError::Gone | ClientError::Broken(_) => Code::PeerdNotRunning,
            ClientError::TooLong | ClientError::Unasked => Code::Internal,
            ClientError::Garbled(_) => Code::VersionMismatch,
        }
    }
}

/// An event as it came. Fields and types that this version does not know pass through.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventLine {
    /// The number; `None` of `lagged`.
    pub n: Option<u64>,
    /// When peerd recorded it.
    pub time: Timestamp,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: String,
    /// The rest, by type.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

/// What peerd tells unasked.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// An event.
    Event(EventLine),
    /// Events before `resume` will not come.
    Lagged {
        /// The next number.
        resume: u64,
    },
}

/// Any line from peerd.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    id: Option<Value>,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    params: Value,
    #[serde(default)]
    result: Option<Value>,
    #[serde(default)]
    error: Option<RpcError>,
}

/// A connection to peerd.
#[derive(Debug)]
pub struct Connection {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    partial: Vec<u8>,
    notices: VecDeque<Notice>,
    next_id: u64,
}

impl Connection {
    /// Over a stream whose other end has been checked.
    pub fn new(stream: UnixStream) -> Self {
        let (reader, writer) = stream.into_split();
        Self {
            reader: BufReader::new(reader),
            writer,
            partial: Vec::new(),
            notices: VecDeque::new(),
            next_id: 1,
        }
    }

    /// Asks and waits for the answer, however long it takes.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn call<V: Verb>(&mut self, verb: V) -> Result<V::Answer, ClientError> {
        let id = Value::from(self.next_id);
        self.next_id += 1;
        let request = Request { jsonrpc: VersionTag::V2, id: id.clone(), command: verb.into() };
        if let Err(error) = self.write(&request).await {
            return Err(self.last_word().await.unwrap_or(error));
        }
        loop {
            let line = self.line().await?;
            if let Some(notice) = notice(&line)? {
                if self.notices.len() == NOTICES_MAX {
                    return Err(ClientError::TooLong);
                }
                self.notices.push_back(notice);
            } else if line.method.is_none() {
                return self.answer(&id, line);
            }
        }
    }

    /// The next notice after a `listen`. Cancel safe.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn notice(&mut self) -> Result<Notice, ClientError> {
        if let Some(notice) = self.notices.pop_front() {
            return Ok(notice);
        }
        loop {
            let line = self.line().await?;
            match notice(&line)? {
                Some(notice) => return Ok(notice),
                None if line.method.is_some() => {}
                None => return Err(ClientError::Unasked),
            }
        }
    }

    /// Whether [`Connection::notice`] has something at hand, as far as it was read.
    pub fn has_more(&self) -> bool {
        !self.notices.is_empty() || self.reader.buffer().contains(&b'\n')
    }

    fn answer<T: serde::de::DeserializeOwned>(
        &self,
        id: &Value,
        line: Line,
    ) -> Result<T, ClientError> {
        // A request that peerd could not read is answered without its id.
        if let Some(error) = line.error {
            return Err(ClientError::Refused(Box::new(error)));
        }
        if line.id.as_ref() != Some(id) {
            return Err(ClientError::Unasked);
        }
        serde_json::from_value(line.result.unwrap_or_default()).map_err(ClientError::Garbled)
    }

    /// What peerd said before it closed: one that has too many clients does not wait for the request.
    async fn last_word(&mut self) -> Option<ClientError> {
        while let Ok(line) = self.line().await {
            if let Some(error) = line.error {
                return Some(ClientError::Refused(Box::new(error)));
            }
        }
        None
    }

    async fn write(&mut self, request: &Request) -> Result<(), ClientError> {
        // Requests carry passwords: wiped, and large enough at once not to leave a copy behind.
        let mut line = Zeroizing::new(Vec::with_capacity(REQUEST_BYTES));
        serde_json::to_writer(&mut *line, request).map_err(ClientError::Garbled)?;
        line.push(b'\n');
        self.writer.write_all(&line).await.map_err(ClientError::Broken)
    }

    async fn line(&mut self) -> Result<Line, ClientError> {
        loop {
            let available = self.reader.fill_buf().await.map_err(ClientError::Broken)?;
            if available.is_empty() {
                return Err(ClientError::Gone);
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(available.len(), |end| end + 1);
            if self.partial.len() + taken > LINE_BYTES_MAX {
                return Err(ClientError::TooLong);
            }
            self.partial.extend_from_slice(&available[..taken]);
            self.reader.consume(taken);
            if end.is_some() {
                let line = serde_json::from_slice(&self.partial).map_err(ClientError::Garbled);
                self.partial.clear();
                return line;
            }
        }
    }
}

/// The notice in a line; `None` of a response and of notices that this version does not know.
fn notice(line: &Line) -> Result<Option<Notice>, ClientError> {
    #[derive(Deserialize)]
    struct Lagged {
        resume: u64,
    }
    match line.method.as_deref() {
        Some("event") => {
            let event = EventLine::deserialize(&line.params).map_err(ClientError::Garbled)?;
            Ok(Some(Notice::Event(event)))
        }
        Some("lagged") => {
            let lagged = Lagged::deserialize(&line.params).map_err(ClientError::Garbled)?;
            Ok(Some(Notice::Lagged { resume: lagged.resume }))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_refusal_that_came_before_the_request_is_told() {
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let refusal = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"too many",
            "data":{"code":"rate_limited","retryable":true}}}"#;
        writeln!(theirs, "{}", refusal.replace('\n', "")).expect("written");
        drop(theirs);
        ours.set_nonblocking(true).expect("a socket");
        let mut connection = Connection::new(UnixStream::from_std(ours).expect("a socket"));
        let refused = connection.call(peerd_proto::control::Version {}).await.expect_err("closed");
        assert_eq!(refused.code(), Code::RateLimited, "{refused:?}");
    }
}
