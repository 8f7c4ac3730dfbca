//! Lines from a client: bounded in length, and in time once they have begun.

use std::{io, time::Duration};

use peerd_proto::control::LINE_BYTES_MAX;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    time::{Instant, timeout_at},
};
use zeroize::Zeroizing;

/// How long a client may take from the first byte of a line to its end.
const HALF_LINE: Duration = Duration::from_secs(30);

/// Why a client is cut.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineError {
    /// More than [`LINE_BYTES_MAX`] bytes without a line feed.
    #[error("a line has more than {LINE_BYTES_MAX} bytes")]
    TooLong,
    /// A line was begun and not ended in time.
    #[error("a line was not ended within {} s", HALF_LINE.as_secs())]
    TooSlow,
    /// The connection broke.
    #[error("the connection broke")]
    Io(#[from] io::Error),
}

/// Reads lines.
#[derive(Debug)]
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    half_line: Duration,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader: BufReader::new(reader), half_line: HALF_LINE }
    }

    pub(super) fn get_ref(&self) -> &R {
        self.reader.get_ref()
    }

    /// The next line without its line feed; `None` at the end, where a half line is dropped. It may hold a
    /// password, so it is wiped. Not cancel safe.
    pub(super) async fn next(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>, LineError> {
        let mut line = Zeroizing::new(Vec::new());
        let mut deadline = None;
        loop {
            let filled = self.reader.fill_buf();
            let chunk = match deadline {
                None => filled.await?,
                Some(deadline) => {
                    timeout_at(deadline, filled).await.map_err(|_| LineError::TooSlow)??
                }
            };
            if chunk.is_empty() {
                return Ok(None);
            }
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let taken = end.unwrap_or(chunk.len());
            if line.len() + taken >= LINE_BYTES_MAX {
                return Err(LineError::TooLong);
            }
            line.extend_from_slice(&chunk[..taken]);
            self.reader.consume(end.map_or(taken, |end| end + 1));
            if end.is_some() {
                return Ok(Some(line));
            }
            deadline.get_or_insert_with(|| Instant::now() + self.half_line);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn lines_come_whole_and_a_giant_is_cut_before_it_is_held() {
        let mut lines = Lines::new(&b"one\n\ntwo\nhalf"[..]);
        for expected in [&b"one"[..], b"", b"two"] {
            assert_eq!(lines.next().await.expect("line").expect("there").as_slice(), expected);
        }
        assert!(lines.next().await.expect("end").is_none());

        let mut longest = vec![b'x'; LINE_BYTES_MAX - 1];
        longest.push(b'\n');
        let held = Lines::new(&longest[..]).next().await.expect("fits").expect("there");
        assert_eq!(held.len(), LINE_BYTES_MAX - 1);
        let giant = vec![b'x'; LINE_BYTES_MAX];
        assert!(matches!(Lines::new(&giant[..]).next().await, Err(LineError::TooLong)));
    }

    #[tokio::test]
    async fn half_a_line_has_a_deadline() {
        let (mut client, server) = tokio::io::duplex(64);
        let mut lines = Lines::new(server);
        lines.half_line = Duration::from_millis(20);
        client.write_all(b"{").await.expect("write");
        assert!(matches!(lines.next().await, Err(LineError::TooSlow)));
    }
}
