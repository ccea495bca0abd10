//! What a server remembers of a connection (G9, T23 to T25, T31 to T33): a client that needs it has a link of its own for as
//! long as that, in its own order, and never longer.

mod harness;

use harness::*;
use std::io::ErrorKind;

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
