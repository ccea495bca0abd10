//! `auth = "upstream"`: clients are users of the Redis behind, which judges each of their commands; what Weir loads, fills and
//! caps it does as itself.

mod harness;

use harness::*;

const USERS: &[User] = &[
    User { name: "reader", commands: &["+@read", "+select"], keys: &["~*"], channels: &[] },
    User { name: "writer", commands: &["+@all", "-@dangerous"], keys: &["~*"], channels: &["*"] },
    User { name: "users", commands: &["+@all"], keys: &["~user:*", "~counter:*", "~plain:*"], channels: &["*"] },
];

const ROUTES: &str = r#"
[[route]]
name = "product"
key = "product:{id}"
ttl = "1000s"
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
ttl = "1000s"
load = "SELECT amount FROM counters WHERE name = :name /* counter */"
[[route]]
name = "strict"
key = "strict:{name}"
value = "text"
on_modify = "reject"
load = "SELECT amount FROM counters WHERE name = :name /* strict */"
"#;

const SERVER: &str = "[server]\nlisten = [\"127.0.0.1:{port}\"]\nadmin = \"127.0.0.1:{admin}\"\nauth = \"upstream\"\n";

/// The pairs with a Redis: nobody else knows users.
macro_rules! over_redis {
    ($($name:ident),+ $(,)?) => { $(
        mod $name {
            use super::harness::Pair;
            #[test]
            fn sqlite() { super::$name(Pair::RedisSqlite); }
            #[test]
            fn postgres() { super::$name(Pair::RedisPostgres); }
        }
    )+ };
}

over_redis!(rights_are_the_upstreams_on_hits_and_misses, writes_are_fenced_and_capped_by_weir_itself);

fn stack(pair: Pair) -> Stack {
    let stack = Stack::start(pair, &format!("{SERVER}{ROUTES}"));
    let mut admin = redis(&stack).client();
    USERS.iter().for_each(|user| user.create(&mut admin));
    stack
}

fn redis(stack: &Stack) -> &Redis {
    stack.redis.as_ref().expect("a Redis")
}

/// A client of this user, in this protocol.
fn client(stack: &Stack, name: &str, protocol: &str) -> Client {
    let user = USERS.iter().find(|user| user.name == name).expect("a user");
    let mut client = stack.weir.client();
    assert!(!matches!(client.cmd(&["HELLO", protocol, "AUTH", name, &user.password()]), Reply::Error(_)));
    client
}

const NO_KEY: &str = "NOPERM this user has no permissions to access one of the keys used as arguments";
const NO_SET: &str = "NOPERM this user has no permissions to run the 'set' command";

fn rights_are_the_upstreams_on_hits_and_misses(pair: Pair) {
    let stack = stack(pair);
    for protocol in ["2", "3"] {
        let (mut reader, mut users) = (client(&stack, "reader", protocol), client(&stack, "users", protocol));
        for _ in ["a miss", "a hit"] {
            assert_eq!(users.run("GET product:7").error(), NO_KEY);
            assert_eq!(users.run("MGET user:1 product:7").error(), NO_KEY);
            assert_eq!(users.run("EXISTS product:9").error(), NO_KEY);
            assert_eq!(users.run("HGETALL user:3").pairs()[1], ("name".into(), "user 3".into()));
            assert_eq!(reader.run("GET product:7").json()["id"], 7);
            assert_eq!(reader.run("MGET product:7 product:8").items().len(), 2);
            for words in ["SET product:7 x", "SET product:99 x", "SET plain:1 x"] {
                assert_eq!(reader.run(words).error(), NO_SET);
            }
            assert!(reader.run("INCR counter:b").is_error("NOPERM this user has no permissions to run the 'incr'"));
            assert!(users.run("INCR strict:b").is_error(NO_KEY), "whether it is loaded is not for this user");
        }
        let replies = users.pipeline(&[vec!["HGET", "user:3", "id"], vec!["GET", "product:7"], vec!["PING"]]);
        assert_eq!(replies, [Reply::bulk("3"), Reply::Error(NO_KEY.into()), Reply::Simple("PONG".into())]);
    }
    stack.assert_loads("product", 2);
    stack.assert_loads("user", 1);
    stack.assert_loads("counter", 0);
    stack.assert_loads("strict", 0);
}

