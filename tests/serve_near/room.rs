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

/// What is counted is what is held.
#[test]
fn resident_memory_grows_by_no_more_than_max_near_says() {
    const ROOM: usize = 16 << 20;
    let scene = Scene::with(1, PATIENT, "[limits]\nmax_near = \"16MiB\"\n");
    let (mut client, mut direct) = (scene.weir().client(), scene.redis.client());
    let value = "v".repeat(100);
    // Once without keeping anything, so that buffers have grown and threads have begun.
    let ask = |client: &mut Client, route: &str, keys: std::ops::Range<usize>| {
        let commands = keys.map(|key| vec!["GET".to_owned(), format!("{route}:{key}")]).collect::<Vec<_>>();
        commands.chunks(500).for_each(|chunk| drop(client.pipeline(chunk)));
    };
    for route in ["far", "text"] {
        let keys: Vec<usize> = (0..60_000).collect();
        for chunk in keys.chunks(1000) {
            let pairs = chunk.iter().flat_map(|key| [format!("{route}:{key}"), value.clone()]);
            direct.cmd(&std::iter::once("MSET".to_owned()).chain(pairs).collect::<Vec<_>>());
        }
    }
    ask(&mut client, "far", 0..60_000);
    settle(&mut direct, &mut client, "text:barrier");
    let before = scene.weir().resident_bytes();
    ask(&mut client, "text", 0..60_000);
    let grown = scene.weir().resident_bytes().saturating_sub(before) as usize;
    let entries = scene.weir().metric("weir_near_entries", &[]);
    let bytes = scene.weir().metric("weir_near_bytes", &[]) as usize;
    println!("{entries} entries of 100 bytes: {bytes} bytes are counted, resident memory has grown by {grown}");
    assert!(bytes > ROOM / 10 * 9, "it was never full");
    assert!(grown < ROOM * 3 / 2, "resident memory has grown by {grown} bytes");
}
