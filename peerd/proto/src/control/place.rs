//! A message's place in the history of its conversation: the cursor from page to page.

use std::{fmt, str::FromStr};

use registryd_proto::PublicKey;
use serde::{Deserialize, Serialize};

use crate::wire::StreamId;

/// The order of a history, the same at all members once they hold the same: Lamport time, author, stream,
/// number. Clients only hand it back; its text may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HistoryPlace {
    /// The entry's Lamport time.
    pub lamport: u64,
    /// The author's peer key.
    pub author: PublicKey,
    /// The author's stream.
    pub stream: StreamId,
    /// The entry's number in it.
    pub seq: u64,
}

/// The text is no place that peerd told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a place in a history")]
pub struct PlaceError;

impl FromStr for HistoryPlace {
    type Err = PlaceError;
    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let mut parts = text.split('.');
        let mut part = || parts.next().ok_or(PlaceError);
        let place = Self {
            lamport: part()?.parse().map_err(|_| PlaceError)?,
            author: part()?.parse().map_err(|_| PlaceError)?,
            stream: StreamId(uuid::Uuid::try_parse(part()?).map_err(|_| PlaceError)?),
            seq: part()?.parse().map_err(|_| PlaceError)?,
        };
        if parts.next().is_some() { Err(PlaceError) } else { Ok(place) }
    }
}

impl TryFrom<String> for HistoryPlace {
    type Error = PlaceError;
    fn try_from(text: String) -> Result<Self, PlaceError> {
        text.parse()
    }
}

impl From<HistoryPlace> for String {
    fn from(place: HistoryPlace) -> String {
        place.to_string()
    }
}

impl fmt::Display for HistoryPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}.{}", self.lamport, self.author, self.stream, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use registryd_proto::Keypair;

    use super::*;

    #[test]
    fn a_place_can_be_handed_back_and_nothing_else_passes_for_one() {
        let place = HistoryPlace {
            lamport: u64::MAX,
            author: Keypair::from_secret(&[1; 32]).public(),
            stream: StreamId(uuid::Uuid::max()),
            seq: 7,
        };
        assert_eq!(place.to_string().parse(), Ok(place));
        for text in ["", "1", "1.2.3.4", &format!("{place}.1"), &format!("x{place}")] {
            assert_eq!(text.parse::<HistoryPlace>(), Err(PlaceError), "{text}");
        }
    }
}
