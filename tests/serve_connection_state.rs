//! What a server remembers of a connection (G9, T23 to T25, T31 to T33): a client that needs it has a link of its own for as
//! long as that, in its own order, and never longer.

mod harness;

use harness::*;
use std::io::ErrorKind;
use weir::store::redis::side_key::{Beside, Kind};

fn on(redis: &Redis) -> Weir {
    Weir::start(&format!("[upstream]\nurl = \"{}\"\ntimeout = \"20s\"\n", redis.url()))
}

/// Frames that an exchange must bring, in both protocols, byte for byte as from Redis itself. `;` parts writes, `|` commands in
/// one write; the number in front counts the frames that are awaited.
const EXCHANGES: &[&str] = &[
    "3 MULTI|SET a 1|EXEC",
    "4 MULTI|SET a 1|INCR a|EXEC ; 1 GET a",
    "3 MULTI|SET a 1|DISCARD ; 2 EXEC|DISCARD",
    "4 MULTI|MULTI|WATCH a|EXEC",
    "4 MULTI|NOSUCH|SET a|EXEC ; 1 GET a",
    "4 WATCH a|MULTI|SET a 1|EXEC ; 2 UNWATCH|UNWATCH",
    "4 MULTI|PING|ECHO x|EXEC ; 4 MULTI|SELECT 3|SET in3 1|EXEC ; 2 GET in3|SELECT 0 ; 2 GET in3|SELECT 9 ; 1 DBSIZE",
    "5 SELECT 1|SET one 1|SELECT 2|GET one|SELECT 99 ; 4 GET one|SELECT 1|GET one|SELECT x",
    "1 BLPOP nolist 0.01 ; 2 RPUSH l a b|BLPOP l 0 ; 1 BRPOP l 0 ; 1 BLMOVE l m LEFT RIGHT 0.01 ; 1 BLPOP l x ; 1 BLPOP l -1",
    "1 BLMPOP 0.01 1 l LEFT ; 2 ZADD z 1 a|BZPOPMIN z 0 ; 1 BZMPOP 0.01 1 z MIN ; 1 BLPOP a ; 2 SET s 1|BLPOP s 0",
    "2 XADD st 1-1 f v|XREAD BLOCK 10 STREAMS st 0 ; 1 XREAD BLOCK 10 STREAMS st $",
    "1 WAIT 0 10 ; 1 WAIT 1 10 ; 1 WAIT x 10 ; 1 WAIT",
    "2 SUBSCRIBE a b ; 1 PING ; 1 PSUBSCRIBE p* ; 1 UNSUBSCRIBE a ; 1 UNSUBSCRIBE ; 1 PUNSUBSCRIBE ; 1 PING",
    "1 UNSUBSCRIBE ; 1 PUNSUBSCRIBE ; 1 SUNSUBSCRIBE ; 1 UNSUBSCRIBE x ; 1 SUBSCRIBE ; 1 GET a",
    "1 SSUBSCRIBE s ; 1 SUNSUBSCRIBE ; 1 GET a",
    "2 SUBSCRIBE a|PING ; 2 RESET|PING ; 1 GET a",
    "1 CLIENT REPLY ON ; 1 CLIENT REPLY SKIP|SET a 5|GET a ; 1 CLIENT REPLY OFF|SET a 6|NOSUCH|CLIENT REPLY ON ; 1 GET a",
    "1 CLIENT NO-EVICT on ; 1 CLIENT NO-EVICT maybe ; 1 CLIENT NO-EVICT off",
    "1 CLIENT TRACKING on ; 1 CLIENT TRACKINGINFO ; 1 CLIENT GETREDIR ; 1 CLIENT TRACKING off ; 1 CLIENT GETREDIR",
    "1 CLIENT CACHING yes ; 1 CLIENT TRACKING on OPTIN ; 2 CLIENT CACHING yes|GET a ; 1 CLIENT TRACKING off",
    "1 CLIENT TRACKING on BCAST PREFIX a PREFIX b ; 1 CLIENT TRACKINGINFO ; 1 RESET",
    "1 CLIENT TRACKING on REDIRECT 999999 ; 1 CLIENT KILL 1.2.3.4:5 ; 1 CLIENT KILL ID 0 ; 1 CLIENT UNBLOCK 999999 ; 1 CLIENT KILL TYPE x",
    "1 CLIENT SETNAME n ; 1 CLIENT GETNAME ; 4 MULTI|CLIENT GETNAME|CLIENT SETNAME m|EXEC ; 1 CLIENT GETNAME ; 1 CLIENT SETNAME",
    "3 MULTI|RESET|GET a ; 2 WATCH a|RESET ; 2 EXEC|MULTI ; 2 QUIT|GET a",
    "2 EVAL return{1,2} 0|SCRIPT LOAD return(7) ; 4 MULTI|EVAL return(1) 0|EVALSHA ffffffffffffffffffffffffffffffffffffffff 0|EXEC",
];

