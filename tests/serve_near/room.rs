//! G8: the near cache is bounded in bytes.

use crate::harness::*;
use crate::setup::*;

#[test]
fn no_more_than_max_near_is_kept_and_what_is_asked_for_again_stays() {
    let scene = Scene::with(1, PATIENT, "[limits]\nmax_near = \"64KiB\"\n");
    let (mut client, mut direct) = (scene.weir().client(), scene.redis.client());
    let value = "v".repeat(500);
    let bytes = || scene.weir().metric("weir_near_bytes", &[]);
    direct.cmd(&["SET", "text:0", &value]);
    bring_in(&scene.redis, &mut client, "GET text:0");
    for key in 1..1000 {
        let name = format!("text:{key}");
        direct.cmd(&["SET", &name, &value]);
        assert_eq!(client.cmd(&["GET", &name]), Reply::bulk(&value));
        assert_eq!(client.run("GET text:0"), Reply::bulk(&value));
        if key % 50 == 0 {
            assert!(bytes() <= 65_536.0, "{} bytes", bytes());
        }
    }
    assert!(bytes() > 30_000.0, "{} bytes: it was never full", bytes());
    assert!(is_kept(&mut client, "text:0"), "it was asked for all the time");
    let large = "v".repeat(20_000);
    direct.cmd(&["SET", "text:0", &large]);
    wait_until("the large value is seen", || client.run("GET text:0") == Reply::bulk(&large));
    assert!(!is_kept(&mut client, "text:0"), "one value takes no such share");
}
