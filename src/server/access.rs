//! Who may come in: the users of `[server] password` and `users`, and what they must give to AUTH. Of `auth = "upstream"`
//! nothing is known here; see [`super::as_user`].
//!
//! Passwords are kept as SHA-256 and compared in constant time. A user that does not exist costs as much as a wrong
//! password does.

use super::rights::Rights;
use crate::config::{Auth, Diagnostic};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::Arc;
use subtle::{Choice, ConstantTimeEq};

/// See the module's page.
#[derive(Debug)]
pub struct Access {
    users: HashMap<Vec<u8>, Arc<User>>,
    upstream: bool,
}

/// One user.
#[derive(Debug)]
pub struct User {
    /// As AUTH names it.
    pub name: String,
    /// What it may do; `None`: everything.
    pub rights: Option<Arc<Rights>>,
    /// SHA-256 of each of its passwords.
    passwords: Vec<[u8; 32]>,
    nopass: bool,
    enabled: bool,
}

/// Who everybody is that has not said who it is.
const DEFAULT: &str = "default";

impl User {
    fn default(password: Option<&str>) -> Self {
        let passwords: Vec<[u8; 32]> = password.into_iter().map(|password| Sha256::digest(password).into()).collect();
        User { name: DEFAULT.into(), rights: None, nopass: passwords.is_empty(), passwords, enabled: true }
    }
}

impl Access {
    /// As the configuration says; errors are those of a file of users.
    pub fn of(auth: &Auth) -> Result<Self, Vec<Diagnostic>> {
        let mut problems = Vec::new();
        let users: Vec<User> = match auth {
            Auth::Nothing => vec![User::default(None)],
            Auth::Password(password) => vec![User::default(Some(&password.0))],
            Auth::Upstream => Vec::new(),
            Auth::Users(file) => file
                .users
                .iter()
                .map(|user| User {
                    name: user.name.clone(),
                    rights: Rights::of(user, file, &mut problems).map(Arc::new),
                    passwords: user.passwords.clone(),
                    nopass: user.nopass,
                    enabled: user.enabled,
                })
                .collect(),
        };
        if !problems.is_empty() {
            return Err(problems);
        }
        let users = users.into_iter().map(|user| (user.name.clone().into_bytes(), Arc::new(user))).collect();
        Ok(Access { users, upstream: matches!(auth, Auth::Upstream) })
    }

    /// Whether the upstream knows the users, and Weir none.
    pub fn asks_upstream(&self) -> bool {
        self.upstream
    }

    /// Who a client is that has not said anything; `None`: it must AUTH first.
    pub fn stranger(&self) -> Option<&Arc<User>> {
        self.users.get(DEFAULT.as_bytes()).filter(|user| user.nopass && user.enabled)
    }

    /// The user of this name, if that is its password.
    pub fn admit(&self, name: &[u8], password: &[u8]) -> Option<&Arc<User>> {
        let user = self.users.get(name);
        let digest: [u8; 32] = Sha256::digest(password).into();
        let wanted = user.map_or(&[[0; 32]][..], |user| &user.passwords);
        let fits = wanted.iter().fold(Choice::from(0), |fits, wanted| fits | wanted.ct_eq(&digest));
        user.filter(|user| user.enabled && (user.nopass || bool::from(fits)))
    }
}
