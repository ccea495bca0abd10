//! Users as a file of Weir's and as a Redis server's ACL, from the same words.

use super::Client;
use std::path::PathBuf;

/// One user, in Redis's words.
#[derive(Clone, Copy, Debug)]
pub struct User {
    pub name: &'static str,
    pub commands: &'static [&'static str],
    pub keys: &'static [&'static str],
    pub channels: &'static [&'static str],
}

impl User {
    pub fn password(&self) -> String {
        format!("{}-secret", self.name)
    }

    /// Its section of users.toml. Scripts are let through, for what they do is their test's own affair.
    pub fn toml(&self) -> String {
        let User { name, commands, keys, channels } = self;
        let password = self.password();
        format!(
            "[user.{name}]\npassword = \"{password}\"\ncommands = {commands:?}\nkeys = {keys:?}\nchannels = {channels:?}\nscripts = true\n"
        )
    }

    /// Makes it a user of the server that `admin` is connected to.
    #[track_caller]
    pub fn create(&self, admin: &mut Client) {
        let mut words: Vec<String> =
            ["ACL", "SETUSER", self.name, "reset", "on", "resetchannels"].iter().map(ToString::to_string).collect();
        words.push(format!(">{}", self.password()));
        words.extend(self.commands.iter().chain(self.keys).map(ToString::to_string));
        words.extend(self.channels.iter().map(|pattern| format!("&{pattern}")));
        assert_eq!(admin.cmd(&words), super::Reply::ok(), "{words:?}");
    }

    #[track_caller]
    pub fn log_in(&self, mut client: Client) -> Client {
        assert_eq!(client.cmd(&["AUTH", self.name, &self.password()]), super::Reply::ok(), "{self:?}");
        client
    }
}

/// A `[server]` section with a file of users, which is deleted with it.
pub struct UsersFile {
    folder: tempfile::TempDir,
}

impl UsersFile {
    pub fn new(text: &str) -> UsersFile {
        let folder = tempfile::tempdir().expect("temporary folder");
        std::fs::write(folder.path().join("users.toml"), text).expect("temporary folder");
        UsersFile { folder }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("users.toml")
    }

    /// The section that names it.
    pub fn server(&self) -> String {
        format!(
            "[server]\nlisten = [\"127.0.0.1:{{port}}\"]\nadmin = \"127.0.0.1:{{admin}}\"\nusers = \"{}\"\n",
            self.path().display()
        )
    }
}
