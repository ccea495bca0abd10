//! Users of Weir's own, from a file: who may come in, and that each may do what a Redis server with the same rights would
//! let it do, on hits as well as on misses.

mod harness;

use harness::*;
use std::collections::BTreeMap;

/// Rights of many kinds.
const USERS: &[User] = &[
    User { name: "all", commands: &["+@all"], keys: &["~*"], channels: &["*"] },
    User { name: "reader", commands: &["+@read"], keys: &["~*"], channels: &[] },
    User { name: "safe", commands: &["+@all", "-@dangerous", "-@blocking"], keys: &["~a:*"], channels: &["c:*"] },
    User { name: "mixed", commands: &["+@all"], keys: &["~a:*", "%R~r:*", "%W~w:*"], channels: &["c:?", "d"] },
    User {
        name: "narrow",
        commands: &["+get", "+set", "+mget", "+config|get", "+multi", "+exec", "+publish", "+client", "-client|kill"],
        keys: &["~a:[0-9]"],
        channels: &["c:1"],
    },
    User {
        name: "slow",
        commands: &["+@slow", "-@write", "+del", "+@fast", "-get"],
        keys: &["%RW~a:*"],
        channels: &[],
    },
    User { name: "opens", commands: &["+multi", "+get", "+set"], keys: &["~a:*"], channels: &[] },
    User { name: "one", commands: &["+acl|whoami", "+@connection", "-ping"], keys: &["~*"], channels: &["*"] },
];

/// Calls whose keys and channels decide, as an administrator would write them.
const CALLS: &[&str] = &[
    "GET a:1",
    "GET b:1",
    "GET r:1",
    "GET w:1",
    "SET a:1 v",
    "SET b:1 v",
    "SET r:1 v",
    "SET w:1 v",
    "SET w:1 v GET",
    "SET a:1 v GET",
    "APPEND w:1 x",
    "STRLEN w:1",
    "STRLEN b:1",
    "EXISTS w:1 r:1",
    "EXISTS a:1 b:1",
    "MGET a:1 a:2",
    "MGET a:1 b:1",
    "MGET a:1 r:1",
    "MSET a:1 x w:1 y",
    "MSET a:1 x r:1 y",
    "DEL w:1",
    "DEL a:1 b:1",
    "COPY r:1 w:1",
    "COPY w:1 r:1",
    "RENAME w:1 a:9",
    "SINTERSTORE w:s r:s a:s",
    "SINTERSTORE r:s r:s a:s",
    "BITFIELD r:1 GET u8 0",
    "BITFIELD r:1 SET u8 0 1",
    "GETEX r:1",
    "GETDEL a:1",
    "LMOVE a:l r:l LEFT LEFT",
    "ZUNIONSTORE w:z 2 a:z r:z",
    "ZUNIONSTORE w:z 2 a:z b:z",
    "SORT a:l",
    "SORT a:l BY nosort",
    "SORT a:l BY x:*",
    "SORT a:l GET #",
    "SORT a:l GET x:*",
    "SORT a:l STORE w:l",
    "SORT a:l STORE r:l",
    "SORT_RO a:l LIMIT 0 1 GET x:*",
    "EVAL return_1 1 b:1",
    "EVAL return(1) 1 a:1",
    "EVAL return(1) 2 a:1 b:1",
    "EVAL_RO return(1) 1 b:1",
    "EVALSHA aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 1 b:1",
    "OBJECT ENCODING b:1",
    "OBJECT ENCODING a:nothing",
    "MEMORY USAGE b:1",
    "XREAD COUNT 1 STREAMS a:x b:x 0 0",
    "XREAD COUNT 1 STREAMS a:x r:x 0 0",
    "PUBLISH c:1 m",
    "PUBLISH c:22 m",
    "PUBLISH d m",
    "SPUBLISH e m",
    "GET",
    "GET b:1 b:2",
    "SET b:1",
    "CONFIG GET maxclients",
    "CONFIG GET",
    "CONFIG NONSENSE",
    "CONFIG",
    "CLIENT GETNAME",
    "CLIENT KILL ID 99999999",
    "CLIENT KILL",
    "ACL WHOAMI",
    "DBSIZE",
    "PING",
    "ECHO x",
    "FLUSHALL",
    "KEYS nothing*",
    "SELECT 0",
    "AUTH nobody nothing",
    "MULTI",
    "SET a:1 queued",
    "GET a:1",
    "EXEC",
    "MULTI",
    "SET a:1 more",
    "GET b:1",
    "EXEC",
    "EXEC",
    "GET a:1",
];

