//! The address of a registry: `KEY@HOST:PORT`, or `HOST:PORT` for trust on first use.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::key::{KeyError, PublicKey};

/// Why a text is no registry address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The part before '@' is no key.
    #[error("the part before '@' is not a registry key: {0}")]
    Key(#[from] KeyError),
    /// Not `HOST:PORT` behind the key.
    #[error("expected HOST:PORT, an IPv6 address in brackets")]
    HostPort,
}

/// Where a registry is, and which key it must show (`None`: trust on first use).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RegistryAddress {
    /// The pinned key, if known.
    pub key: Option<PublicKey>,
    host: String,
    port: u16,
}

impl RegistryAddress {
    /// The host: a DNS name, an IPv4 address, or an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port of requests, which is the UDP port of HELLO as well. Never 0.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `HOST:PORT`, as resolvers take it.
    pub fn host_port(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The same place with the key that it must show.
    pub fn with_key(&self, key: PublicKey) -> Self {
        Self { key: Some(key), ..self.clone() }
    }
}

impl FromStr for RegistryAddress {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (key, place) = match text.split_once('@') {
            Some((key, place)) => (Some(key.parse()?), place),
            None => (None, text),
        };
        let (host, port) = place.rsplit_once(':').ok_or(AddressError::HostPort)?;
        let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let host = match bracketed {
            Some(v6) => v6.parse::<std::net::Ipv6Addr>().map(|a| a.to_string()).ok(),
            None => Some(host.to_owned()).filter(|h| is_host(h)),
        };
        let host = host.ok_or(AddressError::HostPort)?;
        let port = port.parse().ok().filter(|p| *p != 0).ok_or(AddressError::HostPort)?;
        Ok(Self { key, host, port })
    }
}

fn is_host(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    !text.is_empty() && text.len() <= 253 && text.bytes().all(allowed)
}

impl TryFrom<String> for RegistryAddress {
    type Error = AddressError;
    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<RegistryAddress> for String {
    fn from(address: RegistryAddress) -> String {
        address.to_string()
    }
}

impl fmt::Display for RegistryAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(key) = &self.key {
            write!(f, "{key}@")?;
        }
        f.write_str(&self.host_port())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Keypair;

    #[test]
    fn the_forms_round_trip() {
        let key = Keypair::from_secret(&[5; 32]).public();
        for text in [
            "localhost:4700".to_owned(),
            "[::1]:4700".to_owned(),
            format!("{key}@192.0.2.1:1"),
            format!("{key}@[2001:db8::1]:65535"),
        ] {
            assert_eq!(text.parse::<RegistryAddress>().expect(&text).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "host", "host:", "host:0", "host:70000", "::1:4700", "a b:1", "x@h:1"] {
            assert!(text.parse::<RegistryAddress>().is_err(), "{text}");
        }
    }
}
