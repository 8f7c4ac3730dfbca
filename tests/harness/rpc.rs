//! The local control API without p2pctl: any bytes in, lines out.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use peerd_proto::control::{Command, Request, VersionTag};
use serde_json::{Value, json};

/// Nothing that a test asks takes longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// A connection to a peerd's socket.
#[derive(Debug)]
pub struct Rpc {
    reader: BufReader<UnixStream>,
    next_id: u64,
}

impl Rpc {
    /// Connects.
    ///
    /// # Panics
    /// If nothing listens.
    pub fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).expect("peerd listens");
        stream.set_read_timeout(Some(ANSWER_WITHIN)).expect("a time-out that is not zero");
        Self { reader: BufReader::new(stream), next_id: 1 }
    }

    /// Writes bytes as they are. Whether peerd still reads is for the caller to see.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    /// Reads one line; `None` when peerd has closed the connection.
    ///
    /// # Panics
    /// If the line is no JSON, or nothing comes in time.
    pub fn read(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).expect("peerd writes JSON")),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(e) => panic!("peerd neither answers nor closes: {e}"),
        }
    }

    /// Sends a command and returns its id without waiting for the response.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn send(&mut self, command: impl Into<Command>) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let request = Request { jsonrpc: VersionTag::V2, id: json!(id), command: command.into() };
        let mut line = serde_json::to_vec(&request).expect("a request is JSON");
        line.push(b'\n');
        self.write(&line).expect("peerd reads");
        id
    }

    /// Sends a command and returns its response, skipping notifications.
    ///
    /// # Panics
    /// If no response comes.
    pub fn call(&mut self, command: impl Into<Command>) -> Value {
        let id = self.send(command);
        loop {
            let line = self.read().expect("peerd answers before it closes");
            if line["id"] == id {
                return line;
            }
        }
    }

    /// Another handle to the same connection, to write while one reads.
    ///
    /// # Panics
    /// If the system is out of descriptors.
    pub fn writer(&self) -> UnixStream {
        self.reader.get_ref().try_clone().expect("a descriptor is free")
    }
}
