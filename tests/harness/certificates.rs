//! An authority of one's own, and certificates that it signs: files in PEM, as an operator has them.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An authority, with a folder for what it signs.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

/// A certificate and its key.
pub struct Signed {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    pub fn new() -> Authority {
        let key = KeyPair::generate().expect("a key");
        let mut parameters = CertificateParams::new(Vec::new()).expect("parameters");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // OpenSSL knows authorities by their names, and takes what names itself as its issuer for one.
        parameters.distinguished_name.push(DnType::CommonName, format!("authority {:016x}", fastrand::u64(..)));
        let certificate = parameters.self_signed(&key).expect("a certificate");
        let folder = tempfile::tempdir().expect("temporary folder");
        std::fs::write(folder.path().join("ca.crt"), certificate.pem()).expect("temporary folder");
        Authority { issuer: Issuer::new(parameters, key), folder }
    }

    /// Its own certificate.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// A certificate for a host name or an IP address.
    pub fn sign(&self, name: &str) -> Signed {
        self.sign_as(name, name, |_| {})
    }

    /// One for 127.0.0.1 that ended long ago.
    pub fn sign_expired(&self) -> Signed {
        self.sign_as("127.0.0.1", "expired", |parameters| {
            parameters.not_before = rcgen::date_time_ymd(2019, 1, 1);
            parameters.not_after = rcgen::date_time_ymd(2020, 1, 1);
        })
    }

    fn sign_as(&self, name: &str, file: &str, change: impl Fn(&mut CertificateParams)) -> Signed {
        let key = KeyPair::generate().expect("a key");
        let mut parameters = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        parameters.distinguished_name.push(DnType::CommonName, name);
        change(&mut parameters);
        let certificate = parameters.signed_by(&key, &self.issuer).expect("a certificate");
        let path = |kind: &str| self.folder.path().join(format!("{file}.{kind}"));
        std::fs::write(path("crt"), certificate.pem()).expect("temporary folder");
        std::fs::write(path("key"), key.serialize_pem()).expect("temporary folder");
        Signed { cert: path("crt"), key: path("key") }
    }

    /// A client that trusts this authority alone, and shows a certificate if it has one.
    pub fn client(&self, identity: Option<&Signed>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(certificate(&self.file())).expect("an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.expect("versions").with_root_certificates(roots);
        Arc::new(match identity {
            None => builder.with_no_client_auth(),
            Some(signed) => {
                let key = PrivateKeyDer::from_pem_file(&signed.key).expect("a key");
                builder.with_client_auth_cert(vec![certificate(&signed.cert)], key).expect("a pair")
            }
        })
    }
}

fn certificate(file: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(file).expect("a certificate")
}
