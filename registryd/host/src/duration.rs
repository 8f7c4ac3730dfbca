//! Durations on the command line: `500ms`, `30s`, `5m`; a bare number is seconds.

use std::time::Duration;

/// A text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a duration: write 500ms, 30s, 5m, 12h or 7d; a bare number is seconds")]
pub struct NoDuration;

/// Parses a duration; for clap.
///
/// # Errors
/// [`NoDuration`], for a negative one as well.
pub fn parse(text: &str) -> Result<Duration, NoDuration> {
    match text.parse::<u64>() {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => humantime::parse_duration(text).map_err(|_| NoDuration),
    }
}

/// Whole milliseconds; what does not fit becomes the largest number.
pub fn as_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_bare_seconds() {
        let cases = [("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("7", 7_000), ("0", 0)];
        for (text, ms) in cases {
            assert_eq!(parse(text).expect(text), Duration::from_millis(ms));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "-1", "s", "1.5", "5 parsecs", "99999999999999999999"] {
            assert_eq!(parse(text), Err(NoDuration), "{text:?}");
        }
    }
}
