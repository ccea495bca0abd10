//! Which commands a user of `users.toml` may run: its words (`+@read`, `-@dangerous`, `+config|get`), applied in order
//! as Redis applies them, to a table with a place for each command and subcommand.
//!
//! As in Redis, a list of words begins from nothing. tests/serve_users.rs holds the outcome against a server's ACL.

use crate::config::{Diagnostic, Users, Word};
use crate::resp::command::{COMMANDS, Categories, Spec, categories, lookup_indexed};
use std::collections::HashSet;

/// The commands that a user may run.
#[derive(Debug)]
pub struct Commands {
    /// By index in [`COMMANDS`].
    rows: Vec<Row>,
    /// Those that Weir does not know, by name in lower case: of modules, and of newer servers.
    named: HashSet<Vec<u8>>,
    /// All that Weir does not know.
    unknown: bool,
}

/// One command.
#[derive(Clone, Debug)]
struct Row {
    allowed: bool,
    /// Its subcommands.
    subs: Box<[bool]>,
}

impl Row {
    fn set(&mut self, allowed: bool) {
        self.allowed = allowed;
        self.subs.fill(allowed);
    }
}

impl Commands {
    /// All of them, or none.
    pub fn all(allowed: bool) -> Self {
        let row = |spec: &Spec| Row { allowed, subs: vec![allowed; spec.subcommands.len()].into() };
        Commands { rows: COMMANDS.iter().map(row).collect(), named: HashSet::new(), unknown: allowed }
    }

    /// What `words` come to; what cannot be understood is added to `problems`.
    pub fn of(words: &[Word], file: &Users, problems: &mut Vec<Diagnostic>) -> Self {
        let mut commands = Commands::all(false);
        if let Some(first) = words.first().filter(|word| word.text.starts_with('-') && word.text != "-@all") {
            let hint = "write \"+@all\" in front of it, or only what is allowed";
            problems.push(file.diagnostic(&first.origin, "a user's commands begin from none at all", hint));
        }
        for word in words {
            if let Err((message, hint)) = commands.apply(&word.text) {
                problems.push(file.diagnostic(&word.origin, message, hint));
            }
        }
        commands
    }

    fn apply(&mut self, word: &str) -> Result<(), (String, String)> {
        let word = word.to_ascii_lowercase();
        let (allowed, name) = match (word.strip_prefix('+'), word.strip_prefix('-')) {
            (Some(name), _) => (true, name),
            (_, Some(name)) => (false, name),
            _ => return Err(no_rule(&word)),
        };
        match name.strip_prefix('@') {
            Some("all") => *self = Commands::all(allowed),
            Some(category) => self.set_category(category, allowed)?,
            None => self.set_command(name, allowed)?,
        }
        Ok(())
    }

    /// A container that belongs to the category takes all of its subcommands with it.
    fn set_category(&mut self, name: &str, allowed: bool) -> Result<(), (String, String)> {
        let category = Categories::named(name).ok_or_else(|| {
            let names: Vec<String> = Categories::names().iter().map(|name| format!("@{name}")).collect();
            (format!("there is no category `@{name}`"), format!("known are @all, {}", names.join(", ")))
        })?;
        for (spec, row) in COMMANDS.iter().zip(&mut self.rows) {
            if categories(spec, None).meet(category) {
                row.set(allowed);
            }
            for (sub, bit) in spec.subcommands.iter().zip(&mut row.subs) {
                if categories(spec, Some(sub)).meet(category) {
                    *bit = allowed;
                }
            }
        }
        Ok(())
    }

    fn set_command(&mut self, name: &str, allowed: bool) -> Result<(), (String, String)> {
        let (command, sub) = name.split_once('|').map_or((name, None), |(command, sub)| (command, Some(sub)));
        let Some((index, spec)) = lookup_indexed(command.as_bytes()) else { return self.set_unknown(name, allowed) };
        let row = &mut self.rows[usize::from(index)];
        let Some(sub) = sub else {
            row.set(allowed);
            return Ok(());
        };
        match spec.subcommands.iter().position(|spec| spec.name == sub) {
            Some(position) => row.subs[position] = allowed,
            None => {
                let known: Vec<&str> = spec.subcommands.iter().map(|spec| spec.name).collect();
                let hint = match known.is_empty() {
                    true => format!("write `{command}` alone"),
                    false => format!("known are {}", known.join(", ")),
                };
                return Err((format!("`{command}` has no subcommand `{sub}`"), hint));
            }
        }
        Ok(())
    }

    /// Modules' commands have a dot in their names; any other name that is not known is a slip of the pen.
    fn set_unknown(&mut self, name: &str, allowed: bool) -> Result<(), (String, String)> {
        if !name.contains('.') {
            let hint =
                "write a command's name, or a category as in \"+@read\"; modules' commands have a dot in their names";
            return Err((format!("there is no command `{name}`"), hint.into()));
        }
        match allowed {
            true => self.named.insert(name.as_bytes().to_vec()),
            false => self.named.remove(name.as_bytes()),
        };
        self.unknown &= allowed;
        Ok(())
    }

    /// Whether this command may be run: by its index, with the subcommand's, if it is one.
    pub fn contains(&self, command: u16, sub: Option<usize>) -> bool {
        let row = &self.rows[usize::from(command)];
        sub.map_or(row.allowed, |sub| row.subs[sub])
    }

    /// The same of a command that Weir does not know.
    pub fn contains_unknown(&self, name: &[u8]) -> bool {
        self.unknown || self.named.contains(&name.to_ascii_lowercase())
    }

    /// Whether nothing is left out.
    pub fn is_all(&self) -> bool {
        self.unknown && self.rows.iter().all(|row| row.allowed && row.subs.iter().all(|&allowed| allowed))
    }
}

fn no_rule(word: &str) -> (String, String) {
    let hint =
        "begin with + for what is allowed or - for what is not: \"+@read\", \"+get\", \"+config|get\", \"-@dangerous\"";
    (format!("`{word}` neither allows nor forbids"), hint.into())
}
