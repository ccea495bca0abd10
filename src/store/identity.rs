//! As whom, where and how commands run at the store. It travels with the client, never with a link that clients share.

use crate::config::Secret;
use crate::resp::write::Protocol;
use std::sync::Arc;

/// What a server remembers of a connection that commands depend on. A link serves one identity for all its life.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Identity {
    /// HELLO.
    pub protocol: Protocol,
    /// SELECT.
    pub db: u32,
    /// AUTH, where the upstream checks clients' credentials (`auth = "upstream"`); `None`: Weir's own user.
    pub user: Option<Arc<Credentials>>,
}

/// What a client gave to AUTH.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// The user; `default` for the old form with a password alone.
    pub user: String,
    /// The password.
    pub password: Secret,
}