fn converses(hello: &str) {
    let (bare, behind) = (Redis::start(), Redis::start());
    let weir = on(&behind);
    for exchange in EXCHANGES {
        bare.client().run("FLUSHALL");
        behind.client().run("FLUSHALL");
        let (mut ours, mut theirs) = (weir.client(), bare.client());
        ours.run(hello);
        theirs.run(hello);
        for step in exchange.split(" ; ") {
            let (count, commands) = step.split_once(' ').expect("a count and commands");
            let bytes: Vec<u8> = commands.split('|').flat_map(raw_command).collect();
            ours.send(&bytes);
            theirs.send(&bytes);
            for frame in 0..count.parse().expect("a count") {
                let their = theirs.try_recv_raw().map(|(_, raw)| String::from_utf8_lossy(&raw).into_owned());
                let our = ours.try_recv_raw().map(|(_, raw)| String::from_utf8_lossy(&raw).into_owned());
                match (our, their) {
                    (Ok(our), Ok(their)) => assert_eq!(our, their, "{hello}: frame {frame} of {step} in {exchange}"),
                    (our, their) => {
                        let ends = [our.err(), their.err()].map(|error| error.map(|error| error.kind()));
                        assert_eq!(ends, [Some(ErrorKind::UnexpectedEof); 2], "{hello}: {step} in {exchange}");
                    }
                }
            }
        }
    }
}

#[test]
fn connection_state_is_that_of_redis_in_resp2() {
    converses("HELLO 2");
}

#[test]
fn connection_state_is_that_of_redis_in_resp3() {
    converses("HELLO 3");
}

/// How many connections that Weir made stand at the upstream, but for the one that asks.
fn connections(redis: &Redis) -> usize {
    redis.client().run("CLIENT LIST").text().lines().count() - 1
}

/// A Weir that has the links which its workers share, and no other: it is ready with the first, and what it has tried the upstream with
/// may not be gone yet.
fn linked(redis: &Redis, workers: usize) -> Weir {
    let weir = Weir::start(&format!(
        "[server]\nlisten = [\"127.0.0.1:{{port}}\"]\nadmin = \"127.0.0.1:{{admin}}\"\nworkers = {workers}\n[upstream]\nurl = \"{}\"\n\
         timeout = \"20s\"\n",
        redis.url()
    ));
    wait_until("each worker has its link", || connections(redis) == workers);
    weir
}

#[test]
fn a_private_link_is_handed_back_and_used_again() {
    let redis = Redis::start();
    let weir = linked(&redis, 1);
    for number in 0..50 {
        let mut client = weir.client();
        client.send(&[raw_command("MULTI"), raw_command(&format!("SET k {number}")), raw_command("EXEC")].concat());
        assert_eq!([client.recv(), client.recv()], [Reply::ok(), Reply::Simple("QUEUED".into())]);
        assert_eq!(client.recv(), Reply::Array(vec![Reply::ok()]));
        assert_eq!(client.run("GET k"), Reply::bulk(number.to_string()));
    }
    assert_eq!(connections(&redis), 2);
}

