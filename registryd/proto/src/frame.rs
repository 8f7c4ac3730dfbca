//! Length-prefixed JSON.
