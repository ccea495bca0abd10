//! `WEIR STATS [route]`: what this process has counted since it began, for those who have a Redis client at hand and no scraper.
//!
//! The numbers are those of /metrics, read from its text: nothing is counted twice. To be asked now and then, as /metrics is.

use super::app::{App, StoreKind};
use super::conn::{Conn, Flow, Request};
use super::output::Output;
use super::routed::error;
use crate::resp::write::{self, Protocol};
use std::collections::HashMap;
use std::sync::Arc;

/// A route's figure: its name, and the series that it is the sum of.
type Figure = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const LOOKUPS: &str = "weir_lookups_total";
const LOADS: &str = "weir_loads_total";
const FILLS: &str = "weir_fills_total";
const CHECKS: &str = "weir_consistency_checks_total";

const OF_ROUTE: [Figure; 19] = [
    ("near_hits", LOOKUPS, &[("outcome", "near_hit")]),
    ("hits", LOOKUPS, &[("outcome", "hit")]),
    ("stale_hits", LOOKUPS, &[("outcome", "stale_hit")]),
    ("negative_hits", LOOKUPS, &[("outcome", "negative_hit")]),
    ("misses", LOOKUPS, &[("outcome", "miss")]),
    ("unstored", LOOKUPS, &[("outcome", "unstored")]),
    ("bypasses", LOOKUPS, &[("outcome", "bypass")]),
    ("errors", LOOKUPS, &[("outcome", "error")]),
    ("coalesced", "weir_coalesced_total", &[]),
    ("loads", LOADS, &[]),
    ("loads_failed", LOADS, &[("result", "error")]),
    ("loads_timed_out", LOADS, &[("result", "timeout")]),
    ("fills", FILLS, &[("result", "stored")]),
    ("fills_too_big", FILLS, &[("result", "too_big")]),
    ("fills_refused", FILLS, &[("result", "refused")]),
    ("checks_equal", CHECKS, &[("result", "equal")]),
    ("checks_stale", CHECKS, &[("result", "stale")]),
    ("checks_missing", CHECKS, &[("result", "missing")]),
    ("checks_extra", CHECKS, &[("result", "extra")]),
];

const OF_PROCESS: [Figure; 5] = [
    ("near_entries", "weir_near_entries", &[]),
    ("near_bytes", "weir_near_bytes", &[]),
    ("invalidations_by_command", "weir_invalidations_total", &[("source", "command")]),
    ("invalidations_by_tag", "weir_invalidations_total", &[("source", "tag")]),
    ("invalidations_by_event", "weir_invalidations_total", &[("source", "event")]),
];

/// Of the first figures of a route, so many are hits, and so many look-ups that could have been.
const HITS: usize = 4;
const COULD_BE: usize = 6;

/// `WEIR STATS [route]`.
pub fn run(conn: &mut Conn, request: Request<'_>) -> Flow {
    let route = request.args.get(2).map(|name| String::from_utf8_lossy(name).into_owned());
    let app = conn.worker.app.clone();
    let known = |name: &String| app.routes.iter().any(|route| route.config.name == *name);
    if request.args.len() > 3 {
        conn.answer_now(|out| write::error(out, "ERR wrong number of arguments for 'weir|stats' command"));
        return Flow::Next;
    }
    if !route.as_ref().is_none_or(known) {
        conn.answer_now(|out| write::error(out, "ERR there is no such route; WEIR ROUTES lists all"));
        return Flow::Next;
    }
    let (slot, protocol) = (conn.open_slow(), conn.protocol());
    conn.replies.finish_with(slot, async move {
        // Its worker's other clients do not wait for it.
        let answer = tokio::task::spawn_blocking(move || answer(&app, route.as_deref(), protocol)).await;
        match answer {
            Ok(answer) => Output::whole(answer),
            Err(_) => error("ERR the proxy failed on this command; its log says more"),
        }
    });
    Flow::Next
}

fn answer(app: &Arc<App>, route: Option<&str>, protocol: Protocol) -> Vec<u8> {
    let mut text = app.recorder.render();
    app.near.as_ref().inspect(|near| near.render(&mut text));
    let scrape = Scrape::of(&text);
    let mut out = Vec::new();
    match route {
        Some(route) => scrape.write_route(&mut out, protocol, route),
        None => write_all(&mut out, protocol, app, &scrape),
    }
    out
}