/// T33: whoever leaves while it is blocked leaves no connection behind, and takes no element with it.
#[test]
fn a_blocked_client_that_leaves_frees_its_link() {
    let redis = Redis::start();
    let weir = linked(&redis, 2);
    let mut clients: Vec<Client> = (0..20).map(|_| weir.client()).collect();
    for client in &mut clients {
        client.run_later("BLPOP queue 0");
    }
    wait_until("all are blocked", || redis.client().run("INFO clients").text().contains("blocked_clients:20"));
    // Some wait with something behind: a command that must wait itself, the end, a mistake.
    clients[0].run_later("SELECT 0");
    clients[1].run_later("QUIT");
    clients[3].run_later("INFO");
    clients[4].run_later("CLIENT TRACKING ON");
    // More than is read behind such a command; some of them leave in order, some do not.
    for client in &mut clients[5..9] {
        client.run_later("QUIT");
        client.run_later(&format!("SET long {}", "x".repeat(200 << 10)));
    }
    clients.drain(7..9).for_each(Client::abort);
    clients[2].send(b"*1\r\n$x\r\n");
    drop(clients);
    wait_until("none is blocked", || redis.client().run("INFO clients").text().contains("blocked_clients:0"));
    wait_until("their links are closed", || connections(&redis) == 2);
    weir.client().run("RPUSH queue element");
    assert_eq!(weir.client().run("LLEN queue"), Reply::Int(1));
}

/// What a transaction changes of a connection is learnt.
#[test]
fn a_transaction_changes_the_protocol() {
    let redis = Redis::start();
    let weir = on(&redis);
    let mut client = weir.client();
    let null = |client: &mut Client, expected: &[u8]| {
        client.send(&raw_command("GET absent"));
        assert_eq!(client.recv_bytes(expected.len()), expected);
    };
    for (protocol, expected) in [("HELLO 3", &b"_\r\n"[..]), ("HELLO 2", b"$-1\r\n")] {
        client.send(&["MULTI", protocol, "EXEC"].map(raw_command).concat());
        (0..3).for_each(|_| drop(client.recv()));
        null(&mut client, expected);
    }
}

/// Its messages could not be told from replies in time.
#[test]
fn a_subscriber_turns_to_resp2_outside_of_transactions_only() {
    let redis = Redis::start();
    let weir = on(&redis);
    let mut client = weir.client();
    client.run("HELLO 3");
    client.send(&["PSUBSCRIBE ch*", "MULTI", "HELLO 2", "PUBLISH ch1 x", "EXEC"].map(raw_command).concat());
    assert!(matches!(client.recv(), Reply::Push(_)));
    assert_eq!(client.recv(), Reply::ok());
    let refused = client.recv();
    assert!(refused.is_error("ERR 'HELLO' is not served by Weir: not inside MULTI"), "{refused:?}");
    assert_eq!(client.recv(), Reply::Simple("QUEUED".into()));
    assert!(client.recv().is_error("EXECABORT"));
    client.run("HELLO 2");
    assert_eq!(client.run("PING"), Reply::Array(vec![Reply::bulk("pong"), Reply::bulk("")]));
    assert!(client.run("GET a").is_error("ERR Can't execute 'get'"));
    client.run("PUNSUBSCRIBE");
    assert_eq!(client.run("GET a"), Reply::Nil);

    // Who is none any more may, and who has never been one.
    for words in ["SUBSCRIBE ch|UNSUBSCRIBE", "UNSUBSCRIBE ch"] {
        let mut client = weir.client();
        client.run("HELLO 3");
        let commands: Vec<&str> = words.split('|').chain(["MULTI", "HELLO 2", "EXEC", "GET a"]).collect();
        client.send(&commands.iter().flat_map(|words| raw_command(words)).collect::<Vec<u8>>());
        let replies: Vec<Reply> = commands[1..].iter().map(|_| client.recv()).collect();
        assert!(matches!(replies.last(), Some(Reply::Array(_))), "{words}: {replies:?}");
        assert_eq!(client.recv_bytes(5), b"$-1\r\n", "{words}");
    }
}

