//! Documents that one party signs and others keep: the exact bytes travel, never a re-encoding.
//!
//! A document is JSON, so that a reader of an old version can keep and forward one with fields it does
//! not know; the signature covers the bytes as sent, and hashes are taken of them as well.

use std::marker::PhantomData;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::key::{KeyError, Keypair, PublicKey, Signature};

/// What can be signed: a type with a domain of its own.
pub trait Document: Serialize + DeserializeOwned {
    /// The domain tag of the signature, for ever.
    const DOMAIN: &'static str;
}

/// Why a signed document is refused.
#[derive(Debug, thiserror::Error)]
pub enum SignedError {
    /// The signature was not made by the expected key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The signature holds, but the bytes are no document of this type.
    #[error("a signed document cannot be read: {0}")]
    Format(#[from] serde_json::Error),
}

/// A document with its signature, unchecked: only [`Signed::open`] gives the content.
///
/// Example: `{"document":"{\"username\":\"bob\",…}","signature":"kR3…=="}`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Signed<T> {
    document: String,
    signature: Signature,
    #[serde(skip)]
    kind: PhantomData<fn() -> T>,
}

impl<T: Document> Signed<T> {
    /// Encodes and signs a document.
    ///
    /// # Panics
    /// Never for the documents of this crate: they hold nothing that JSON cannot.
    pub fn seal(document: &T, signer: &Keypair) -> Self {
        let document = serde_json::to_string(document).expect("our documents are plain JSON");
        let signature = signer.sign(T::DOMAIN, document.as_bytes());
        Self { document, signature, kind: PhantomData }
    }

    /// Checks the signature of `signer` and reads the document.
    ///
    /// # Errors
    /// [`SignedError::Key`] for a foreign or broken signature, [`SignedError::Format`] for bytes that are
    /// no such document.
    pub fn open(&self, signer: &PublicKey) -> Result<T, SignedError> {
        signer.verify(T::DOMAIN, self.document.as_bytes(), &self.signature)?;
        Ok(serde_json::from_str(&self.document)?)
    }

    /// The BLAKE3 hash of the signed bytes: what the next record of a chain names as its predecessor.
    pub fn hash(&self) -> [u8; 32] {
        *blake3::hash(self.document.as_bytes()).as_bytes()
    }

    /// The size of the signed bytes, for limits.
    pub fn document_bytes(&self) -> usize {
        self.document.len()
    }
}
