//! `[upstream] tls`: which authorities to trust, and which certificate to show.
//!
//! The files are read here, once, so that a wrong one is an error of the configuration with its place in it.

use super::context::Context;
use super::setting::{At, Setting};
use super::upstream_url::Parsed;
use super::{Origin, Place, UpstreamTls, raw, secret};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_spanned::Spanned;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// `[upstream] tls`, validated; `None` if the URL asks for none. `url` is the URL's place.
pub fn tls(
    context: &mut Context<'_>,
    written: Option<&Spanned<raw::UpstreamTls>>,
    parsed: &Parsed,
    url: &Origin,
) -> Option<UpstreamTls> {
    let none = raw::UpstreamTls::default();
    let raw = written.map_or(&none, |written| written.get_ref());
    let says_nothing = [&raw.ca, &raw.cert, &raw.key, &raw.server_name].iter().all(|key| key.is_none());
    if !parsed.tls {
        if let Some(written) = written.filter(|_| !says_nothing) {
            let hint = "write \"rediss://…\" in the url, or remove it";
            context.complain(&Origin(written.span()), "the url asks for no TLS", hint);
        }
        return None;
    }
    let server_name = server_name(context, &raw.server_name);
    if raw.server_name.is_none() && !hosts_can_be_certified(&parsed.place) {
        let hint = "add `tls = { server_name = \"NAME\" }` to [upstream]";
        context.complain(url, "no certificate can be made out to the URL's host", hint);
    }
    let roots = roots(context, &raw.ca, url)?;
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the ring provider has suites for TLS 1.2 and 1.3")
        .with_root_certificates(roots);
    let client = match client_certificate(context, raw)? {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => match builder.with_client_auth_cert(chain, key.value) {
            Ok(client) => client,
            Err(error) => {
                let hint = "write the key that the certificate was made for, unencrypted";
                context.complain(&key.origin, format!("the key does not go with the certificate: {error}"), hint);
                return None;
            }
        },
    };
    Some(UpstreamTls { client: Arc::new(client), server_name })
}

fn server_name(context: &mut Context<'_>, setting: &Option<Setting<String>>) -> Option<ServerName<'static>> {
    let at = context.read(setting)?;
    let name = ServerName::try_from(at.value);
    if name.is_err() {
        let hint = "write a host name or an IP address, without a port";
        context.complain(&at.origin, "no certificate can be made out to this name", hint);
    }
    name.ok()
}

/// Whether each host that the URL names is of a form that certificates can hold.
fn hosts_can_be_certified(place: &Place) -> bool {
    let addresses = match place {
        Place::Tcp(address) => std::slice::from_ref(address),
        Place::Sentinel(sentinels) => &sentinels.addresses,
        Place::Cluster(seeds) => seeds,
        Place::Unix(_) => &[],
    };
    addresses.iter().all(|address| ServerName::try_from(address.host.as_str()).is_ok())
}

/// `None` if there is none, which is then reported.
fn roots(context: &mut Context<'_>, ca: &Option<Setting<String>>, url: &Origin) -> Option<RootCertStore> {
    let mut store = RootCertStore::empty();
    if ca.is_none() {
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if store.is_empty() {
            let message = "no certificate authority is installed on this machine";
            context.complain(url, message, "add `tls = { ca = \"PATH\" }` to [upstream]");
        }
        return (!store.is_empty()).then_some(store);
    }
    let certificates = certificates(context, ca)?;
    for certificate in certificates.value {
        if let Err(error) = store.add(certificate) {
            let hint = "write a PEM file of certificate authorities";
            context.complain(&certificates.origin, format!("this authority cannot be used: {error}"), hint);
            return None;
        }
    }
    Some(store)
}

type ClientCertificate = (Vec<CertificateDer<'static>>, At<PrivateKeyDer<'static>>);

/// The outer `None`: wrong, which is then reported. The inner: none is asked for.
fn client_certificate(context: &mut Context<'_>, raw: &raw::UpstreamTls) -> Option<Option<ClientCertificate>> {
    match (&raw.cert, &raw.key) {
        (None, None) => Some(None),
        (Some(cert), None) => {
            context.complain(&cert.origin, "a certificate without its key", "add `key = \"PATH\"`");
            None
        }
        (None, Some(key)) => {
            context.complain(&key.origin, "a key without its certificate", "add `cert = \"PATH\"`");
            None
        }
        (Some(_), Some(_)) => {
            let chain = certificates(context, &raw.cert);
            let key = private_key(context, &raw.key);
            Some(Some((chain?.value, key?)))
        }
    }
}

/// The certificates of a PEM file, at least one.
fn certificates(
    context: &mut Context<'_>,
    setting: &Option<Setting<String>>,
) -> Option<At<Vec<CertificateDer<'static>>>> {
    read_pem(context, setting, "certificate", |path| match CertificateDer::pem_file_iter(path)?.collect() {
        Ok(none) if Vec::is_empty(&none) => Err(pem::Error::NoItemsFound),
        certificates => certificates,
    })
}

fn private_key(context: &mut Context<'_>, setting: &Option<Setting<String>>) -> Option<At<PrivateKeyDer<'static>>> {
    read_pem(context, setting, "private key", |path| PrivateKeyDer::from_pem_file(path))
}

/// Reads what a setting is the path of, relative to the configuration's folder.
fn read_pem<T>(
    context: &mut Context<'_>,
    setting: &Option<Setting<String>>,
    what: &str,
    read: impl FnOnce(&Path) -> Result<T, pem::Error>,
) -> Option<At<T>> {
    let At { origin, value } = context.read(setting)?;
    let path = context.folder.join(value);
    let shown = path.display();
    let (message, hint) = match read(&path) {
        Ok(value) => return Some(At { origin, value }),
        Err(pem::Error::Io(error)) => {
            let why = secret::describe(&error);
            (
                format!("cannot read {shown}: {why}"),
                "write the path of a readable PEM file, relative to this one".into(),
            )
        }
        Err(pem::Error::NoItemsFound) => {
            (format!("no {what} in {shown}"), format!("write the path of a PEM file that holds a {what}"))
        }
        Err(error) => (format!("{shown} is no PEM file: {error}"), format!("write the path of a {what} as PEM")),
    };
    context.complain(&origin, message, hint);
    None
}

/// What rustls keeps is long, and tells nothing that is not in the file.
impl fmt::Debug for UpstreamTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamTls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}
