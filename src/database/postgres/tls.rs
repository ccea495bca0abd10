//! TLS to the server: what each `sslmode` asks of its certificate, with the ring provider named explicitly.

use super::url::{Target, Verify};
use crate::database::DatabaseError;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::path::Path;
use std::sync::Arc;
use tokio_postgres_rustls::MakeRustlsConnect;

/// The connector for `target`; it reads the authorities' certificates now, and never again.
pub(super) fn connector(target: &Target) -> Result<MakeRustlsConnect, DatabaseError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error.to_string()))?;
    let config = match target.verify {
        Verify::Full => builder.with_root_certificates(roots(target.roots.as_deref())?).with_no_client_auth(),
        Verify::Chain => {
            let roots = Arc::new(roots(target.roots.as_deref())?);
            let chain = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
                .build()
                .map_err(|error| unusable(&error.to_string()))?;
            let verifier = Arc::new(Lenient { chain: Some(chain), provider });
            builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
        }
        Verify::Nothing => {
            let verifier = Arc::new(Lenient { chain: None, provider });
            builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
        }
    };
    Ok(MakeRustlsConnect::new(config))
}

fn roots(path: Option<&Path>) -> Result<RootCertStore, DatabaseError> {
    let mut store = RootCertStore::empty();
    let Some(path) = path else {
        let (added, _) = store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let hint = "no certificate authority is installed on this machine: write sslrootcert=PATH";
        return if added > 0 { Ok(store) } else { Err(unusable(hint)) };
    };
    let failed = |what: &str| unusable(&format!("sslrootcert {}: {what}", path.display()));
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| failed(&error.to_string()))? {
        let certificate = certificate.map_err(|error| failed(&error.to_string()))?;
        store.add(certificate).map_err(|error| failed(&error.to_string()))?;
    }
    if store.is_empty() { Err(failed("no certificate in it")) } else { Ok(store) }
}

fn unusable(message: &str) -> DatabaseError {
    DatabaseError::Unavailable(format!("TLS: {message}"))
}

/// Asks less than rustls does: the chain but not the name, or nothing. Either way the handshake must be signed
/// with the certificate's own key.
#[derive(Debug)]
struct Lenient {
    chain: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        match chain.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            // The name is looked at last, so this says that the chain is good.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
