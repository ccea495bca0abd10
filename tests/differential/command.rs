//! One command as a client writes it.

/// What a client writes for one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// An array of bulk strings.
    Words(Vec<Vec<u8>>),
    /// A line, as in telnet; of words that need no quotes.
    Inline(Vec<Vec<u8>>),
    /// These bytes, which may be no command at all.
    Raw(Vec<u8>),
}

impl Command {
    /// Of words that stand between spaces.
    pub fn of(text: &str) -> Command {
        Command::Words(text.split(' ').map(|word| word.as_bytes().to_vec()).collect())
    }

    pub fn words(&self) -> &[Vec<u8>] {
        match self {
            Command::Words(words) | Command::Inline(words) => words,
            Command::Raw(_) => &[],
        }
    }

    /// The word at `index` in capitals; empty if there is none.
    pub fn word(&self, index: usize) -> String {
        let word = self.words().get(index).map(Vec::as_slice).unwrap_or_default();
        String::from_utf8_lossy(word).to_ascii_uppercase()
    }

    /// Whether this is a call of `name`, which may be two words.
    pub fn is(&self, name: &str) -> bool {
        let words = self.words();
        name.split(' ')
            .enumerate()
            .all(|(index, word)| words.get(index).is_some_and(|written| written.eq_ignore_ascii_case(word.as_bytes())))
    }

    /// Appends what goes over the wire.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Command::Words(words) => {
                out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
                for word in words {
                    out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
                    out.extend_from_slice(word);
                    out.extend_from_slice(b"\r\n");
                }
            }
            Command::Inline(words) => {
                out.extend_from_slice(&words.join(&b' '));
                out.extend_from_slice(b"\r\n");
            }
            Command::Raw(bytes) => out.extend_from_slice(bytes),
        }
    }

    /// The same as a line, if nothing in it needs quotes.
    pub fn inline(self) -> Command {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_:*.-+$#?[](){}~@".contains(byte);
        match self {
            Command::Words(words)
                if words.iter().all(|word| !word.is_empty() && word.iter().all(plain))
                    && !matches!(words[0][0], b'*' | b'$') =>
            {
                Command::Inline(words)
            }
            other => other,
        }
    }
}
