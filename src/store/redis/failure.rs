//! Why a connection to the upstream was not made or did not last, in words for the operator: the fact, and the way out
//! where one is known.
//!
//! Clients are only told that the upstream is unreachable; these texts go to the log and to `weir check`.

use crate::store::StoreError;
use rustls::{AlertDescription, CertificateError};
use std::fmt::Display;
use std::io::{self, ErrorKind};

/// A TCP connection could not be made.
pub fn not_reached(place: impl Display, error: &io::Error) -> StoreError {
    StoreError::Unavailable(format!("{place}: {}", system(error)))
}

/// A unix socket could not be connected to.
pub fn no_socket(path: impl Display, error: &io::Error) -> StoreError {
    let way_out = match error.kind() {
        ErrorKind::NotFound => "; is Redis running, with `unixsocket` and this path in redis.conf?",
        ErrorKind::PermissionDenied => {
            "; let Weir's user connect: `unixsocketperm 770` in redis.conf and Weir in the socket's group"
        }
        ErrorKind::ConnectionRefused => "; Redis has left it behind, and is not running",
        _ => "",
    };
    StoreError::Unavailable(format!("{path}: {}{way_out}", system(error)))
}

/// A TLS handshake failed; `name` is what the certificate should be made out to.
pub fn no_tls(place: impl Display, name: &str, error: &io::Error) -> StoreError {
    let why = match (tls(error), error.kind()) {
        (Some(rustls::Error::InvalidCertificate(certificate)), _) => certificate_is_wrong(certificate, name),
        (Some(rustls::Error::InvalidMessage(_)), _) => {
            "no TLS is spoken there; write `redis://` in place of `rediss://`, or the port that speaks TLS".into()
        }
        (_, ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
            "the connection was closed; if no TLS is spoken there, write `redis://` in place of `rediss://`".into()
        }
        _ => told(error),
    };
    StoreError::Unavailable(format!("{place}: TLS: {why}"))
}

/// A connection broke. With TLS 1.3 a server refuses a certificate of ours only after it has been connected to.
pub fn broken(error: &io::Error) -> StoreError {
    let tls = if tls(error).is_some() { "TLS: " } else { "" };
    StoreError::Unavailable(format!("{tls}{}", told(error)))
}

fn told(error: &io::Error) -> String {
    match tls(error) {
        Some(rustls::Error::AlertReceived(alert)) => refused_by_alert(*alert),
        Some(error) => error.to_string(),
        None => system(error),
    }
}

fn refused_by_alert(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure => {
            format!("the server wants a certificate of Weir's ({alert:?}); add `cert` and `key` to `tls`")
        }
        AlertDescription::BadCertificate
        | AlertDescription::DecryptError
        | AlertDescription::UnknownCA
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate => {
            format!("the server does not accept Weir's certificate ({alert:?}); see `cert` in `tls`")
        }
        other => format!("the server answered {other:?}"),
    }
}

fn certificate_is_wrong(error: &CertificateError, name: &str) -> String {
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the certificate is signed by nobody whom Weir trusts; write the file of its authority as `ca` in `tls`"
                .into()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => format!(
            "the certificate is not made out to {name}; write a name that it is made out to, in the url or as \
             `server_name` in `tls`"
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the certificate has expired; give the server a new one".into()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the certificate is not valid yet; compare the clocks".into()
        }
        other => other.to_string(),
    }
}

fn tls(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// The error without the operating system's number.
fn system(error: &io::Error) -> String {
    error.to_string().split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// What to do about an error that the upstream answered to Weir itself.
pub fn advice(error: &StoreError) -> Option<&'static str> {
    let StoreError::Refused(text) = error else { return None };
    let asks_sentinel = text.starts_with("sentinel ") && !text.contains(": its master ");
    let has = |word: &str| text.contains(word);
    if has("NOAUTH") || has("WRONGPASS") {
        return Some(match asks_sentinel {
            true => "see `sentinel_user` and `sentinel_password` in [upstream]",
            false => "see user and password in the url of [upstream]",
        });
    }
    if has("it knows no master named") {
        return Some("write the name that SENTINEL MASTERS gives behind the hosts in the url of [upstream]");
    }
    if has("The user executing the script") {
        // Redis 7.0 does not say which.
        return Some(
            "Weir's user lacks a right; `weir check FILE` names it, and config/weir.toml lists all that it needs",
        );
    }
    (has("NOPERM") || has("ACL failure")).then_some(match asks_sentinel {
        true => "give Weir's user of the sentinels this right; config/weir.toml lists all that it needs",
        false => "give Weir's user this right; config/weir.toml lists all that it needs",
    })
}
