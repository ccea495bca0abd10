//! The file of users: what it may say, and that its errors show its own lines.

use std::path::Path;
use std::process::Command;
use weir::config::{self, Auth, KeyRule, Users};

fn env(name: &str) -> Option<String> {
    (name == "APP_PASSWORD").then(|| "from the environment".into())
}

/// A configuration beside a file of users, and the folder of both.
fn written(users: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("temporary folder");
    std::fs::write(folder.path().join("users.toml"), users).expect("temporary folder");
    std::fs::write(folder.path().join("weir.toml"), SERVER).expect("temporary folder");
    (folder, SERVER.into())
}

const SERVER: &str = "[server]\nusers = \"users.toml\"\n";

fn read(users: &str) -> Users {
    let (folder, text) = written(users);
    match config::parse(&text, &folder.path().join("weir.toml"), env).map(|config| config.server.auth) {
        Ok(Auth::Users(users)) => users,
        other => panic!("{other:?}"),
    }
}

/// The rendered errors, the folder's name left out.
fn refused(users: &str, expected: &str) {
    let (folder, text) = written(users);
    let errors = config::parse(&text, &folder.path().join("weir.toml"), env).expect_err("the file should be refused");
    let rendered = config::render_all(&errors, "weir.toml", &text, false);
    let rendered = rendered.replace(&format!("{}/", folder.path().display()), "");
    assert_eq!(rendered, expected.strip_prefix('\n').expect("a leading newline").trim_end(), "\n{rendered}\n");
}

#[test]
fn every_key_of_a_user_is_heard() {
    let users = read(
        r#"
[user.app]
passwords = ["env:APP_PASSWORD", "plain", "sha256:5E884898DA28047151D0E56F8DC6292773603D0D6AABBDD62A11EF721D1542D8"]
commands = ["+@all", "-flushall"]
keys = ["~a*", "%R~b", "%w~c", "%rW~d"]
channels = ["news:*", "&old"]
read_only = true
scripts = true
enabled = false
[user.bare]
nopass = true
"#,
    );
    let [app, bare] = users.users.as_slice() else { panic!("{users:?}") };
    assert_eq!((app.name.as_str(), app.passwords.len(), app.nopass, app.enabled), ("app", 3, false, false));
    assert_eq!(app.passwords[2][..2], [0x5e, 0x88]);
    let rule = |pattern: &str, reads, writes| KeyRule { pattern: pattern.into(), reads, writes };
    let rules = [rule("a*", true, true), rule("b", true, false), rule("c", false, true), rule("d", true, true)];
    assert_eq!(app.keys.as_deref(), Some(&rules[..]));
    assert_eq!(app.channels.as_deref(), Some(&["news:*".to_owned(), "old".to_owned()][..]));
    let words: Vec<&str> = app.commands.iter().flatten().map(|word| word.text.as_str()).collect();
    assert_eq!(words, ["+@all", "-flushall"]);
    assert!(app.read_only && app.scripts);
    assert!(bare.nopass && bare.enabled && !bare.read_only && !bare.scripts);
    assert!(bare.commands.is_none() && bare.keys.is_none() && bare.channels.is_none());
}

#[test]
fn the_errors_show_the_lines_of_the_file_of_users() {
    refused(
        r#"[user.app]
pasword = "secret"
[user.other]
password = "sha256:12"
keys = ["product:*"]
[user.third]
nopass = true
password = "secret"
"#,
        r#"
error: the user `app` has no password
 --> users.toml:1:1
  |
1 | [user.app]
  | ^^^^^^^^^^
  |
  = help: write `password = "sha256:…"`, "env:NAME" or "file:PATH", or `nopass = true` for a user who needs none

error: unknown key `pasword` in [user.NAME]
 --> users.toml:2:1
  |
2 | pasword = "secret"
  | ^^^^^^^
  |
  = help: did you mean `password`? accepted here: password, passwords, nopass, commands, keys, channels, read_only, scripts, enabled

error: what follows `sha256:` is no SHA-256
 --> users.toml:4:12
  |
4 | password = "*********"
  |            ^^^^^^^^^^^
  |
  = help: write the 64 hexadecimal digits of the password's SHA-256: printf %s PASSWORD | sha256sum

error: `product:*` is no pattern of keys
 --> users.toml:5:9
  |
5 | keys = ["product:*"]
  |         ^^^^^^^^^^^
  |
  = help: write "~product:*" for reading and writing, "%R~product:*" for reading alone, "%W~…" for writing alone

error: the user `third` has a password and needs none
 --> users.toml:6:1
  |
6 | [user.third]
  | ^^^^^^^^^^^^
  |
  = help: remove one of the two
"#,
    );
}

#[test]
fn a_file_without_users_or_none_at_all_is_refused() {
    refused(
        "",
        r#"
error: no user in it
--> users.toml
 = help: write `[user.NAME]` above each user's keys
"#,
    );
    let errors = config::parse(SERVER, Path::new("/nonexistent/weir.toml"), env).expect_err("there is no such file");
    assert_eq!(errors[0].message, "cannot read /nonexistent/users.toml: no such file or directory");
}

#[test]
fn one_of_three_says_who_may_come_in() {
    let message = |toml: &str| {
        let (folder, _) = written("[user.a]\nnopass = true\n");
        let errors =
            config::parse(toml, &folder.path().join("weir.toml"), env).expect_err("the file should be refused");
        errors.into_iter().map(|error| error.message).collect::<Vec<_>>()
    };
    let both = "[server]\npassword = \"p\"\nusers = \"users.toml\"\n";
    assert_eq!(message(both), ["`password` and `users` exclude each other"]);
    assert_eq!(message("[server]\nauth = \"upstream\"\n"), ["there is no [upstream] to check passwords"]);
    assert_eq!(message("[server]\nauth = \"ldap\"\n"), ["`ldap` cannot check passwords"]);
}

/// `weir check` on a file of users: exit code, and what it printed.
fn check(users: &str) -> (Option<i32>, String) {
    let (folder, _) = written(users);
    let file = folder.path().join("weir.toml");
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    let output = command.arg("check").arg(file).arg("--offline").env("APP_PASSWORD", "secret").output().expect("weir");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn words_of_commands_are_checked_against_the_command_table() {
    let (code, text) = check(
        "[user.app]\npassword = \"p\"\ncommands = [\"-get\", \"+gte\", \"+@raed\", \"+config|gte\", \"+get|x\", \"set\", \"+json.get\"]\n",
    );
    assert_eq!(code, Some(78), "{text}");
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    let expected = [
        "error: a user's commands begin from none at all",
        "error: there is no command `gte`",
        "error: there is no category `@raed`",
        "error: `config` has no subcommand `gte`",
        "error: `get` has no subcommand `x`",
        "error: `set` neither allows nor forbids",
    ];
    assert_eq!(errors, expected, "{text}");
    assert!(text.contains("users.toml:3:21") && text.contains("6 errors"), "{text}");
}

#[test]
fn the_manual_is_a_working_file_and_shows_every_key() {
    let manual = include_str!("../config/users.toml");
    let (code, text) = check(manual);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("2 users"), "{text}");
    let schema = config::users_schema();
    let keys = &schema["properties"]["user"]["additionalProperties"]["properties"];
    for key in keys.as_object().expect("keys").keys() {
        let shown = |line: &str| {
            line.trim_start_matches("# ").trim_start_matches("Example: ").starts_with(&format!("{key} = "))
        };
        assert!(manual.lines().any(shown), "{key}");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_weir")).args(["schema", "--users"]).output().expect("weir");
    let printed: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(printed, schema);
}