fn write_all(out: &mut Vec<u8>, protocol: Protocol, app: &App, scrape: &Scrape<'_>) {
    let store = if matches!(app.store, StoreKind::Redis(_)) { "redis" } else { "embedded" };
    write::map(out, protocol, 6 + OF_PROCESS.len());
    for (name, text) in [("version", env!("CARGO_PKG_VERSION")), ("store", store)] {
        write::bulk(out, name);
        write::bulk(out, text);
    }
    for (name, number) in [
        ("uptime_in_seconds", app.started.elapsed().as_secs()),
        ("clients", app.clients.count() as u64),
        ("upstream_up", u64::from(app.is_connected())),
    ] {
        write::bulk(out, name);
        write::integer(out, number as i64);
    }
    scrape.write_figures(out, "", &OF_PROCESS);
    write::bulk(out, "routes");
    write::map(out, protocol, app.routes.iter().count());
    for route in app.routes.iter() {
        write::bulk(out, &route.config.name);
        scrape.write_route(out, protocol, &route.config.name);
    }
}

/// The series of a scrape, by the route that they are of; those of none under "".
struct Scrape<'a>(HashMap<&'a str, Vec<Series<'a>>>);

struct Series<'a> {
    name: &'a str,
    /// Names of routes, outcomes and the like: none has a quote or a comma in it.
    labels: Vec<(&'a str, &'a str)>,
    value: f64,
}

impl<'a> Scrape<'a> {
    fn of(text: &'a str) -> Self {
        let mut by_route: HashMap<&str, Vec<Series<'_>>> = HashMap::new();
        for series in text.lines().filter_map(Series::of) {
            let route = series.label("route").unwrap_or_default();
            by_route.entry(route).or_default().push(series);
        }
        Scrape(by_route)
    }

    fn sum(&self, route: &str, (_, name, labels): &Figure) -> u64 {
        let fits = |series: &&Series<'_>| {
            series.name == *name && labels.iter().all(|(label, value)| series.label(label) == Some(*value))
        };
        self.0.get(route).into_iter().flatten().filter(fits).map(|series| series.value).sum::<f64>() as u64
    }

    fn write_figures(&self, out: &mut Vec<u8>, route: &str, figures: &[Figure]) {
        for figure in figures {
            write::bulk(out, figure.0);
            write::integer(out, self.sum(route, figure) as i64);
        }
    }

    fn write_route(&self, out: &mut Vec<u8>, protocol: Protocol, route: &str) {
        write::map(out, protocol, 1 + OF_ROUTE.len());
        write::bulk(out, "hit_ratio");
        let of_first = |count: usize| OF_ROUTE[..count].iter().map(|figure| self.sum(route, figure)).sum::<u64>();
        match of_first(COULD_BE) {
            0 => write::nil(out, protocol),
            lookups => write::bulk(out, format!("{:.4}", of_first(HITS) as f64 / lookups as f64)),
        }
        self.write_figures(out, route, &OF_ROUTE);
    }
}

impl<'a> Series<'a> {
    /// A line of Prometheus's text format; `None`: a comment, or a number that is none.
    fn of(line: &'a str) -> Option<Self> {
        let (series, value) = line.rsplit_once(' ').filter(|_| !line.starts_with('#'))?;
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels = labels.strip_suffix('}')?.split(',').filter_map(|label| {
            let (name, value) = label.split_once('=')?;
            Some((name, value.trim_matches('"')))
        });
        Some(Series { name, labels: labels.collect(), value: value.parse().ok()? })
    }

    fn label(&self, name: &str) -> Option<&'a str> {
        self.labels.iter().find(|(label, _)| *label == name).map(|(_, value)| *value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_sums_of_series() {
        let text = "# TYPE weir_lookups_total counter\n\
                    weir_lookups_total{route=\"a\",outcome=\"hit\"} 6\n\
                    weir_lookups_total{outcome=\"near_hit\",route=\"a\"} 3\n\
                    weir_lookups_total{route=\"a\",outcome=\"miss\"} 3\n\
                    weir_lookups_total{route=\"b\",outcome=\"hit\"} 100\n\
                    weir_coalesced_total{route=\"a\",scope=\"process\"} 1\n\
                    weir_coalesced_total{route=\"a\",scope=\"fleet\"} 4\n\
                    weir_near_bytes 512\n";
        let scrape = Scrape::of(text);
        let figure = |name: &str| *OF_ROUTE.iter().find(|figure| figure.0 == name).expect("a figure");
        for (name, sum) in [("hits", 6), ("near_hits", 3), ("misses", 3), ("coalesced", 5), ("loads", 0)] {
            assert_eq!(scrape.sum("a", &figure(name)), sum, "{name}");
        }
        assert_eq!(scrape.sum("", &OF_PROCESS[1]), 512);
        let mut out = Vec::new();
        scrape.write_route(&mut out, Protocol::Resp2, "a");
        let text = String::from_utf8(out).expect("text");
        assert!(text.starts_with("*40\r\n$9\r\nhit_ratio\r\n$6\r\n0.7500\r\n$9\r\nnear_hits\r\n:3\r\n"), "{text}");
        let mut out = Vec::new();
        scrape.write_route(&mut out, Protocol::Resp3, "c");
        assert!(out.starts_with(b"%20\r\n$9\r\nhit_ratio\r\n_\r\n"));
    }
}
