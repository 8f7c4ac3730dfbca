//! Entries: what an author appends to a stream, signed once and verified by everybody who takes it.
//!
//! The header always travels, byte for byte as it was signed. The body may be withheld, as from before a
//! joiner's time. Its hash in the header is salted, so that a withheld body cannot be guessed from it. Or it
//! is gone: expired, cancelled, rejected. Then its author signs that as well, so that whoever has the header
//! can pass the end on when the author is not there.

use std::sync::Arc;

use bytes::Bytes;
use registryd_proto::{Digest, KeyError, Keypair, PublicKey, Signature};
use serde::{Deserialize, Serialize};

use super::id::{ChatId, ConversationId, MessageId, StreamId};

/// The domain of an entry's signature.
const DOMAIN: &str = "p2pchat entry 1";
/// The domain of the signature by which an author makes an entry void.
const VOID_DOMAIN: &str = "p2pchat void entry 1";
/// The largest text of a body in bytes.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// The largest header in bytes; the largest real one is below 400.
pub const HEADER_BYTES_MAX: usize = 512;

/// The salt of a body's hash.
pub type Salt = [u8; 16];

/// Why an entry is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Header or body above its limit.
    #[error("an entry is too large")]
    TooLarge,
    /// The header's bytes are no header, or have bytes left over.
    #[error("an entry's header cannot be read")]
    Format,
    /// The author did not sign these bytes.
    #[error("an entry's signature does not hold: {0}")]
    Signature(#[from] KeyError),
    /// The body is not the one that the header names.
    #[error("an entry's body does not match its header")]
    Body,
    /// A number or link that no honest author writes (seq 0, an origin after the first entry).
    #[error("an entry's header contradicts itself")]
    Contradiction,
}

/// What an author signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The conversation it belongs to.
    pub conversation: ConversationId,
    /// Whose peer key signs.
    pub author: PublicKey,
    /// The author's stream.
    pub stream: StreamId,
    /// 1, 2, 3 … without a gap.
    pub seq: u64,
    /// The hash of the predecessor's header bytes; zeros at seq 1.
    pub previous: Digest,
    /// At seq 1: the author's stream before this one and how much of it the author held then.
    pub origin: Option<Origin>,
    /// The message's id.
    pub id: MessageId,
    /// One more than the highest the author had seen in the conversation (Lamport 1978).
    pub lamport: u64,
    /// The author's clock, milliseconds since 1970. Shown, never used for order.
    pub wall_ms: u64,
    /// Room epoch or chat.
    pub context: Context,
    /// What the body is.
    pub kind: Kind,
    /// [`Body::hash`] of the body.
    pub body: Digest,
}

/// An author's stream before the one that names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The stream before.
    pub stream: StreamId,
    /// The last entry of it that the author held.
    pub seq: u64,
    /// The hash of that entry's header bytes.
    pub hash: Digest,
}

/// Where in its conversation's life an entry was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Context {
    /// 1:1, with the chat that was active, if one was.
    Direct {
        /// The chat.
        chat: Option<ChatId>,
    },
    /// A room.
    Room {
        /// The newest membership epoch that the author knew.
        epoch: u64,
    },
}

/// What a body is. Unknown kinds fail to parse: a new kind is a new version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// UTF-8 text for people or scripts.
    Text,
}

/// The content of an entry.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// Random, drawn by the author.
    pub salt: Salt,
    /// At most [`BODY_BYTES_MAX`] bytes.
    pub text: String,
}

impl Body {
    /// The salted hash that the header carries.
    pub fn hash(&self) -> Digest {
        Digest::derive("p2pchat 2026-11 entry body", &[&self.salt, self.text.as_bytes()])
    }
}

/// By which an author makes an entry void, for good: whoever holds the header can pass that on. It names the
/// entry's conversation, stream, number and id, so that it fits no other one of the author.
pub fn void_signature(
    conversation: &ConversationId,
    stream: &StreamId,
    seq: u64,
    id: &MessageId,
    key: &Keypair,
) -> Signature {
    key.sign(VOID_DOMAIN, &void_statement(conversation, stream, seq, id))
}

fn void_statement(
    conversation: &ConversationId,
    stream: &StreamId,
    seq: u64,
    id: &MessageId,
) -> Vec<u8> {
    postcard::to_stdvec(&(conversation, stream, seq, id)).expect("plain data")
}

/// Bodies are never logged.
impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Body({} bytes)", self.text.len())
    }
}

/// An entry as it travels and as it is stored: unchecked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The header's bytes exactly as signed (postcard of [`Header`]).
    pub header: Bytes,
    /// By the author's peer key.
    pub signature: Signature,
    /// The body, or why it does not travel.
    pub content: Content,
}

