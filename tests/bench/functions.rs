//! What single functions of the hot path cost: `cargo bench --bench functions`.
//!
//! Times of functions this small say which of two versions is faster on one machine, and little beyond it. What must not get
//! worse unseen is counted in instructions, by `tests/bench/instructions`.

use bytes::Bytes;
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use weir::cache::near::{Key, Near};
use weir::cache::route::{Route, Routes};
use weir::resp::command::lookup_indexed;
use weir::resp::scan::{CommandScanner, ReplyScanner, ScanLimits, Scanned, Series};
use weir::store::redis::tracking::Hears;
use weir::value::Value;

fn main() {
    divan::Divan::from_args().sample_count(50).min_time(Duration::from_millis(200)).run_benches();
}

/// Commands that come in one read of a pipelining client.
const TOGETHER: usize = 16;

fn key(number: usize) -> String {
    format!("pass:{number:012}")
}

fn command(words: &[&str]) -> String {
    let rest: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    format!("*{}\r\n{rest}", words.len())
}

fn scan_commands(bencher: Bencher<'_, '_>, buf: &str, commands: usize) {
    let mut scanner = CommandScanner::new(ScanLimits::default());
    bencher.counter(ItemsCount::new(commands)).counter(BytesCount::of_str(buf)).bench_local(|| {
        let mut rest = black_box(buf.as_bytes());
        let mut arguments = 0;
        while let Ok(Scanned::Complete { len, .. }) = scanner.scan(rest) {
            arguments += scanner.args(rest).len();
            rest = &rest[len..];
        }
        arguments
    });
}

#[divan::bench]
fn scan_16_gets(bencher: Bencher<'_, '_>) {
    let buf: String = (0..TOGETHER).map(|number| command(&["GET", &key(number)])).collect();
    scan_commands(bencher, &buf, TOGETHER);
}

#[divan::bench]
fn series_of_16_gets(bencher: Bencher<'_, '_>) {
    let buf: String = (0..TOGETHER).map(|number| command(&["GET", &key(number)])).collect();
    let limits = ScanLimits::default();
    bencher.counter(ItemsCount::new(TOGETHER)).bench_local(|| {
        Series::new(black_box(buf.as_bytes()), 0, &limits).map_or(0, |series| series.map(|(key, _)| key.len()).sum())
    });
}

#[divan::bench]
fn scan_a_set_of_1_kib(bencher: Bencher<'_, '_>) {
    scan_commands(bencher, &command(&["SET", &key(1), &"x".repeat(1024)]), 1);
}

#[divan::bench]
fn scan_16_replies(bencher: Bencher<'_, '_>) {
    let buf = format!("$64\r\n{}\r\n", "x".repeat(64)).repeat(TOGETHER);
    let mut scanner = ReplyScanner::new(8);
    bencher.counter(ItemsCount::new(TOGETHER)).counter(BytesCount::of_str(&buf)).bench_local(|| {
        scanner.advance_many(black_box(buf.as_bytes()), TOGETHER, |_, _| ()).map(|advanced| advanced.completed)
    });
}

#[divan::bench(args = ["GET", "set", "ZRANGEBYSCORE", "NOSUCH"])]
fn look_a_command_up(name: &str) -> Option<u16> {
    lookup_indexed(black_box(name.as_bytes())).map(|(index, _)| index)
}

/// The key is the last route's.
#[divan::bench(args = [1, 50])]
fn find_the_last_route(bencher: Bencher<'_, '_>, count: usize) {
    let routes = routes(count);
    let key = format!("kind{}:{}", count - 1, key(7).replace(':', "-"));
    assert!(routes.find(key.as_bytes()).is_some());
    bencher.bench_local(|| routes.find_indexed(black_box(key.as_bytes())).map(|(index, _)| index));
}

/// The key is no route's.
#[divan::bench(args = [1, 50])]
fn find_no_route(bencher: Bencher<'_, '_>, count: usize) {
    let routes = routes(count);
    let key = key(7);
    bencher.bench_local(|| routes.find(black_box(key.as_bytes())).is_none());
}

fn routes(count: usize) -> Routes {
    let text: String = (0..count).map(|number| format!("[[route]]\nkey = \"kind{number}:{{id}}\"\n")).collect();
    let config = weir::config::parse(&text, Path::new("bench.toml"), |_| None).expect("a right configuration");
    Routes::new(config.routes.into_iter().map(|route| Arc::new(Route::of_clients(route))).collect())
}

const KEPT: usize = 10_000;

/// Other keys each time, as clients ask for them.
#[divan::bench]
fn hit_near(bencher: Bencher<'_, '_>) {
    let near = Arc::new(Near::new(64 * 1024 * 1024));
    near.hears();
    let (now, names) = (Instant::now(), (0..KEPT).map(key).collect::<Vec<_>>());
    let near_key = |name: &'static str| Key::new(0, None, name.as_bytes());
    // Leaked, for nothing lives longer than this benchmark.
    let names: Vec<&'static str> = names.into_iter().map(|name| &*name.leak()).collect();
    for name in &names {
        let marker = near.mark(near_key(name), now).expect("there is room");
        marker.keep(Value::String(Bytes::from(vec![b'x'; 64])), now + Duration::from_secs(3600));
    }
    let (mut random, moment) = (fastrand::Rng::with_seed(1), near.moment(now));
    bencher.bench_local(|| {
        let name = names[random.usize(..KEPT)];
        near.look(near_key(name), moment, |value| value.len()).expect("it is kept")
    });
}