fn writes_are_fenced_and_capped_by_weir_itself(pair: Pair) {
    let stack = stack(pair);
    let mut users = client(&stack, "users", "2");
    let mut writer = client(&stack, "writer", "3");
    assert_eq!(users.run("INCR counter:a"), Reply::Int(11), "from the database's 10");
    assert_eq!(users.run("INCRBY counter:a 5"), Reply::Int(16));
    assert_eq!(users.run("SET counter:b x EX 99999"), Reply::ok());
    let within = |reply: Reply| (1..=1000).contains(&reply.int());
    assert!(within(users.run("TTL counter:b")), "the route's TTL caps the client's");
    assert!(within(users.run("TTL counter:a")));
    assert_eq!(writer.run("SET product:7 mine"), Reply::ok());
    assert!(within(writer.run("TTL product:7")));
    assert_eq!(writer.run("GETEX product:7 EX 99999"), Reply::bulk("mine"));
    wait_until("the longer TTL is capped", || within(redis(&stack).client().run("TTL product:7")));
    assert_eq!(writer.run("MULTI"), Reply::ok());
    writer.run("SET product:8 theirs");
    writer.run("GET product:8");
    assert_eq!(writer.run("EXEC").items()[1], Reply::bulk("theirs"));
    assert!(within(writer.run("TTL product:8")));
    let replies = writer.pipeline(&[
        vec!["GET", "product:9"],
        vec!["DEL", "product:9"],
        vec!["SET", "product:9", "new"],
        vec!["GET", "product:9"],
        vec!["APPEND", "product:9", "er"],
        vec!["GET", "product:9"],
        vec!["SET", "plain:1", "p"],
        vec!["GET", "plain:1"],
    ]);
    assert_eq!(replies[0].json()["id"], 9);
    let expected = [Reply::Int(1), Reply::ok(), Reply::bulk("new"), Reply::Int(5), Reply::bulk("newer"), Reply::ok()];
    assert_eq!(replies[1..7], expected);
    assert_eq!(replies[7], Reply::bulk("p"));
    // Who may not write does not shorten what others have set either.
    assert_eq!(users.run("SET product:9 x").error(), NO_KEY);
    assert_eq!(writer.run("GET product:9"), Reply::bulk("newer"));
}

/// G1 for users of the upstream: the lease falls before the write is made, though another user made it.
#[test]
fn a_write_beats_the_load_that_began_before_it() {
    let stack = Stack::with(Pair::RedisPostgres, |database| {
        format!(
            "{SERVER}[[route]]\nname = \"held\"\nkey = \"held:{{id}}\"\nvalue = \"text\"\nload = \"SELECT name || left({}::text, 0) FROM products WHERE id = :id\"\n",
            database.held_column(0)
        )
    });
    let mut admin = redis(&stack).client();
    USERS.iter().for_each(|user| user.create(&mut admin));
    let cases = [("SET held:1 mine", Reply::bulk("mine"), 1.0), ("DEL held:2", Reply::Nil, 2.0)];
    for (words, left, refused) in cases {
        let key = words.split(' ').nth(1).expect("a key");
        let gate = stack.database.shut_gate();
        let mut reader = client(&stack, "reader", "2");
        reader.run_later(&format!("GET {key}"));
        stack.wait_until_loading(1);
        let mut writer = client(&stack, "writer", "2");
        assert!(!matches!(writer.run(words), Reply::Error(_)));
        drop(gate);
        assert!(matches!(reader.recv(), Reply::Bulk(_)));
        wait_until("the late fill is refused", || stack.weir.metric("weir_fills_refused_total", &[]) == refused);
        assert_eq!(redis(&stack).client().run(&format!("GET {key}")), left, "{words}");
    }
}

