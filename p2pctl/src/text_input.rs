//! Messages from stdin: the whole of it, or line by line, never more than a message may hold.

use std::io::{self, BufRead, Read};

use peerd_proto::wire::BODY_BYTES_MAX;

/// Why stdin holds no message.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// stdin cannot be read.
    #[error("cannot read stdin: {0}")]
    Read(#[from] io::Error),
    /// Longer than a message may be.
    #[error("a message has at most {BODY_BYTES_MAX} bytes")]
    TooLong,
    /// Nothing there.
    #[error("a message has at least one byte")]
    Empty,
    /// No UTF-8.
    #[error("a message is UTF-8 text")]
    Utf8,
}

/// All of `source` as one message, without its last line feed. Blocks until the end.
///
/// # Errors
/// [`InputError`].
pub fn whole(source: impl Read) -> Result<String, InputError> {
    let mut bytes = Vec::new();
    source.take(BODY_BYTES_MAX as u64 + 2).read_to_end(&mut bytes)?;
    checked(bytes)
}

/// The next line of `source` as a message, without its line end; empty lines are `Some("")`, the end is
/// `None`. Blocks.
///
/// # Errors
/// [`InputError`], but not `Empty`.
pub fn line(source: &mut impl BufRead) -> Result<Option<String>, InputError> {
    let mut bytes = Vec::new();
    source.take(BODY_BYTES_MAX as u64 + 2).read_until(b'\n', &mut bytes)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    match checked(bytes) {
        Err(InputError::Empty) => Ok(Some(String::new())),
        text => text.map(Some),
    }
}

fn checked(mut bytes: Vec<u8>) -> Result<String, InputError> {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    match bytes.len() {
        0 => Err(InputError::Empty),
        length if length > BODY_BYTES_MAX => Err(InputError::TooLong),
        _ => String::from_utf8(bytes).map_err(|_| InputError::Utf8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_feed_is_no_text() {
        assert_eq!(whole(&b"hi\n"[..]).expect("text"), "hi");
        assert_eq!(whole(&b"a\nb\n\n"[..]).expect("text"), "a\nb\n");
        assert!(matches!(whole(&b"\n"[..]), Err(InputError::Empty)));
        assert!(matches!(whole(&b"\xff"[..]), Err(InputError::Utf8)));
    }

    #[test]
    fn the_largest_message_passes_and_a_larger_one_does_not() {
        let largest = vec![b'x'; BODY_BYTES_MAX];
        assert_eq!(whole(&largest[..]).expect("text").len(), BODY_BYTES_MAX);
        assert!(matches!(whole(&[&largest[..], b"x"].concat()[..]), Err(InputError::TooLong)));
        let mut lines = io::Cursor::new([&largest[..], b"\n", &largest[..], b"x"].concat());
        assert!(line(&mut lines).expect("a line").is_some());
        assert!(matches!(line(&mut lines), Err(InputError::TooLong)));
    }

    #[test]
    fn lines_end_with_the_input() {
        let mut lines = io::Cursor::new(b"a\n\nb");
        let mut next = || line(&mut lines).expect("a line");
        let all = [next(), next(), next(), next()];
        assert_eq!(all, [Some("a".into()), Some(String::new()), Some("b".into()), None]);
    }
}
