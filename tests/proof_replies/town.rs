//! What all clients of the test share: who they are, what was wrong, and what was cut.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

pub struct Town {
    pub port: u16,
    target: u64,
    lives: AtomicU64,
    replies: AtomicU64,
    ends: Mutex<BTreeMap<&'static str, u64>>,
    wrong: Mutex<Vec<String>>,
}

pub struct Figures {
    replies: u64,
    lives: u64,
    ends: BTreeMap<&'static str, u64>,
    wrong: Vec<String>,
}

impl Town {
    pub fn new(port: u16, target: u64) -> Town {
        Town {
            port,
            target,
            lives: AtomicU64::new(0),
            replies: AtomicU64::new(0),
            ends: Mutex::default(),
            wrong: Mutex::default(),
        }
    }

    pub fn goes_on(&self) -> bool {
        self.replies.load(SeqCst) < self.target
    }

    /// A number that no other client has.
    pub fn next_life(&self) -> u64 {
        self.lives.fetch_add(1, SeqCst)
    }

    /// A tag that several clients ask for at about the same time.
    pub fn shared_tag(&self) -> String {
        format!("shared.{}", self.replies.load(SeqCst) / 500)
    }

    pub fn judged(&self, replies: u64) {
        self.replies.fetch_add(replies, SeqCst);
    }

    pub fn wrong(&self, story: String) {
        self.wrong.lock().expect("no thread panics with it").push(story);
    }

    pub fn ended(&self, how: &'static str) {
        *self.ends.lock().expect("no thread panics with it").entry(how).or_default() += 1;
    }

    pub fn figures(&self) -> Figures {
        Figures {
            replies: self.replies.load(SeqCst),
            lives: self.lives.load(SeqCst),
            ends: self.ends.lock().expect("no thread panics with it").clone(),
            wrong: self.wrong.lock().expect("no thread panics with it").clone(),
        }
    }
}

impl Figures {
    #[track_caller]
    pub fn assert_right(&self) {
        assert!(self.wrong.is_empty(), "{} wrong replies:\n{}", self.wrong.len(), first_of(&self.wrong));
        for end in crate::life::ENDS {
            assert!(self.ends.contains_key(end), "no client was {end}: nothing was shown of it");
        }
    }
}

fn first_of(stories: &[String]) -> String {
    stories.iter().take(20).cloned().collect::<Vec<_>>().join("\n")
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} replies to {} clients, {} wrong; clients", self.replies, self.lives, self.wrong.len())?;
        self.ends.iter().try_for_each(|(how, count)| write!(f, ", {how}: {count}"))
    }
}
