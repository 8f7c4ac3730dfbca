//! Frames: one JSON value behind its length in four bytes, big endian.
//!
//! The codecs refuse a frame by its length, before anything is allocated for it. Requests and replies
//! have limits of their own; [`encode`] refuses what the other side would refuse. Both the registry and
//! its clients build on these few functions; nothing here reads a socket.
//!
//! Example: `00 00 00 14 {"request":"logout"}`.

use serde::{Serialize, de::DeserializeOwned};
use tokio_util::{
    bytes::{BufMut as _, Bytes, BytesMut},
    codec::LengthDelimitedCodec,
};

use crate::{REPLY_BYTES_MAX, REQUEST_BYTES_MAX};

/// Of the length before the JSON.
const LENGTH_BYTES: usize = 4;

/// Why a frame cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Larger than the reader allows.
    #[error("a frame of {bytes} bytes is over the limit of {bytes_max}")]
    TooLarge {
        /// The size of the JSON.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// Not the JSON expected: broken, nested too deeply, or a value out of its bounds.
    #[error("a frame cannot be read: {0}")]
    Json(#[from] serde_json::Error),
}

/// The direction of a frame, and with it the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Client to registry: [`REQUEST_BYTES_MAX`].
    Request,
    /// Registry to client: [`REPLY_BYTES_MAX`].
    Reply,
}

impl Kind {
    /// The largest JSON in bytes, the length not counted.
    pub fn bytes_max(self) -> usize {
        match self {
            Kind::Request => REQUEST_BYTES_MAX,
            Kind::Reply => REPLY_BYTES_MAX,
        }
    }

    /// A codec for frames that arrive in this direction. A longer one is an error of the stream, found
    /// from its length alone.
    pub fn codec(self) -> LengthDelimitedCodec {
        LengthDelimitedCodec::builder()
            .length_field_length(LENGTH_BYTES)
            .max_frame_length(self.bytes_max())
            .new_codec()
    }
}

/// The JSON of a value, without the length: the codec adds it.
///
/// # Errors
/// [`FrameError::TooLarge`] if the other side would refuse it.
pub fn encode<T: Serialize>(kind: Kind, value: &T) -> Result<Bytes, FrameError> {
    let json = serde_json::to_vec(value)?;
    let bytes_max = kind.bytes_max();
    if json.len() > bytes_max {
        return Err(FrameError::TooLarge { bytes: json.len(), bytes_max });
    }
    Ok(json.into())
}

/// Appends a whole frame, the length included: what [`encode`] and the codec do, without a copy.
///
/// # Errors
/// [`FrameError::TooLarge`] if the other side would refuse it; nothing is appended then.
pub fn append<T: Serialize>(kind: Kind, value: &T, wire: &mut BytesMut) -> Result<(), FrameError> {
    let start = wire.len();
    wire.put_u32(0);
    let written = serde_json::to_writer((&mut *wire).writer(), value);
    let bytes = wire.len() - start - LENGTH_BYTES;
    let bytes_max = kind.bytes_max();
    let length = u32::try_from(bytes).ok().filter(|_| bytes <= bytes_max);
    match (written, length) {
        (Ok(()), Some(length)) => {
            wire[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
            Ok(())
        }
        (written, _) => {
            wire.truncate(start);
            written?;
            Err(FrameError::TooLarge { bytes, bytes_max })
        }
    }
}

/// Reads the value of a frame that came through the codec. Depth is limited by the JSON reader (128).
///
/// # Errors
/// [`FrameError::Json`].
pub fn decode<T: DeserializeOwned>(frame: &[u8]) -> Result<T, FrameError> {
    Ok(serde_json::from_slice(frame)?)
}

#[cfg(test)]
mod tests {
    use tokio_util::codec::{Decoder as _, Encoder as _};

    use super::*;
    use crate::Request;

    #[test]
    fn a_frame_is_its_length_and_json() {
        let json = encode(Kind::Request, &Request::Logout).expect("small");
        let mut wire = BytesMut::new();
        Kind::Request.codec().encode(json, &mut wire).expect("small");
        assert_eq!(&wire[..], b"\0\0\0\x14{\"request\":\"logout\"}");
        let frame = Kind::Request.codec().decode(&mut wire).expect("whole").expect("whole");
        assert_eq!(decode::<Request>(&frame).expect("ours"), Request::Logout);
    }

    #[test]
    fn a_giant_length_is_refused_before_its_bytes_come() {
        let mut wire = BytesMut::from(&[0xff; 4][..]);
        assert!(Kind::Request.codec().decode(&mut wire).is_err());
    }

    #[test]
    fn hostile_json_is_an_error() {
        let deep = "[".repeat(10_000);
        for text in ["", "{", "null", deep.as_str(), r#"{"request":"no_such"}"#, "\u{0}"] {
            assert!(decode::<Request>(text.as_bytes()).is_err());
        }
        assert!(decode::<Request>(&[0xff, 0xfe]).is_err());
    }

    #[test]
    fn what_the_reader_would_refuse_is_not_written() {
        let long = "x".repeat(REQUEST_BYTES_MAX);
        assert!(matches!(encode(Kind::Request, &long), Err(FrameError::TooLarge { .. })));
        assert!(encode(Kind::Reply, &long).is_ok());

        let mut wire = BytesMut::from(&b"before"[..]);
        let refused = append(Kind::Request, &long, &mut wire);
        assert!(matches!(refused, Err(FrameError::TooLarge { .. })));
        assert_eq!(&wire[..], b"before");
    }

    #[test]
    fn an_appended_frame_is_the_one_of_the_codec() {
        let (mut appended, mut encoded) = (BytesMut::new(), BytesMut::new());
        for request in [Request::Logout, Request::ListRooms] {
            append(Kind::Request, &request, &mut appended).expect("small");
            let json = encode(Kind::Request, &request).expect("small");
            Kind::Request.codec().encode(json, &mut encoded).expect("small");
        }
        assert_eq!(appended, encoded);
    }
}