#[test]
fn credentials_are_checked_at_the_upstream_each_time() {
    let stack = stack(Pair::RedisSqlite);
    let mut admin = redis(&stack).client();
    let mut anonymous = stack.weir.client();
    assert!(anonymous.run("GET plain:1").is_error("NOAUTH"));
    let wrong = "WRONGPASS invalid username-password pair or user is disabled.";
    assert_eq!(anonymous.run("AUTH writer wrong").error(), wrong);
    assert_eq!(anonymous.run("HELLO 3 AUTH nobody wrong").error(), wrong);
    assert!(anonymous.run("GET plain:1").is_error("NOAUTH"));
    let mut writer = client(&stack, "writer", "2");
    assert_eq!(writer.run("ACL WHOAMI"), Reply::bulk("writer"));
    assert!(writer.run("CLIENT INFO").text().contains(" user=writer "));
    assert_eq!(writer.run("AUTH writer wrong").error(), wrong);
    assert_eq!(writer.run("ACL WHOAMI"), Reply::bulk("writer"), "it stays who it was");
    assert_eq!(writer.run("AUTH reader reader-secret"), Reply::ok());
    assert_eq!(writer.run("SET plain:1 x").error(), NO_SET);
    assert_eq!(writer.run("RESET"), Reply::Simple("RESET".into()));
    assert!(writer.run("GET plain:1").is_error("NOAUTH"));

    // On a connection of its own, where the server remembers something, it is this connection that changes hands.
    let mut watching = client(&stack, "writer", "2");
    watching.run("WATCH plain:1");
    assert_eq!(watching.run("AUTH reader reader-secret"), Reply::ok());
    assert_eq!(watching.run("SET plain:1 x").error(), NO_SET);
    assert!(watching.run("UNWATCH").is_error("NOPERM"));
    assert_eq!(watching.run("AUTH writer writer-secret"), Reply::ok());
    assert_eq!(watching.run("UNWATCH"), Reply::ok());
    assert_eq!(watching.run("SET plain:1 x"), Reply::ok());
    let mut next = client(&stack, "reader", "2");
    assert!(next.run("WATCH plain:1").is_error("NOPERM"), "nobody is given a link that was another's");

    // A new password, and then no user at all: nobody gets somebody else's rights.
    let mut old = client(&stack, "users", "2");
    assert_eq!(old.run("SET plain:2 x"), Reply::ok());
    assert_eq!(admin.run("ACL SETUSER users >fresh <users-secret"), Reply::ok());
    assert_eq!(stack.weir.client().run("AUTH users users-secret").error(), wrong);
    let mut fresh = stack.weir.client();
    assert_eq!(fresh.run("AUTH users fresh"), Reply::ok());
    assert_eq!(fresh.run("GET plain:2"), Reply::bulk("x"));
    assert_eq!(admin.run("ACL DELUSER users"), Reply::Int(1));
    let is_told =
        |client: &mut Client, key: &str| client.try_cmd(&["GET", key]).map(|reply| reply.is_error("UPSTREAM"));
    wait_until("its links are cut", || is_told(&mut fresh, "plain:2").unwrap_or(true));
    for client in [&mut fresh, &mut old] {
        for key in ["plain:2", "product:7"].repeat(20) {
            match is_told(client, key) {
                Ok(is_told) => assert!(is_told, "{key}"),
                // As soon as Weir connects again as that user it knows better, and hangs up on them.
                Err(_) => break,
            }
        }
    }
    stack.assert_loads("product", 0);
}

