//! The way to a running registryd: its socket, one request at a time.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::{fs::MetadataExt as _, net::UnixStream},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::net::sockopt::socket_peercred;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::error::CliError;
use crate::admin::{
    SOCKET_FILE,
    answer::Response,
    request::{Request, Verb},
};

/// Longer than registryd gives itself for a request.
const PATIENCE: Duration = Duration::from_secs(30);

/// No answer is longer: a page of the longest items has a quarter of it.
const ANSWER_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A connection to the registryd of a data folder.
#[derive(Debug)]
pub(super) struct Client {
    stream: BufReader<UnixStream>,
    path: PathBuf,
    id: u64,
}

impl Client {
    /// Connects, and makes sure that the owner of the folder or root answers.
    ///
    /// # Errors
    /// [`CliError`].
    pub(super) fn connect(data_dir: &Path) -> Result<Self, CliError> {
        let path = data_dir.join(SOCKET_FILE);
        let failed = |source: io::Error| {
            let path = path.clone();
            match source.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    CliError::NotRunning { path, data_dir: data_dir.to_owned() }
                }
                io::ErrorKind::PermissionDenied => CliError::Denied { path },
                io::ErrorKind::InvalidInput => CliError::TooLong { path },
                _ => CliError::Socket { path, source },
            }
        };
        let owner = fs::metadata(data_dir).map_err(failed)?.uid();
        let stream = UnixStream::connect(&path).map_err(failed)?;
        let theirs = socket_peercred(&stream).map_err(|e| failed(e.into()))?.uid.as_raw();
        if theirs != owner && theirs != 0 {
            return Err(CliError::Foreign { path, theirs });
        }
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
        Ok(Self { stream: BufReader::new(stream), path, id: 0 })
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// [`CliError::Refused`] as registryd says, or what went wrong on the way.
    pub(super) fn ask(&mut self, verb: Verb) -> Result<Box<RawValue>, CliError> {
        self.id += 1;
        let request = Request { id: self.id, verb };
        let mut line =
            Zeroizing::new(serde_json::to_vec(&request).expect("requests are plain JSON"));
        drop(request);
        line.push(b'\n');
        // One that closes says why before: read even if it does not listen.
        let sent = self.stream.get_mut().write_all(&line);
        drop(line);
        let mut answer = Vec::new();
        let read = self.stream.by_ref().take(ANSWER_BYTES_MAX).read_until(b'\n', &mut answer);
        match (sent, read) {
            (_, Ok(_)) if answer.ends_with(b"\n") => {}
            (Err(error), _) | (_, Err(error)) => return Err(self.broken(error)),
            (Ok(()), Ok(_)) => return Err(CliError::Closed { path: self.path.clone() }),
        }
        let Response { result, error, .. } =
            serde_json::from_slice(&answer).map_err(CliError::Answer)?;
        match (result, error) {
            (Some(result), _) => Ok(result),
            (None, Some(refusal)) => Err(CliError::Refused(refusal)),
            (None, None) => Err(CliError::Closed { path: self.path.clone() }),
        }
    }

    fn broken(&self, source: io::Error) -> CliError {
        let path = self.path.clone();
        match source.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => CliError::TimedOut { path },
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => CliError::Closed { path },
            _ => CliError::Socket { path, source },
        }
    }
}