fn file_of(users: &[User]) -> UsersFile {
    UsersFile::new(&users.iter().map(User::toml).collect::<String>())
}

fn over(redis: &Redis, users: &UsersFile) -> Weir {
    Weir::start(&format!("{}[upstream]\nurl = \"{}\"\ntimeout = \"20s\"\n", users.server(), redis.url()))
}

#[test]
fn replies_are_those_of_a_redis_with_the_same_users() {
    let (behind, beside) = (Redis::start(), Redis::start());
    let file = file_of(USERS);
    let weir = over(&behind, &file);
    let mut compared = BTreeMap::new();
    for protocol in ["2", "3"] {
        for user in USERS {
            user.create(&mut beside.client());
            for server in [&behind, &beside] {
                server.client().run("FLUSHALL");
                server.client().run("RPUSH a:l 2 1");
                server.client().run("SET r:1 r");
            }
            let (mut ours, mut theirs) = (user.log_in(weir.client()), user.log_in(beside.client()));
            for client in [&mut ours, &mut theirs] {
                client.cmd(&["HELLO", protocol]);
            }
            for call in CALLS {
                let (our, their) = (ours.run(call), theirs.run(call));
                assert_eq!(our, their, "{} RESP{protocol}: {call}", user.name);
                let kind = match &their {
                    Reply::Error(text) if text.contains("channels") => "channel",
                    Reply::Error(text) if text.contains("keys") => "key",
                    Reply::Error(text) if text.starts_with("NOPERM") => "command",
                    Reply::Error(_) => "other error",
                    _ => "answer",
                };
                *compared.entry(kind).or_insert(0) += 1;
            }
        }
    }
    println!("compared: {compared:?}");
    assert!(["channel", "key", "command", "answer"].iter().all(|kind| compared[kind] >= 20), "{compared:?}");
}

#[test]
fn every_command_is_allowed_to_whom_a_redis_allows_it() {
    let (behind, beside) = (Redis::start(), Redis::start());
    let file = file_of(USERS);
    let weir = over(&behind, &file);
    let mut admin = beside.client();
    let mut refused = 0;
    for user in USERS {
        user.create(&mut admin);
        for words in whole_calls(&mut admin) {
            let dry: Vec<&str> =
                ["ACL", "DRYRUN", user.name].into_iter().chain(words.iter().map(String::as_str)).collect();
            let wanted = match admin.cmd(&dry) {
                Reply::Bulk(text) => refusal_of(&String::from_utf8_lossy(&text)),
                _ => String::new(),
            };
            let mut client = user.log_in(weir.client());
            let reply = client.cmd(&words);
            let text = if let Reply::Error(text) = &reply { text.as_str() } else { "" };
            let text = text.strip_prefix("EXECABORT Transaction discarded because of: ").unwrap_or(text);
            let ours = if text.starts_with("NOPERM") { text } else { "" };
            assert_eq!(ours, wanted, "{user:?} {words:?}: {reply:?}");
            refused += usize::from(!wanted.is_empty());
        }
    }
    println!("refused: {refused}");
    assert!(refused > 500, "{refused}");
}

/// The error that goes with what ACL DRYRUN says, which names the key or the channel.
fn refusal_of(dry: &str) -> String {
    let what = match dry.rsplit(' ').next() {
        Some("key") => "access one of the keys used as arguments",
        Some("channel") => "access one of the channels used as arguments",
        _ => dry.strip_prefix("This user has no permissions to ").expect("what a user may not do"),
    };
    format!("NOPERM this user has no permissions to {what}")
}

