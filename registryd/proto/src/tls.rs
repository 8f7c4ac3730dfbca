//! TLS 1.3 by raw Ed25519 keys (RFC 7250): both sides prove a key, and no certificate is involved.
//!
//! The configurations made here allow TLS 1.3 alone, demand a key of the other side, offer [`ALPN`], and
//! neither keep nor send session tickets, so nothing of a connection outlives it and no request can be
//! replayed as early data. Once the handshake is done, both sides call [`remote_key`]: it refuses a
//! connection that settled on no ALPN, and it alone says who the other side is.

use std::{io, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, CommonState, DigitallySignedStruct, DistinguishedName,
    OtherError, ServerConfig, SignatureScheme,
    client::{
        AlwaysResolvesClientRawPublicKeys, Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls13_signature_with_raw_key},
    pki_types::{
        CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime, alg_id,
    },
    server::{
        AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::{CertifiedKey, public_key_to_spki},
    version::TLS13,
};
use zeroize::Zeroizing;

use crate::{
    ALPN,
    key::{Keypair, PublicKey},
};

/// Why a connection cannot be set up or is not one of ours.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// rustls refused a configuration; never for keys that [`Keypair`] made.
    #[error("TLS cannot be configured: {0}")]
    Config(#[from] rustls::Error),
    /// The other side did not agree on [`ALPN`]: another version, or no registry or client of ours.
    #[error("the other side does not speak this version of the protocol")]
    Alpn,
    /// The other side showed no key, or what it showed is no Ed25519 key.
    #[error("the other side showed no Ed25519 key")]
    NoKey,
}

/// The server showed another key than the one expected: a hard stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the registry shows the key {found}, expected was {expected}")]
pub struct WrongKey {
    /// The pinned key.
    pub expected: PublicKey,
    /// The key that it showed. Not proved: the handshake stopped before.
    pub found: PublicKey,
}

/// The name that a client passes to its TLS stack. It is never sent and never checked: the key decides.
pub fn server_name() -> ServerName<'static> {
    ServerName::try_from("registry.invalid").expect("a valid DNS name")
}

/// The registry's side: shows `keys` and demands a key of every client. Which keys are enrolled is not
/// for TLS to say.
///
/// # Errors
/// [`TlsError::Config`].
pub fn server_config(keys: &Keypair) -> Result<Arc<ServerConfig>, TlsError> {
    let resolver = AlwaysResolvesServerRawPublicKeys::new(certified(keys)?);
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(Verifier { expected: None }))
        .with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// The client's side: shows `keys`, and accepts the registry with the key `expected` alone. `None` is
/// trust on first use: any key passes, and the caller reads it by [`remote_key`] and pins it.
///
/// # Errors
/// [`TlsError::Config`].
pub fn client_config(
    keys: &Keypair,
    expected: Option<PublicKey>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let resolver = AlwaysResolvesClientRawPublicKeys::new(certified(keys)?);
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { expected }))
        .with_client_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.enable_sni = false;
    Ok(Arc::new(config))
}

/// The proved key of the other side of a finished handshake.
///
/// # Errors
/// [`TlsError::Alpn`] if no ALPN was agreed on, [`TlsError::NoKey`] before the end of the handshake.
pub fn remote_key(connection: &CommonState) -> Result<PublicKey, TlsError> {
    if connection.alpn_protocol() != Some(ALPN) {
        return Err(TlsError::Alpn);
    }
    match connection.peer_certificates() {
        Some([shown]) => spki_key(shown).ok_or(TlsError::NoKey),
        _ => Err(TlsError::NoKey),
    }
}

/// Whether a failed connect means that the registry showed another key than the expected one. Takes the
/// `io::Error` of an asynchronous TLS stream, in which the error of rustls travels.
pub fn wrong_key(error: &io::Error) -> Option<WrongKey> {
    let inner = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(source))) = inner
    else {
        return None;
    };
    source.downcast_ref::<WrongKey>().copied()
}

/// Whether a failed connect means that the other side refused our [`ALPN`]: versions that do not fit.
pub fn version_mismatch(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    matches!(
        inner,
        Some(
            rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol)
                | rustls::Error::NoApplicationProtocol
        )
    )
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The fixed start of an Ed25519 private key in PKCS#8 (RFC 8410); the 32-byte seed follows.
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

fn certified(keys: &Keypair) -> Result<Arc<CertifiedKey>, TlsError> {
    let mut pkcs8 = Zeroizing::new([0; 48]);
    pkcs8[..16].copy_from_slice(&PKCS8_PREFIX);
    pkcs8[16..].copy_from_slice(keys.secret().as_ref());
    let signer = ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(&pkcs8[..]))?;
    let public = CertificateDer::from(spki(&keys.public()).to_vec());
    Ok(Arc::new(CertifiedKey::new(vec![public], signer)))
}