#[test]
fn what_weir_answers_itself_is_for_those_whom_the_upstream_allows_it() {
    let stack = stack(Pair::RedisSqlite);
    let mut writer = client(&stack, "writer", "2");
    let mut users = client(&stack, "users", "2");
    assert!(users.run("CLIENT LIST").text().contains(" user=writer "));
    for words in ["CLIENT LIST", "CLIENT KILL ID 1", "INFO"] {
        let name = words.to_lowercase().split(' ').take(2).collect::<Vec<_>>().join("|");
        let text = format!("NOPERM this user has no permissions to run the '{name}' command");
        assert_eq!(writer.run(words).error(), text);
    }
    assert_eq!(writer.run("CLIENT SETNAME me"), Reply::ok());
    assert_eq!(writer.run("CLIENT GETNAME"), Reply::bulk("me"));
    assert!(users.run("INFO").text().contains("# Weir"));
    assert!(users.run("WEIR ROUTES").is_error("NOPERM"));
    assert!(matches!(users.run("WEIR HELP"), Reply::Array(_)));
    let mut reader = client(&stack, "reader", "3");
    assert!(reader.run("PING").is_error("NOPERM"));
    assert!(reader.run("CLIENT ID").is_error("NOPERM"));
    let replies =
        reader.pipeline(&[vec!["CLIENT", "ID"], vec!["GET", "plain:9"], vec!["SELECT", "1"], vec!["GET", "plain:9"]]);
    assert!(replies[0].is_error("NOPERM"), "{replies:?}");
    assert_eq!(replies[1..], [Reply::Nil, Reply::ok(), Reply::Nil]);
}

/// A24: one may read what the other may not, and each has a database number of its own; both ask for the same keys at once.
#[test]
fn no_answer_across_the_boundary() {
    let seed = seed();
    let stack = stack(Pair::RedisSqlite);
    let threads: Vec<_> = [("users", false), ("reader", true), ("users", false), ("reader", true)]
        .into_iter()
        .enumerate()
        .map(|(number, (name, reads))| {
            let mut client = client(&stack, name, ["2", "3"][number % 2]);
            let mut random = fastrand::Rng::with_seed(seed ^ number as u64);
            std::thread::spawn(move || {
                let (mut wrong, mut refused, mut answered) = (0, 0, 0);
                for _ in 0..1500 {
                    let key = format!("product:{}", random.u32(1..=60));
                    let calls =
                        [vec!["GET", &key], vec!["MGET", &key, "user:1"], vec!["EXISTS", &key], vec!["STRLEN", &key]];
                    let reply = client.cmd(&calls[random.usize(0..4)]);
                    let fine = if reads {
                        !matches!(reply, Reply::Error(_) | Reply::Nil | Reply::Int(0))
                    } else {
                        reply.is_error(NO_KEY)
                    };
                    wrong += usize::from(!fine);
                    *if reads { &mut answered } else { &mut refused } += 1;
                    if random.u32(0..20) == 0 {
                        // So that there are misses to the end.
                        client.cmd(&["DEL", &key]);
                    }
                }
                (wrong, refused, answered)
            })
        })
        .collect();
    let mut writer = client(&stack, "writer", "2");
    for round in 0..300 {
        writer.run(&format!("DEL product:{}", 1 + round % 60));
    }
    let sums = threads.into_iter().map(|thread| thread.join().expect("a client"));
    let (wrong, refused, answered) = sums.fold((0, 0, 0), |(w, r, a), (x, y, z)| (w + x, r + y, a + z));
    let loads = stack.weir.metric("weir_loads_total", &[("route", "product")]);
    println!("A24, users of the upstream: {answered} answered, {refused} refused, {wrong} wrong, {loads} loads");
    assert_eq!(wrong, 0);
}

/// The same rights on every node.
fn create_everywhere(cluster: &RedisCluster) {
    for node in 0..3 {
        let mut admin = cluster.client(node);
        USERS.iter().for_each(|user| user.create(&mut admin));
    }
}