/// Every command and subcommand that the server has, with as many arguments as it wants, of which none makes it wait.
fn whole_calls(admin: &mut Client) -> Vec<Vec<String>> {
    let commands = admin.run("COMMAND");
    let with_subs = commands.items().iter().flat_map(|row| {
        let subs = row.items()[9].items();
        if subs.is_empty() { vec![row] } else { subs.iter().collect() }
    });
    let calls = with_subs.map(|row| {
        let mut words: Vec<String> = row.items()[0].text().split('|').map(str::to_owned).collect();
        let waits = row.items()[2].items().contains(&Reply::Simple("blocking".into()));
        let arity = row.items()[1].int();
        // More than the least, for a Redis that finds no keys where some are missing does not look at the others either.
        let arity = if arity < 0 { 1 - arity } else { arity } as usize;
        while words.len() < arity {
            words.push(if waits { "x" } else { "1" }.into());
        }
        words
    });
    // What ends the connection or makes it somebody else's has no rights.
    calls.filter(|words| !matches!(words[0].as_str(), "auth" | "hello" | "quit" | "reset")).collect()
}

#[test]
fn who_may_come_in() {
    let file = UsersFile::new(
        r#"
[user.app]
passwords = ["old-secret", "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"]
[user.gone]
password = "gone-secret"
enabled = false
[user.open]
nopass = true
"#,
    );
    let weir = Weir::start(&file.server());
    let mut client = weir.client();
    assert!(client.run("GET k").is_error("NOAUTH Authentication required."));
    let wrong = "WRONGPASS invalid username-password pair or user is disabled.";
    for words in
        ["AUTH app wrong", "AUTH old-secret", "AUTH nobody old-secret", "AUTH gone gone-secret", "AUTH App secret"]
    {
        assert_eq!(client.run(words).error(), wrong, "{words}");
        assert!(client.run("GET k").is_error("NOAUTH"), "{words}");
    }
    assert!(client.run("HELLO 3").is_error("NOAUTH HELLO must be called"));
    assert!(client.run("HELLO 3 AUTH app wrong").is_error("WRONGPASS"));
    for (words, name) in [("AUTH app old-secret", "app"), ("AUTH app secret", "app"), ("AUTH open whatever", "open")] {
        assert_eq!(client.run(words), Reply::ok(), "{words}");
        assert_eq!(client.run("ACL WHOAMI"), Reply::bulk(name));
        assert!(client.run("CLIENT INFO").text().contains(&format!(" user={name} ")));
    }
    assert_eq!(client.run("AUTH app wrong").error(), wrong);
    assert_eq!(client.run("ACL WHOAMI"), Reply::bulk("open"), "it stays who it was");
    assert_eq!(client.run("RESET"), Reply::Simple("RESET".into()));
    assert!(client.run("GET k").is_error("NOAUTH"));
    assert!(matches!(client.run("HELLO 3 AUTH app secret"), Reply::Map(_)));
    let mut other = weir.client();
    other.run("AUTH open x");
    assert_eq!(client.run("CLIENT KILL USER default"), Reply::Int(0));
    assert_eq!(client.run("CLIENT KILL USER open"), Reply::Int(1));
    assert!(other.is_closed());
    assert_eq!(weir.metric("weir_auth_failures_total", &[]), 7.0);
}

const STRANGERS: &str = r#"
[user.default]
nopass = true
commands = ["+@read", "+@connection"]
keys = ["~product:*"]
[user.reader]
password = "reader-secret"
read_only = true
[user.limited]
password = "limited-secret"
commands = ["+@all"]
keys = ["~user:*"]
[user.trusted]
password = "trusted-secret"
keys = ["~user:*"]
scripts = true
"#;

const ROUTES: &str = r#"
[[route]]
name = "product"
key = "product:{id}"
load = "SELECT id, name, price FROM products WHERE id = :id /* product */"
[[route]]
name = "user"
key = "user:{id}"
value = "hash"
load = "SELECT id, name FROM users WHERE id = :id /* user */"
[[route]]
name = "counter"
key = "counter:{name}"
value = "text"
load = "SELECT amount FROM counters WHERE name = :name"
"#;

const NO_KEY: &str = "NOPERM this user has no permissions to access one of the keys used as arguments";

over_all_pairs!(rights_count_on_hits_and_misses, one_that_may_only_read_fills);