/// G1: a fence meets the database that a queued SELECT leads to.
#[test]
fn a_transaction_that_selects_another_database_fences_there() {
    let (redis, shop) = (Redis::start(), Sqlite::shop());
    let weir = Weir::start(&format!(
        "[upstream]\nurl = \"{}\"\n[database.main]\nurl = \"{}\"\n[[route]]\nkey = \"name:{{id}}\"\ndatabase = \"main\"\n\
         load = \"SELECT name FROM products WHERE id = :id\"\nvalue = \"text\"\nttl = \"1h\"\n",
        redis.url(),
        shop.url()
    ));
    let mut behind = redis.client();
    behind.run("SELECT 1");
    // Somebody's lease, as a load that has begun has one.
    let lease = Beside::of(b"name:7").name(Kind::Lease);
    behind.cmd(&[&b"SET"[..], &lease, b"1", b"PX", b"60000"]);
    let leases = |client: &mut Client| client.run("KEYS weir:*").items().len();
    assert_eq!(leases(&mut behind), 1);
    let mut client = weir.client();
    client.send(&["MULTI", "SELECT 1", "DEL name:7", "SET name:8 x", "SELECT 0", "EXEC"].map(raw_command).concat());
    (0..6).for_each(|_| drop(client.recv()));
    assert_eq!(client.run("PING"), Reply::Simple("PONG".into()));
    assert_eq!(leases(&mut behind), 0);
    wait_until("the route's TTL caps it there", || behind.run("TTL name:8").int() > 0);
}

/// Whoever leaves without reading has had done what it sent, as with Redis.
#[test]
fn what_a_client_sent_before_it_left_is_done() {
    let redis = Redis::start();
    let weir = on(&redis);
    for number in 0..40 {
        let mut client = weir.client();
        let mut commands = vec![format!("SET a{number} 1"), "MULTI".into(), format!("SET b{number} 2"), "EXEC".into()];
        if number % 2 == 0 {
            commands.push("BLPOP nolist 0".into());
        }
        client.send(&commands.iter().flat_map(|command| raw_command(command)).collect::<Vec<u8>>());
    }
    wait_until("all of it is done", || redis.client().run("DBSIZE") == Reply::Int(80));
}

/// Whoever is told that a client has ended may count on it: nobody subscribes or waits there any more.
#[test]
fn a_client_that_has_ended_is_gone_at_the_server_too() {
    let redis = Redis::start();
    let weir = on(&redis);
    let mut asking = weir.client();
    for _ in 0..50 {
        let mut subscriber = weir.client();
        let id = subscriber.run("CLIENT ID").int();
        subscriber.run("SUBSCRIBE news");
        assert_eq!(asking.run(&format!("CLIENT KILL ID {id}")), Reply::Int(1));
        assert_eq!(asking.run("PUBLISH news nobody"), Reply::Int(0));
        for end in ["RESET", "QUIT"] {
            let mut subscriber = weir.client();
            subscriber.run("SUBSCRIBE news");
            subscriber.run(end);
            assert_eq!(asking.run("PUBLISH news nobody"), Reply::Int(0), "{end}");
        }
    }
}

/// T23: a client's commands keep their order on the way to its own link and back.
#[test]
fn no_command_overtakes_another_between_links() {
    let redis = Redis::start();
    let weir = on(&redis);
    let mut client = weir.client();
    for round in 0..500 {
        let commands = [
            format!("SET k {round}"),
            "GET k".into(),
            "MULTI".into(),
            "INCR k".into(),
            "EXEC".into(),
            "GET k".into(),
            "SELECT 1".into(),
            "GET k".into(),
            "SELECT 0".into(),
            "DECR k".into(),
            "GET k".into(),
        ];
        client.send(&commands.iter().flat_map(|command| raw_command(command)).collect::<Vec<u8>>());
        let replies: Vec<Reply> = commands.iter().map(|_| client.recv()).collect();
        let is = |number: i32| Reply::bulk(number.to_string());
        assert_eq!(replies[1], is(round));
        assert_eq!(replies[4], Reply::Array(vec![Reply::Int(i64::from(round) + 1)]));
        assert_eq!((&replies[5], &replies[7], &replies[10]), (&is(round + 1), &Reply::Nil, &is(round)));
    }
}