#[test]
fn over_a_cluster_every_node_judges_and_weir_fills() {
    let (cluster, shop) = (RedisCluster::start(0), Sqlite::shop());
    create_everywhere(&cluster);
    let weir = Weir::start(&format!(
        "{SERVER}[upstream]\nurl = \"{}\"\ntimeout = \"20s\"\n[database.main]\nurl = \"{}\"\n{ROUTES}",
        cluster.url(),
        shop.url()
    ));
    let log_in = |name: &str| {
        let user = USERS.iter().find(|user| user.name == name).expect("a user");
        user.log_in(weir.client())
    };
    let (mut reader, mut writer, mut users) = (log_in("reader"), log_in("writer"), log_in("users"));
    for id in 1..=20 {
        assert_eq!(users.run(&format!("GET product:{id}")).error(), NO_KEY);
        assert_eq!(reader.run(&format!("GET product:{id}")).json()["id"], id);
        assert_eq!(users.run(&format!("GET product:{id}")).error(), NO_KEY);
        assert_eq!(reader.run(&format!("DEL product:{id}")).error(), NO_SET.replace("set", "del"));
    }
    assert_eq!(reader.run("MGET product:1 product:2 product:3 product:30").items().len(), 4);
    assert_eq!(users.run("MGET user:1 product:1 user:2").error(), NO_KEY);
    assert_eq!(weir.metric("weir_loads_total", &[("route", "product")]), 21.0);
    assert_eq!(writer.run("DEL product:1 product:2 product:3"), Reply::Int(3));
    assert_eq!(writer.run("MSET product:1 a product:2 b plain:1 c"), Reply::ok());
    assert!((1..=1000).contains(&writer.run("TTL product:2").int()));
    assert_eq!(writer.run("MGET product:1 product:2 plain:1").items()[1], Reply::bulk("b"));
    assert_eq!(users.run("INCR counter:a"), Reply::Int(11));
    assert_eq!(users.run("INCR counter:b"), Reply::Int(42));
    assert_eq!(writer.run("MULTI"), Reply::ok());
    writer.run("SET product:5 five");
    assert_eq!(writer.run("EXEC"), Reply::Array(vec![Reply::ok()]));
    assert_eq!(reader.run("GET product:5"), Reply::bulk("five"));
    // No node is known yet that could refuse it; the one that is chosen in the end does.
    assert_eq!(reader.run("MULTI"), Reply::ok());
    let refused =
        "EXECABORT Transaction discarded because of: NOPERM this user has no permissions to run the 'exec' command";
    assert_eq!(reader.run("EXEC").error(), refused);
    assert_eq!(writer.run("AUTH users wrong").error(), "WRONGPASS invalid username-password pair or user is disabled.");
    assert_eq!(writer.run("DBSIZE").int(), reader.run("DBSIZE").int());
}

#[test]
fn a_refusal_before_a_transaction_has_its_node_aborts_it_too() {
    let cluster = RedisCluster::start(0);
    let file = UsersFile::new("[user.app]\npassword = \"app\"\nkeys = [\"~a:*\"]\n");
    let weir = Weir::start(&format!("{}[upstream]\nurl = \"{}\"\ntimeout = \"20s\"\n", file.server(), cluster.url()));
    let mut client = weir.client();
    assert_eq!(client.run("AUTH app app"), Reply::ok());
    for behind in [&["PING"][..], &["SET a:1 x"], &[]] {
        assert_eq!(client.run("MULTI"), Reply::ok());
        assert_eq!(client.run("GET b:1").error(), NO_KEY);
        for words in behind {
            assert_eq!(client.run(words), Reply::Simple("QUEUED".into()), "{words}");
        }
        assert!(client.run("EXEC").is_error("EXECABORT"), "{behind:?}");
        assert_eq!(client.run("GET a:1"), Reply::Nil);
    }
    assert_eq!(client.run("MULTI"), Reply::ok());
    assert_eq!(client.run("GET b:1").error(), NO_KEY);
    assert_eq!(client.run("DISCARD"), Reply::ok());
    assert_eq!(client.run("MGET a:1 b:1 a:2").error(), NO_KEY);
    assert_eq!(client.run("MGET a:1 a:2 a:3").items().len(), 3);
}