fn rights_count_on_hits_and_misses(pair: Pair) {
    let file = UsersFile::new(STRANGERS);
    let stack = Stack::start(pair, &format!("{}{ROUTES}", file.server()));
    let mut stranger = stack.weir.client();
    let mut limited = stack.weir.client();
    assert_eq!(limited.run("AUTH limited limited-secret"), Reply::ok());
    for _ in ["a miss", "a hit"] {
        assert_eq!(stranger.run("GET product:7").json()["id"], 7);
        assert_eq!(limited.run("HGET user:3 name"), Reply::bulk("user 3"));
        for (name, words) in [
            ("limited", "GET product:7"),
            ("limited", "MGET product:7 user:3"),
            ("limited", "EXISTS user:3 product:7"),
            ("limited", "STRLEN product:7"),
            ("limited", "GET product:8"),
            ("limited", "SET product:7 x"),
            ("limited", "INCR counter:a"),
            ("limited", "DEL product:7"),
            ("stranger", "HGETALL user:3"),
            ("stranger", "HGETALL user:4"),
            ("stranger", "MGET product:7 product:8 user:3"),
        ] {
            let client = if name == "limited" { &mut limited } else { &mut stranger };
            assert_eq!(client.run(words).error(), NO_KEY, "{name} {words}");
        }
        let text = "NOPERM this user has no permissions to run the 'set' command";
        assert_eq!(stranger.run("SET product:7 x").error(), text);
        assert!(stranger.run("WEIR EXPLAIN product:7").is_error("NOPERM"));
        assert!(limited.run("WEIR EXPLAIN product:7").is_error(NO_KEY));
        let replies =
            stranger.pipeline(&[vec!["GET", "product:7"], vec!["DEL", "product:7"], vec!["GET", "product:7"]]);
        assert_eq!(replies[0], replies[2]);
        assert!(replies[1].is_error("NOPERM this user has no permissions to run the 'del' command"), "{replies:?}");
    }
    stack.assert_loads("product", 1);
    stack.assert_loads("user", 1);
}

fn one_that_may_only_read_fills(pair: Pair) {
    let file = UsersFile::new(STRANGERS);
    let stack = Stack::start(pair, &format!("{}{ROUTES}", file.server()));
    let mut reader = stack.weir.client();
    assert_eq!(reader.run("AUTH reader reader-secret"), Reply::ok());
    for _ in 0..2 {
        assert_eq!(reader.run("GET product:7").json()["id"], 7);
        assert_eq!(reader.run("HGETALL user:3").pairs()[1], ("name".into(), "user 3".into()));
    }
    stack.assert_loads("product", 1);
    stack.assert_loads("user", 1);
    for words in
        ["SET product:7 x", "DEL product:7", "INCR counter:a", "EXPIRE product:7 1", "FLUSHALL", "GETEX product:7"]
    {
        let name = words.split(' ').next().expect("a name").to_lowercase();
        let text = format!("NOPERM this user has no permissions to run the '{name}' command: it may only read");
        assert_eq!(reader.run(words).error(), text);
    }
    assert!(reader.run("EVAL return(1) 0").error().ends_with("use EVAL_RO"));
    assert!(reader.run("MODULE.COMMAND x").is_error("NOPERM"));
    if pair.has_redis() {
        assert_eq!(reader.run("EVAL_RO return(1) 0"), Reply::Int(1));
        assert!(reader.cmd(&["EVAL_RO", "return redis.call('SET', 'k', 'v')", "0"]).is_error("ERR"));
    }
}

#[test]
fn what_a_user_may_not_do_aborts_its_transaction() {
    let (redis, file) = (Redis::start(), UsersFile::new(STRANGERS));
    let weir = over(&redis, &file);
    let mut client = weir.client();
    assert_eq!(client.run("AUTH limited limited-secret"), Reply::ok());
    for refused in ["SET product:1 x", "GET", "EVAL return(1) 1 user:1"] {
        assert_eq!(client.run("MULTI"), Reply::ok());
        assert_eq!(client.run("SET user:1 x"), Reply::Simple("QUEUED".into()));
        assert!(matches!(client.run(refused), Reply::Error(_)), "{refused}");
        assert!(
            client.run("EXEC").is_error("EXECABORT Transaction discarded because of previous errors."),
            "{refused}"
        );
        assert_eq!(client.run("GET user:1"), Reply::Nil);
    }
    assert!(client.run("WATCH product:1").is_error(NO_KEY));
    assert!(client.run("BLPOP user:1 product:1 0").is_error(NO_KEY));
    assert_eq!(client.run("MULTI"), Reply::ok());
    client.run("SET user:1 x");
    assert_eq!(client.run("EXEC"), Reply::Array(vec![Reply::ok()]));
}

