//! Commands that Weir's table does not have, a module's or a newer server's: the upstream says what they are. Here a
//! redis-server knows some of its own under other names.

mod harness;

use harness::*;

const RENAMED: &[&str] = &["APPEND", "BLPOP", "CONFIG", "WATCH", "DEBUG", "GETRANGE", "ZUNIONSTORE"];

struct Renamed {
    weir: Weir,
    redis: Redis,
    _shop: Sqlite,
}

/// One worker, so that clients share one link.
fn start() -> Renamed {
    let names: Vec<String> = RENAMED.iter().map(|name| format!("my.{}", name.to_lowercase())).collect();
    let renames: Vec<&str> = RENAMED.iter().zip(&names).flat_map(|(old, new)| ["--rename-command", old, new]).collect();
    let (redis, shop) = (Redis::start_with(&renames), Sqlite::shop());
    let weir = Weir::start(&format!(
        "[server]\nlisten = [\"127.0.0.1:{{port}}\"]\nadmin = \"127.0.0.1:{{admin}}\"\nworkers = 1\n[upstream]\nurl = \"{}\"\n\
         [database.main]\nurl = \"{}\"\n[[route]]\nname = \"name\"\nkey = \"name:{{id}}\"\ndatabase = \"main\"\n\
         load = \"SELECT name FROM products WHERE id = :id\"\nvalue = \"text\"\n",
        redis.url(),
        shop.url()
    ));
    Renamed { weir, redis, _shop: shop }
}

fn invalidations(weir: &Weir) -> f64 {
    weir.metric("weir_invalidations_total", &[("source", "command")])
}

#[test]
fn what_an_unknown_command_does_is_learned_from_the_upstream() {
    let Renamed { weir, redis, _shop } = start();
    let mut client = weir.client();
    let name = client.run("GET name:1").text();
    let before = invalidations(&weir);
    assert_eq!(client.run("my.getrange name:1 0 2"), Reply::bulk(&name[..3]));
    assert_eq!(invalidations(&weir), before, "a read changes nothing");
    assert_eq!(client.run("MY.Append name:1 !"), Reply::Int(name.len() as i64 + 1));
    assert_eq!(invalidations(&weir), before + 1.0, "a write drops the lease");
    assert_eq!(client.run("GET name:1"), Reply::bulk(format!("{name}!")));
    client.run("ZADD a 1 x");
    client.run("MY.ZUNIONSTORE name:2 1 a");
    assert_eq!(invalidations(&weir), before + 2.0, "by the key where it stands");
    for words in ["nosuch", "nosuch name:1", "my.append name:1"] {
        let (ours, theirs) = (client.run(words), redis.client().run(words));
        assert_eq!(ours, theirs, "{words}");
        assert!(ours.is_error("ERR"), "{ours:?}");
    }
    let refused = client.run("MY.DEBUG SLEEP 0");
    assert!(refused.error().contains("tests or debugs the server itself; connect to Redis itself"), "{refused:?}");
    for words in ["MY.WATCH a", "MY.CONFIG SET maxmemory 0", "MY.BLPOP queue 0"] {
        let refused = client.run(words);
        assert!(refused.error().contains("under this name only (rename-command)"), "{refused:?}");
    }
}

#[test]
fn order_and_transactions_hold_for_unknown_commands() {
    let Renamed { weir, redis: _redis, _shop } = start();
    let mut client = weir.client();
    let commands = ["SET a 1", "MY.APPEND a 2", "GET a", "MULTI", "MY.GETRANGE a 0 0", "NOSUCH a", "EXEC", "GET a"];
    client.send(&commands.map(raw_command).concat());
    let replies: Vec<Reply> = commands.iter().map(|_| client.recv()).collect();
    assert_eq!(replies[..3], [Reply::ok(), Reply::Int(2), Reply::bulk("12")]);
    assert_eq!(replies[4], Reply::Simple("QUEUED".into()));
    assert!(replies[5].is_error("ERR unknown command"), "{:?}", replies[5]);
    assert!(replies[6].is_error("EXECABORT"), "{:?}", replies[6]);
    assert_eq!(replies[7], Reply::bulk("12"));
}