/// What the upstream has not let a user do is not done, for this client and for the next one on its link.
#[test]
fn a_refused_state_is_no_state() {
    let stack = stack(Pair::RedisSqlite);
    let mut admin = redis(&stack).client();
    let without = |admin: &mut Client, name: &str, right: &str| {
        let set = format!("ACL SETUSER {name} on >{name} ~user:* ~plain:* &* +@all -{right}");
        assert_eq!(admin.run(&set), Reply::ok());
    };
    let enter = |name: &str| {
        let mut client = stack.weir.client();
        assert_eq!(client.run(&format!("AUTH {name} {name}")), Reply::ok());
        client
    };
    for right in ["discard", "unwatch", "multi", "watch", "ping"] {
        let name = format!("without-{right}");
        without(&mut admin, &name, right);
        for _ in 0..3 {
            let mut client = enter(&name);
            let refused = format!("NOPERM this user has no permissions to run the '{right}' command");
            match right {
                "discard" => {
                    let replies = client.pipeline(&[vec!["MULTI"], vec!["SET", "plain:1", "evil"], vec!["DISCARD"]]);
                    assert_eq!(replies[2].error(), refused);
                    assert_eq!(client.run("GET plain:1"), Reply::Simple("QUEUED".into()), "as on Redis");
                }
                "unwatch" => {
                    assert_eq!(client.run("WATCH plain:1"), Reply::ok());
                    assert_eq!(client.run("UNWATCH").error(), refused);
                    admin.run("INCR plain:1");
                }
                "multi" => {
                    assert_eq!(client.run("MULTI").error(), refused);
                    assert_eq!(client.run("EXEC"), Reply::Error("ERR EXEC without MULTI".into()));
                    assert_eq!(client.run("HGET user:3 name"), Reply::bulk("user 3"));
                }
                "watch" => {
                    assert_eq!(client.run("WATCH user:4").error(), refused);
                    assert_eq!(client.run("HGET user:4 name"), Reply::bulk("user 4"), "it is loaded");
                }
                _ => {
                    client.run("SUBSCRIBE a");
                    assert_eq!(client.run("UNSUBSCRIBE").items()[0], Reply::bulk("unsubscribe"));
                    assert_eq!(client.run("HGET user:3 name"), Reply::bulk("user 3"));
                }
            }
            drop(client);
            if right != "multi" {
                let mut next = enter(&name);
                assert_eq!(next.run("HGET user:3 id"), Reply::bulk("3"));
                let replies = next.pipeline(&[vec!["MULTI"], vec!["HGET", "user:3", "id"], vec!["EXEC"]]);
                assert_eq!(replies[0], Reply::ok(), "{name}");
                assert_eq!(replies[2], Reply::Array(vec![Reply::bulk("3")]), "{name}");
            }
        }
    }
}

/// Where the upstream would hang up, Weir does: a client library connects again, with the password that it has by then.
#[test]
fn a_user_who_has_gone_is_hung_up_on() {
    let stack = stack(Pair::RedisSqlite);
    let mut admin = redis(&stack).client();
    assert_eq!(admin.run("ACL SETUSER guest on >old ~* &* +@all"), Reply::ok());
    let mut guest = stack.weir.client();
    assert_eq!(guest.run("AUTH guest old"), Reply::ok());
    assert_eq!(guest.run("SET plain:1 x"), Reply::ok());
    admin.run("ACL SETUSER guest resetpass >new");
    guest.run_later("WATCH plain:1");
    wait_until("it is hung up on", || guest.is_closed());
    let mut again = stack.weir.client();
    assert_eq!(again.run("AUTH guest new"), Reply::ok());
    assert_eq!(again.run("GET plain:1"), Reply::bulk("x"));
}