/// What travels with a header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// Nothing: the sender has no body, or the other side may not have it.
    Withheld,
    /// The body.
    Body(Body),
    /// Nobody is to have the body any more: see [`void_signature`].
    Void(Signature),
}

impl Entry {
    /// Checks limits, format, signatures and body. Costs about 40 µs of a core for each of at most two
    /// signatures: callers do it off the task that owns state.
    ///
    /// # Errors
    /// [`EntryError`]; whoever sent it is not honest, or not of this version.
    pub fn verify(self) -> Result<VerifiedEntry, EntryError> {
        let verified = self.trust()?;
        let entry = verified.entry();
        let Header { conversation, author, stream, seq, id, .. } = verified.header();
        author.verify(DOMAIN, &entry.header, &entry.signature)?;
        if let Content::Void(signature) = &entry.content {
            let statement = void_statement(conversation, stream, *seq, id);
            author.verify(VOID_DOMAIN, &statement, signature)?;
        }
        Ok(verified)
    }

    /// The same without the signatures, for entries from our own database, which were verified before.
    ///
    /// # Errors
    /// [`EntryError`] but [`EntryError::Signature`].
    pub fn trust(self) -> Result<VerifiedEntry, EntryError> {
        let body_bytes = self.body().map_or(0, |b| b.text.len());
        if self.header.len() > HEADER_BYTES_MAX || body_bytes > BODY_BYTES_MAX {
            return Err(EntryError::TooLarge);
        }
        let (header, rest) =
            postcard::take_from_bytes::<Header>(&self.header).map_err(|_| EntryError::Format)?;
        if !rest.is_empty() {
            return Err(EntryError::Format);
        }
        let first = header.seq == 1;
        if header.seq == 0
            || (header.origin.is_some() && !first)
            || (first && header.previous != Digest::default())
        {
            return Err(EntryError::Contradiction);
        }
        if self.body().is_some_and(|b| b.hash() != header.body) {
            return Err(EntryError::Body);
        }
        let hash = Digest(*blake3::hash(&self.header).as_bytes());
        Ok(VerifiedEntry(Arc::new(Verified { header, hash, entry: self })))
    }

    /// The body, if it travels.
    pub fn body(&self) -> Option<&Body> {
        match &self.content {
            Content::Body(body) => Some(body),
            Content::Withheld | Content::Void(_) => None,
        }
    }
}

/// An entry whose signatures and body were checked. Only [`Entry::verify`], [`Entry::trust`] and
/// [`VerifiedEntry::sign`] make one. A clone shares what it holds: one entry goes to the store, to the cache
/// and to every link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedEntry(Arc<Verified>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Verified {
    header: Header,
    hash: Digest,
    entry: Entry,
}

impl VerifiedEntry {
    /// Signs a new entry. `header.author` must be the key's public half, `header.body` the body's hash.
    ///
    /// # Panics
    /// If either is not so, or the header cannot be encoded: faults of the caller, never of input.
    pub fn sign(header: Header, body: Body, key: &Keypair) -> Self {
        assert_eq!(header.author, key.public(), "an author signs with its own key");
        assert_eq!(header.body, body.hash(), "a header names its body");
        let bytes = Bytes::from(postcard::to_stdvec(&header).expect("a header is plain data"));
        let signature = key.sign(DOMAIN, &bytes);
        let hash = Digest(*blake3::hash(&bytes).as_bytes());
        let entry = Entry { header: bytes, signature, content: Content::Body(body) };
        Self(Arc::new(Verified { header, hash, entry }))
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.0.header
    }

    /// The hash of the header's bytes.
    pub fn hash(&self) -> Digest {
        self.0.hash
    }

    /// The body, unless it is withheld or void.
    pub fn body(&self) -> Option<&Body> {
        self.0.entry.body()
    }

    /// Whether its author made it void.
    pub fn is_void(&self) -> bool {
        matches!(self.0.entry.content, Content::Void(_))
    }

    /// The entry to send or store.
    pub fn entry(&self) -> &Entry {
        &self.0.entry
    }

    /// The same entry without its body. A void one stays void.
    #[must_use]
    pub fn withheld(&self) -> Self {
        if self.body().is_none() {
            return self.clone();
        }
        self.with(Content::Withheld)
    }

    /// The same entry, void by a signature that is its author's: of [`void_signature`], or verified before.
    #[must_use]
    pub fn void(&self, signature: Signature) -> Self {
        self.with(Content::Void(signature))
    }

    fn with(&self, content: Content) -> Self {
        let Verified { header, hash, entry } = &*self.0;
        let entry = Entry { header: entry.header.clone(), signature: entry.signature, content };
        Self(Arc::new(Verified { header: header.clone(), hash: *hash, entry }))
    }
}
