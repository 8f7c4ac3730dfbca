//! Where the metrics can be had: this machine alone, by the type.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr};

use serde::Deserialize;

/// What begins the path of a local socket.
const UNIX: &str = "unix:";

/// An address of loopback, or a local socket.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum MetricsAddress {
    /// TCP, an address of loopback.
    Loopback(SocketAddr),
    /// A local socket at an absolute path.
    Unix(PathBuf),
}

/// Why a text is no such address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetricsAddressError {
    /// Neither form.
    #[error("write IP:PORT with an address of loopback, as 127.0.0.1:9470, or unix:/PATH")]
    Form,
    /// An address that others can reach.
    #[error(
        "{0} can be reached from elsewhere: metrics and health have no password, so only loopback \
         (127.0.0.1:PORT, [::1]:PORT) or unix:/PATH is taken; put a proxy before it"
    )]
    NotLoopback(SocketAddr),
    /// A path that depends on the folder of the process.
    #[error("the path of the socket must be absolute: unix:/PATH")]
    Relative,
}

impl FromStr for MetricsAddress {
    type Err = MetricsAddressError;

    fn from_str(text: &str) -> Result<Self, MetricsAddressError> {
        if let Some(path) = text.strip_prefix(UNIX) {
            let path = PathBuf::from(path);
            let told =
                if path.is_absolute() { Ok(path) } else { Err(MetricsAddressError::Relative) };
            return told.map(Self::Unix);
        }
        let address: SocketAddr = text.parse().map_err(|_| MetricsAddressError::Form)?;
        match address.ip().to_canonical().is_loopback() {
            true => Ok(Self::Loopback(address)),
            false => Err(MetricsAddressError::NotLoopback(address)),
        }
    }
}

impl TryFrom<String> for MetricsAddress {
    type Error = MetricsAddressError;

    fn try_from(text: String) -> Result<Self, MetricsAddressError> {
        text.parse()
    }
}

impl fmt::Display for MetricsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loopback(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_sockets_are_taken_and_nothing_else() {
        for text in ["127.0.0.1:9470", "127.8.8.8:1", "[::1]:9470", "unix:/run/registryd/metrics"] {
            let address: MetricsAddress = text.parse().expect(text);
            assert_eq!(address.to_string(), text);
        }
        let refused = |text: &str| text.parse::<MetricsAddress>().expect_err(text);
        for text in ["0.0.0.0:9470", "[::]:9470", "192.0.2.1:9470", "[::ffff:10.0.0.1]:1"] {
            assert!(matches!(refused(text), MetricsAddressError::NotLoopback(_)), "{text}");
        }
        assert_eq!(refused("unix:metrics"), MetricsAddressError::Relative);
        // A name may lead anywhere tomorrow.
        for text in ["localhost:9470", "9470", "127.0.0.1", ""] {
            assert_eq!(refused(text), MetricsAddressError::Form, "{text}");
        }
    }
}
