//! What TLS of a check asks for and believes: settings of rustls, made when a configuration is read and shared by the
//! connections of a pool.
//!
//! rustls wants a clock and randomness. The clock is an argument, and is looked at for nothing but the dates of a
//! certificate that is verified. Randomness is that of ring, for keys and nonces: nothing that is decided here depends on it.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore,
    SignatureScheme,
};
use serde::{Serialize, Serializer};

/// What is spoken behind TLS (RFC 7301 6).
const PROTOCOL: &[u8] = b"http/1.1";

/// TLS of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tls {
    /// The server is asked for by this name, and a certificate that is verified must have it. `None`: the address the
    /// check is sent to, which is no name to ask for (RFC 6066 3).
    #[serde(serialize_with = "name")]
    pub server_name: Option<ServerName<'static>>,
    /// `verify`.
    #[serde(rename = "verify")]
    pub trust: Trust,
}

/// Which certificates are taken.
#[derive(Clone)]
pub struct Trust {
    /// `None`: all.
    authorities: Option<Arc<[CertificateDer<'static>]>>,
    settings: Arc<ClientConfig>,
}

impl Trust {
    /// Every certificate is taken, also one that cannot be read.
    #[must_use]
    pub fn everyone(clock: Arc<dyn TimeProvider>) -> Self {
        Self {
            authorities: None,
            settings: settings(Arc::new(Everyone), clock),
        }
    }

    /// Certificates issued by these, directly or not, and these themselves. `None`: none of them [is readable](is_readable).
    #[must_use]
    pub fn authorities(
        certificates: Vec<CertificateDer<'static>>,
        clock: Arc<dyn TimeProvider>,
    ) -> Option<Self> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates.iter().cloned());
        let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
        let chains = chains.build().ok()?;
        let authorities: Arc<[_]> = certificates.into();
        let verifier = Listed {
            chains,
            authorities: Arc::clone(&authorities),
        };
        Some(Self {
            authorities: Some(authorities),
            settings: settings(Arc::new(verifier), clock),
        })
    }

    pub(super) fn settings(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.settings)
    }
}

/// Whether others can be verified by this certificate.
#[must_use]
pub fn is_readable(certificate: &CertificateDer<'_>) -> bool {
    RootCertStore::empty().add(certificate.clone()).is_ok()
}

impl PartialEq for Trust {
    fn eq(&self, other: &Self) -> bool {
        self.authorities == other.authorities
    }
}

impl Eq for Trust {}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = self.authorities.as_ref().map(|list| list.len());
        f.debug_struct("Trust")
            .field("authorities", &count)
            .finish()
    }
}

impl Serialize for Trust {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(self.authorities.is_some())
    }
}

/// Whether a server's certificate was refused for being an authority's.
pub(super) fn is_authority(why: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    let why = why.downcast_ref();
    matches!(why, Some(webpki::Error::CaUsedAsEndEntity))
}

fn name<S: Serializer>(name: &Option<ServerName<'_>>, serializer: S) -> Result<S::Ok, S::Error> {
    let name = name.as_ref().map(ServerName::to_str);
    name.serialize(serializer)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn settings(
    verifier: Arc<dyn ServerCertVerifier>,
    clock: Arc<dyn TimeProvider>,
) -> Arc<ClientConfig> {
    let mut settings = ClientConfig::builder_with_details(provider(), clock)
        .with_safe_default_protocol_versions()
        .expect("ring has ciphers of both versions")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    settings.alpn_protocols = vec![PROTOCOL.to_vec()];
    // Each check is a whole handshake, as a new client's is.
    settings.resumption = Resumption::disabled();
    Arc::new(settings)
}

/// Takes everything. Not even whether the server has the key of its certificate is asked, which would say nothing where
/// anybody's certificate is taken, and needs one that can be read.
#[derive(Debug)]
struct Everyone;

impl ServerCertVerifier for Everyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    /// More than ring could verify.
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ECDSA_NISTP384_SHA384,
            SignatureScheme::ECDSA_NISTP521_SHA512,
            SignatureScheme::ED25519,
            SignatureScheme::ED448,
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::RSA_PSS_SHA384,
            SignatureScheme::RSA_PSS_SHA512,
            SignatureScheme::RSA_PKCS1_SHA256,
            SignatureScheme::RSA_PKCS1_SHA384,
            SignatureScheme::RSA_PKCS1_SHA512,
        ]
    }
}

/// Takes what these authorities issued (RFC 5280 6), and themselves.
#[derive(Debug)]
struct Listed {
    chains: Arc<WebPkiServerVerifier>,
    authorities: Arc<[CertificateDer<'static>]>,
}

impl ServerCertVerifier for Listed {
    fn verify_server_cert(
        &self,
        end: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self
            .chains
            .verify_server_cert(end, between, name, ocsp, now);
        match verified {
            // A certificate that signed itself is often an authority's by its own words, which no server's may be. Where the
            // operator lists that very one, it is meant. Its dates were looked at first, the name was not.
            Err(Error::InvalidCertificate(CertificateError::Other(OtherError(why))))
                if is_authority(&*why) && self.authorities.iter().any(|one| one == end) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}