/// T31: database and protocol are the client's own, whoever else shares a worker's links.
#[test]
fn clients_of_many_databases_share_links_and_never_values() {
    let redis = Redis::start();
    let weir = on(&redis);
    let seed = seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut clients: Vec<(Client, usize)> = (0..100).map(|_| (weir.client(), 0)).collect();
    for db in 0..16 {
        let mut client = redis.client();
        client.run(&format!("SELECT {db}"));
        client.run(&format!("SET db {db}"));
    }
    for _ in 0..5_000 {
        let index = random.usize(..clients.len());
        let (client, db) = &mut clients[index];
        if random.u8(..3) == 0 {
            *db = random.usize(..16);
            assert_eq!(client.run(&format!("SELECT {db}")), Reply::ok());
        }
        assert_eq!(client.run("GET db"), Reply::bulk(db.to_string()), "seed {seed}");
    }
}

#[test]
fn invalidations_are_redirected_by_the_numbers_that_clients_were_told() {
    let redis = Redis::start();
    let weir = on(&redis);
    let (mut listener, mut reader) = (weir.client(), weir.client());
    let id = listener.run("CLIENT ID").int();
    listener.run("SUBSCRIBE __redis__:invalidate");
    assert_eq!(reader.run(&format!("CLIENT TRACKING on REDIRECT {id}")), Reply::ok());
    assert_eq!(reader.run("CLIENT GETREDIR"), Reply::Int(id));
    assert_eq!(reader.run("GET k"), Reply::Nil);
    weir.client().run("SET k v");
    let message = listener.recv();
    assert_eq!(message.items()[0], Reply::bulk("message"));
    assert_eq!(message.items()[2], Reply::Array(vec![Reply::bulk("k")]));
}

#[test]
fn clients_are_killed_and_unblocked_by_their_own_numbers() {
    let redis = Redis::start();
    let weir = on(&redis);
    let (mut blocked, mut victim, mut other) = (weir.client(), weir.client(), weir.client());
    let id = blocked.run("CLIENT ID").int();
    blocked.run_later("BLPOP queue 0");
    wait_until("it is unblocked", || other.run(&format!("CLIENT UNBLOCK {id} ERROR")) == Reply::Int(1));
    assert!(blocked.recv().is_error("UNBLOCKED"));
    assert_eq!(blocked.run("PING"), Reply::Simple("PONG".into()));
    let id = victim.run("CLIENT ID").int();
    assert_eq!(other.run(&format!("CLIENT KILL ID {id}")), Reply::Int(1));
    assert!(victim.is_closed());
}

const COUNTER: &str = "[[route]]\nname = \"price\"\nkey = \"price:{id}\"\nvalue = \"text\"\n\
    load = \"SELECT price FROM products WHERE id = :id /* price */\"\n";

/// T25: a fill would abort the client's EXEC.
#[test]
fn nothing_is_loaded_under_watch_and_inside_multi() {
    let stack = Stack::start(Pair::RedisSqlite, COUNTER);
    let mut client = stack.weir.client();
    client.run("WATCH price:1");
    assert_eq!(client.run("GET price:1"), Reply::Nil);
    client.run("MULTI");
    client.run("GET price:1");
    client.run("SET price:1 5");
    assert_eq!(client.run("EXEC"), Reply::Array(vec![Reply::Nil, Reply::ok()]));
    stack.assert_loads("price", 0);
    let ttl = client.run("PTTL price:1").int();
    assert!(ttl > 0 && ttl <= 300_000, "the route's TTL caps what a transaction wrote: {ttl}");
    client.run("DEL price:1");
    assert_ne!(client.run("GET price:1"), Reply::Nil);
    stack.assert_loads("price", 1);
}

