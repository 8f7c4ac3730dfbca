//! TLS by raw public keys.
