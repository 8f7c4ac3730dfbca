//! A GET over a local socket, as a scraper sends it.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
};

use crate::wait::DEADLINE;

/// The status and the body of what is answered to a GET.
///
/// # Panics
/// If nobody answers.
#[track_caller]
pub fn http_get(socket: &Path, path: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(socket).expect("somebody listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("not zero");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: registry\r\n\r\n").expect("it takes a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers in text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.expect("a status"), body.to_owned())
}