fn spki(key: &PublicKey) -> SubjectPublicKeyInfoDer<'static> {
    public_key_to_spki(&alg_id::ED25519, key.as_bytes())
}

/// The key in a SubjectPublicKeyInfo, if it is Ed25519 in exactly the encoding that we write.
fn spki_key(der: &CertificateDer<'_>) -> Option<PublicKey> {
    let bytes: &[u8; 32] = der.as_ref().last_chunk()?;
    let key = PublicKey::from_bytes(bytes).ok()?;
    (spki(&key).as_ref() == der.as_ref()).then_some(key)
}

/// Checks a raw key for both sides; `expected` is set by clients that have pinned one.
#[derive(Debug)]
struct Verifier {
    expected: Option<PublicKey>,
}

impl Verifier {
    fn check(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), rustls::Error> {
        let key = spki_key(end_entity).filter(|_| intermediates.is_empty());
        let found = key.ok_or(rustls::Error::InvalidCertificate(CertificateError::BadEncoding))?;
        match self.expected {
            Some(expected) if expected != found => {
                let wrong = OtherError(Arc::new(WrongKey { expected, found }));
                Err(rustls::Error::InvalidCertificate(CertificateError::Other(wrong)))
            }
            _ => Ok(()),
        }
    }

    fn check_signature(
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = ring::default_provider().signature_verification_algorithms;
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, signed, &algorithms)
    }
}

const TLS12_REFUSED: rustls::Error =
    rustls::Error::PeerIncompatible(rustls::PeerIncompatible::Tls12NotOffered);

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(end_entity, intermediates)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(TLS12_REFUSED)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Self::check_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(end_entity, intermediates)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(TLS12_REFUSED)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Self::check_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use rustls::{ClientConnection, ServerConnection};

    use super::*;

    fn keys(seed: u8) -> Keypair {
        Keypair::from_secret(&[seed; 32])
    }

    /// Runs a handshake in memory; the error is the one of the side that failed first.
    fn shake(
        client: Arc<ClientConfig>,
        server: Arc<ServerConfig>,
    ) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
        let mut client = ClientConnection::new(client, server_name())?;
        let mut server = ServerConnection::new(server)?;
        while client.is_handshaking() || server.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).expect("memory");
            server.read_tls(&mut wire.as_slice()).expect("memory");
            server.process_new_packets()?;
            wire.clear();
            server.write_tls(&mut wire).expect("memory");
            client.read_tls(&mut wire.as_slice()).expect("memory");
            client.process_new_packets()?;
        }
        Ok((client, server))
    }

    #[test]
    fn both_sides_learn_the_key_of_the_other() {
        for expected in [None, Some(keys(1).public())] {
            let client = client_config(&keys(2), expected).expect("config");
            let server = server_config(&keys(1)).expect("config");
            let (client, server) = shake(client, server).expect("handshake");
            assert_eq!(remote_key(&client).expect("key"), keys(1).public());
            assert_eq!(remote_key(&server).expect("key"), keys(2).public());
        }
    }

    #[test]
    fn a_wrong_key_is_a_failure_that_names_both() {
        let client = client_config(&keys(2), Some(keys(3).public())).expect("config");
        let error = shake(client, server_config(&keys(1)).expect("config")).expect_err("pinned");
        let error = io::Error::new(io::ErrorKind::InvalidData, error);
        let wrong = WrongKey { expected: keys(3).public(), found: keys(1).public() };
        assert_eq!(wrong_key(&error), Some(wrong));
        assert!(!version_mismatch(&error));
    }

    #[test]
    fn another_or_no_alpn_is_refused() {
        let mut other = (*client_config(&keys(2), None).expect("config")).clone();
        other.alpn_protocols = vec![b"p2pchat/registry/0".to_vec()];
        assert!(shake(Arc::new(other), server_config(&keys(1)).expect("config")).is_err());

        let mut none = (*client_config(&keys(2), None).expect("config")).clone();
        none.alpn_protocols = Vec::new();
        let (client, server) =
            shake(Arc::new(none), server_config(&keys(1)).expect("config")).expect("handshake");
        assert!(matches!(remote_key(&client), Err(TlsError::Alpn)));
        assert!(matches!(remote_key(&server), Err(TlsError::Alpn)));
    }

    #[test]
    fn a_client_without_a_key_is_refused() {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .expect("TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier { expected: None }))
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        assert!(shake(Arc::new(config), server_config(&keys(1)).expect("config")).is_err());
    }
}