#[test]
fn scripts_are_for_those_who_are_trusted_with_them() {
    let (redis, file) = (Redis::start(), UsersFile::new(STRANGERS));
    let weir = over(&redis, &file);
    let mut limited = weir.client();
    limited.run("AUTH limited limited-secret");
    for words in ["EVAL return(1) 1 user:1", "EVAL_RO return(1) 1 user:1", "FCALL f 0"] {
        let reply = limited.run(words);
        assert!(reply.error().contains("scripts = true"), "{words}: {reply:?}");
    }
    let mut trusted = weir.client();
    trusted.run("AUTH trusted trusted-secret");
    assert_eq!(trusted.run("EVAL return(1) 1 user:1"), Reply::Int(1));
    assert!(trusted.run("EVAL return(1) 2 user:1 product:1").is_error(NO_KEY));
}

/// A24: what each user sees carries its own mark, in a database number of its own.
fn no_answer_across_the_boundary(pair: Pair) {
    let seed = seed();
    let file = UsersFile::new(
        r#"
[user.left]
password = "left"
keys = ["~shared:*", "~left:*"]
[user.right]
password = "right"
keys = ["~shared:*", "~right:*"]
commands = ["+@read", "+select", "+del"]
"#,
    );
    let routes: String = ["shared", "left", "right"]
        .map(|name| format!("[[route]]\nname = \"{name}\"\nkey = \"{name}:{{id}}\"\nvalue = \"text\"\nload = \"SELECT '{name} ' || id FROM products WHERE id = :id\"\n"))
        .concat();
    let stack = Stack::start(pair, &format!("{}{routes}", file.server()));
    let threads: Vec<_> = [("left", "right", 1), ("right", "left", 2)]
        .into_iter()
        .flat_map(|user| [(user, 0), (user, 1), (user, 2)])
        .map(|((own, other, db), number)| {
            let (mut client, mut random) = (stack.weir.client(), fastrand::Rng::with_seed(seed ^ (db * 10 + number)));
            std::thread::spawn(move || {
                let db = db.to_string();
                assert_eq!(client.cmd(&["AUTH", own, own]), Reply::ok());
                assert_eq!(client.cmd(&["SELECT", &db]), Reply::ok());
                let (mut wrong, mut refused, mut answered) = (0, 0, 0);
                for _ in 0..1500 {
                    let id = random.u32(1..=40).to_string();
                    let route = ["shared", own, other][random.usize(0..3)];
                    let key = format!("{route}:{id}");
                    let calls = [vec!["GET", &key], vec!["MGET", &key, &key], vec!["STRLEN", &key], vec!["DEL", &key]];
                    let at = random.usize(0..4);
                    let reply = client.cmd(&calls[at]);
                    let value = Reply::bulk(format!("{route} {id}"));
                    let right = match (route == other, at) {
                        (true, _) => reply.is_error(NO_KEY),
                        (_, 0) => reply == value,
                        (_, 1) => reply == Reply::Array(vec![value.clone(), value]),
                        (_, 2) => reply == Reply::Int(value.text().len() as i64),
                        _ => matches!(reply, Reply::Int(0 | 1)),
                    };
                    if !right {
                        println!("{own}: {:?}: {reply:?}", calls[at]);
                    }
                    wrong += usize::from(!right);
                    *if route == other { &mut refused } else { &mut answered } += 1;
                }
                (wrong, refused, answered)
            })
        })
        .collect();
    let (mut wrong, mut refused, mut answered) = (0, 0, 0);
    for thread in threads {
        let (w, r, a) = thread.join().expect("a client");
        (wrong, refused, answered) = (wrong + w, refused + r, answered + a);
    }
    println!("A24 {pair:?}: {answered} answered, {refused} refused, {wrong} wrong");
    assert_eq!(wrong, 0);
    let mut marked = stack.weir.client();
    marked.run("AUTH left left");
    marked.run("SELECT 1");
    marked.run("SET left:x one");
    marked.run("SELECT 2");
    assert_eq!(marked.run("EXISTS left:x"), Reply::Int(0), "another database number holds other keys");
}

mod a24 {
    use super::harness::Pair;

    #[test]
    fn embedded_sqlite() {
        super::no_answer_across_the_boundary(Pair::EmbeddedSqlite);
    }

    #[test]
    fn redis_sqlite() {
        super::no_answer_across_the_boundary(Pair::RedisSqlite);
    }
}
