//! Clients come, ask, and are cut at any byte of what they send or read, or leave a load, a transaction or a blocked command
//! behind: no reply is ever another's, and no link that was in doubt is used again (proof A3, G3).
//!
//! `WEIR_PROOF_REPLIES=1000000` judges so many replies (10,000 by default), `WEIR_PROOF_THREADS` sets how many clients
//! there are at a time. Every value names its key, its database and the one who asked, and is never used twice.

#[path = "../harness/mod.rs"]
mod harness;

mod act;
mod expect;
mod life;
mod town;

use harness::*;
use life::Life;
use town::Town;

const ROUTES: &str = "\
[[route]]\nname = \"quick\"\nkey = \"quick:{tag}\"\nvalue = \"text\"\nload = \"SELECT 'quick ' || :tag::text\"\n\
[[route]]\nname = \"slow\"\nkey = \"slow:{tag}\"\nvalue = \"text\"\nload = \"SELECT 'slow ' || :tag::text FROM pg_sleep(0.03)\"\n\
[[route]]\nname = \"absent\"\nkey = \"absent:{tag}\"\nvalue = \"text\"\nload = \"SELECT 'never' WHERE :tag::text = ''\"\n";

#[test]
fn no_reply_is_ever_anothers() {
    let (target, threads) = (size("WEIR_PROOF_REPLIES", 10_000), size("WEIR_PROOF_THREADS", 12));
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let weir = Weir::start(&format!(
        "[server]\nlisten = [\"127.0.0.1:{{port}}\"]\nadmin = \"127.0.0.1:{{admin}}\"\nworkers = 2\n\
         [upstream]\nurl = \"{}\"\ntimeout = \"20s\"\n[database.main]\nurl = \"{}\"\ntimeout = \"20s\"\n{ROUTES}",
        redis.url(),
        postgres.url()
    ));
    let town = Town::new(weir.port(), target);
    let seed = seed();
    std::thread::scope(|threads_at_work| {
        for thread in 0..threads {
            let town = &town;
            threads_at_work.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed.wrapping_add(thread));
                let mut publisher = Client::connect(town.port);
                while town.goes_on() {
                    Life::begin(town, &mut random, &mut publisher).live();
                }
            });
        }
    });
    // The connections that the clients have left behind are clean, whatever was cut.
    wait_until("no link remembers anything", || links_that_remember(&redis).is_empty());
    let figures = town.figures();
    println!("A3: {figures}");
    println!(
        "A3: {} loads, {} of them shared; {} connections made at Redis",
        weir.metric("weir_loads_total", &[]),
        weir.metric("weir_coalesced_total", &[]),
        redis
            .client()
            .run("INFO stats")
            .text()
            .lines()
            .find_map(|line| line.strip_prefix("total_connections_received:"))
            .unwrap()
    );
    figures.assert_right();
}

/// Connections at Redis that are in a transaction, blocked, subscribed, or in any other state, but for the one over which Weir
/// itself hears of other Weirs' loads.
fn links_that_remember(redis: &Redis) -> Vec<String> {
    let mut asks = redis.client();
    let own = format!("id={} ", asks.run("CLIENT ID").int());
    let list = asks.run("CLIENT LIST").text();
    let clean = |line: &str| [" flags=N ", " sub=0 ", " psub=0 ", " multi=-1 "].iter().all(|sign| line.contains(sign));
    let listens = |line: &str| line.contains(" name=weir ") && line.contains(" sub=1 ");
    let others = list.lines().filter(|line| !line.starts_with(&own) && !listens(line));
    others.filter(|line| !clean(line)).map(str::to_owned).collect()
}