/// G1 across EXEC: a load that began before it fills nothing after it.
#[test]
fn a_transaction_fences_the_loads_that_began_before_it() {
    let stack = Stack::with(Pair::RedisPostgres, |database| {
        format!(
            "[[route]]\nname = \"price\"\nkey = \"price:{{id}}\"\nvalue = \"text\"\n\
             load = \"SELECT price FROM products WHERE id = :id AND {} > 0 /* price */\"\n",
            database.held_column(300)
        )
    });
    stack.database.sql("UPDATE products SET price = 1 WHERE id = 1");
    let gate = stack.database.shut_gate();
    let (mut reader, mut writer) = (stack.weir.client(), stack.weir.client());
    reader.run_later("GET price:1");
    stack.wait_until_loading(1);
    stack.database.sql("UPDATE products SET price = 2 WHERE id = 1");
    writer.run("MULTI");
    writer.run("DEL price:1");
    assert_eq!(writer.run("EXEC"), Reply::Array(vec![Reply::Int(0)]));
    drop(gate);
    assert_eq!(reader.recv(), Reply::bulk("1"));
    assert_eq!(writer.run("GET price:1"), Reply::bulk("2"));
    assert_eq!(reader.run("GET price:1"), Reply::bulk("2"));
}

/// A transaction is nowhere once its link is gone: the client is told by the end of its connection.
#[test]
fn a_lost_link_ends_the_client_whose_state_it_held() {
    let mut redis = Redis::start();
    let weir = on(&redis);
    let (mut holder, mut subscriber, mut other) = (weir.client(), weir.client(), weir.client());
    holder.run("MULTI");
    subscriber.run("SUBSCRIBE news");
    redis.restart();
    assert!(holder.is_closed());
    assert!(subscriber.is_closed());
    wait_until("the shared link is back", || other.run("PING x").text() == "x" && other.run("SET k v") == Reply::ok());
}

/// What CLIENT LIST says of each client, as far as it does not differ from connection to connection.
fn doings(client: &mut Client, of: &[&str]) -> Vec<String> {
    let list = client.run("CLIENT LIST").text();
    let field = |line: &str, name: &str| line.split(' ').find_map(|field| Some(field.strip_prefix(name)?.to_owned()));
    let row = |name: &&str| {
        let line = list.lines().find(|line| field(line, "name=").as_deref() == Some(name)).expect("it is connected");
        let fields = ["flags=", "db=", "sub=", "psub=", "multi=", "cmd=", "resp="];
        let fields = fields.map(|name| format!("{name}{}", field(line, name).expect("a field"))).join(" ");
        format!("{name}: {fields}")
    };
    of.iter().map(row).collect()
}

/// Whoever looks who is blocked, monitors or holds a transaction open sees what Redis would show.
#[test]
fn client_list_shows_what_each_client_does() {
    let (bare, behind) = (Redis::start(), Redis::start());
    let weir = on(&behind);
    let doers = [
        ("blocks", "BLPOP nolist 0", 0),
        ("subscribes", "SUBSCRIBE a b", 2),
        ("monitors", "MONITOR", 1),
        ("queues", "MULTI|SET a 1|SET b 1", 3),
        ("tracks", "CLIENT TRACKING on", 1),
        ("reads", "SELECT 2|GET a", 2),
        ("asks", "PING", 1),
    ];
    let names = doers.map(|(name, ..)| name);
    let shown = |mut connect: Box<dyn FnMut() -> Client + '_>, redis: &Redis| {
        let mut clients: Vec<Client> = doers
            .iter()
            .map(|(name, commands, replies)| {
                let mut client = connect();
                client.run(&format!("CLIENT SETNAME {name}"));
                client.send(&commands.split('|').flat_map(raw_command).collect::<Vec<u8>>());
                (0..*replies).for_each(|_| drop(client.recv()));
                client
            })
            .collect();
        wait_until("one is blocked", || redis.client().run("INFO clients").text().contains("blocked_clients:1"));
        doings(clients.last_mut().expect("the last one asks"), &names)
    };
    let theirs = shown(Box::new(|| bare.client()), &bare);
    let ours = shown(Box::new(|| weir.client()), &behind);
    assert_eq!(ours, theirs);
    let mut client = weir.client();
    wait_until("they have left", || client.run("CLIENT LIST TYPE pubsub").text().is_empty());
}
