//! WEIR SET and WEIR INVALIDATE: what they change is as if a client had changed it.

use crate::harness::*;
use crate::setup::*;

#[test]
fn nothing_that_a_tag_has_invalidated_is_answered_once_that_is_acknowledged() {
    let sections = "[server]\nlisten = [\"127.0.0.1:{port}\"]\nadmin = \"127.0.0.1:{admin}\"\nworkers = 2\n";
    let scene = Scene::late(2, sections);
    let (mut writer, mut reader, mut elsewhere) =
        (scene.weir().client(), scene.weir().client(), scene.weirs[1].client());
    for round in 0..5 {
        for key in 0..30 {
            let reply = writer.run(&format!("WEIR SET text:{key} old EX 1000 TAGS all part-{}", key % 3));
            assert_eq!(reply, Reply::ok());
        }
        settle(&mut scene.redis.client(), &mut reader, "text:barrier");
        for key in 0..30 {
            read_until_kept(&mut reader, &format!("GET text:{key}"));
            assert_eq!(reader.run(&format!("GET text:{key}")), Reply::bulk("old"), "round {round}");
        }
        assert_eq!(writer.run("WEIR SET text:29 own EX 1000 TAGS all part-2"), Reply::ok());
        assert_eq!(reader.run("GET text:29"), Reply::bulk("own"), "round {round}");
        // Another Weir at the same time: each may do part of the other's work.
        elsewhere.run_later("WEIR INVALIDATE part-0 part-1");
        let reply = writer.run("WEIR INVALIDATE all");
        assert!(matches!(reply, Reply::Int(0..=30)), "{reply:?}");
        for key in 0..30 {
            let reply = reader.run(&format!("GET text:{key}"));
            assert!(reply != Reply::bulk("old") && reply != Reply::bulk("own"), "round {round}: text:{key} {reply:?}");
        }
        assert!(matches!(elsewhere.recv(), Reply::Int(0..=20)));
    }
    assert!(near_hits(scene.weir()) > 0.0, "nothing was kept: nothing was shown");
}
