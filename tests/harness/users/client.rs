//! The control socket of a peerd that may be killed, frozen or started at any moment: nothing panics.

use std::{
    io::{self, BufRead as _, BufReader, ErrorKind, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use peerd_proto::control::{Command, Request, RpcErrorData, Verb, VersionTag};
use serde_json::{Value, json};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// Nothing listens: nothing was asked.
    #[error("peerd does not run")]
    NotRunning(#[source] io::Error),
    /// It ended in the middle.
    #[error("peerd closed the connection")]
    Broken,
    /// It says nothing within the connection's time.
    #[error("peerd is silent")]
    Silent,
    /// It says no.
    #[error("peerd says no: {0:?}")]
    Refused(Box<RpcErrorData>),
    /// It says what nobody understands.
    #[error("peerd's answer has another form")]
    Strange(#[from] serde_json::Error),
}

/// A connection. After an error other than [`CallError::Refused`] it is of no more use.
#[derive(Debug)]
pub(super) struct Client {
    reader: BufReader<UnixStream>,
    line: Vec<u8>,
    next_id: u64,
}

impl Client {
    /// Connects; each read waits `patience`.
    pub(super) fn connect(socket: &Path, patience: Duration) -> Result<Self, CallError> {
        let stream = UnixStream::connect(socket).map_err(CallError::NotRunning)?;
        stream.set_read_timeout(Some(patience)).map_err(CallError::NotRunning)?;
        stream.set_write_timeout(Some(patience)).map_err(CallError::NotRunning)?;
        Ok(Self { reader: BufReader::new(stream), line: Vec::new(), next_id: 1 })
    }

    /// Asks and waits for the answer.
    pub(super) fn call<V: Verb>(&mut self, verb: V) -> Result<V::Answer, CallError> {
        let command: Command = verb.into();
        let id = self.next_id;
        self.next_id += 1;
        let request = Request { jsonrpc: VersionTag::V2, id: json!(id), command };
        let mut line = serde_json::to_vec(&request)?;
        line.push(b'\n');
        self.reader.get_mut().write_all(&line).map_err(|e| failure(&e))?;
        loop {
            let mut answer = self.read()?;
            if answer["id"] != id {
                continue;
            }
            if let Some(data) = answer["error"].get_mut("data") {
                let data = serde_json::from_value(data.take())?;
                return Err(CallError::Refused(Box::new(data)));
            }
            return Ok(serde_json::from_value(answer["result"].take())?);
        }
    }

    /// The next line. A line that has come in part when patience ends is gone on with by the next call.
    pub(super) fn read(&mut self) -> Result<Value, CallError> {
        match self.reader.read_until(b'\n', &mut self.line) {
            Ok(_) if self.line.last() == Some(&b'\n') => {
                let value = serde_json::from_slice(&self.line);
                self.line.clear();
                Ok(value?)
            }
            Ok(_) => Err(CallError::Broken),
            Err(error) => Err(failure(&error)),
        }
    }
}

fn failure(error: &io::Error) -> CallError {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => CallError::Silent,
        _ => CallError::Broken,
    }
}
