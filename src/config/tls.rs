//! `[server] tls`: Weir's certificate and key, and the authority whose certificates clients must show.
//!
//! The files are read once, when the configuration is: `weir check` finds what `weir serve` would stumble over.

use super::context::Context;
use super::setting::Setting;
use super::{Origin, Tls, raw};
use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use std::path::PathBuf;
use std::sync::Arc;

/// `tls`, validated. `origin` is where its table stands.
pub fn tls(context: &mut Context<'_>, raw: &raw::Tls, origin: &Origin) -> Option<Tls> {
    let cert = needed(context, &raw.cert, "cert", origin);
    let key = needed(context, &raw.key, "key", origin);
    let client_ca = file(context, &raw.client_ca);
    let chain = cert.and_then(|file| certificates(context, &file));
    let key = key.and_then(|file| private_key(context, &file));
    let authorities = match &client_ca {
        Some(file) => Some(authorities(context, file)?),
        None => None,
    };
    match server_config(chain?, key?, authorities) {
        Ok(config) => Some(Tls { config: Arc::new(config), asks_clients: client_ca.is_some() }),
        Err(error) => {
            let hint = "let `cert` and `key` name two files that belong together, in PEM";
            context.complain(origin, format!("this certificate and key cannot be used: {error}"), hint);
            None
        }
    }
}

/// A file of the section: where it is named, and its path.
struct File {
    origin: Origin,
    path: PathBuf,
}

fn needed(context: &mut Context<'_>, setting: &Option<Setting<String>>, name: &str, origin: &Origin) -> Option<File> {
    if setting.is_none() {
        let hint = "write `tls = { cert = \"weir.crt\", key = \"weir.key\" }`, two files in PEM";
        context.complain(origin, format!("`tls` has no {name}"), hint);
    }
    file(context, setting)
}

fn file(context: &mut Context<'_>, setting: &Option<Setting<String>>) -> Option<File> {
    let at = context.read(setting)?;
    Some(File { origin: at.origin, path: context.folder.join(at.value) })
}

fn certificates(context: &mut Context<'_>, file: &File) -> Option<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(&file.path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let read = read.and_then(|all| if all.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(all) });
    told(context, file, "certificate", read)
}

fn private_key(context: &mut Context<'_>, file: &File) -> Option<PrivateKeyDer<'static>> {
    told(context, file, "private key", PrivateKeyDer::from_pem_file(&file.path))
}

fn authorities(context: &mut Context<'_>, file: &File) -> Option<RootCertStore> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(context, file)? {
        if let Err(error) = store.add(certificate) {
            let message = format!("{} holds a certificate that cannot be used: {error}", file.path.display());
            context.complain(&file.origin, message, "name a file of authorities' certificates, in PEM");
            return None;
        }
    }
    Some(store)
}

fn told<T>(context: &mut Context<'_>, file: &File, what: &str, read: Result<T, pem::Error>) -> Option<T> {
    read.inspect_err(|error| {
        let path = file.path.display();
        let message = match error {
            pem::Error::Io(error) => format!("cannot read {path}: {}", super::secret::describe(error)),
            _ => format!("{path} holds no {what} in PEM"),
        };
        let hint = format!("write the path of a readable file that holds the {what}, relative to this one");
        context.complain(&file.origin, message, hint);
    })
    .ok()
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    authorities: Option<RootCertStore>,
) -> Result<ServerConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match authorities {
        Some(authorities) => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider)
                .build()
                .map_err(|error| error.to_string())?,
        ),
        None => builder.with_no_client_auth(),
    };
    builder.with_single_cert(chain, key).map_err(|error| error.to_string())
}
