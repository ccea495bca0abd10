//! Bars on a terminal: how far the routes are that are warmed at start. Where standard error is no terminal there are none.

use crate::cache::warm::{Progress, State};
use crate::server::App;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// How often they move.
const STEP: Duration = Duration::from_millis(100);

/// Standard error for log lines, which come above the bars.
pub struct AboveBars;

impl Write for AboveBars {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        BARS.suspend(|| io::stderr().write(line))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Shows a bar for each route that is being warmed, until all are.
pub async fn show(app: Arc<App>) {
    let mut bars: BTreeMap<String, ProgressBar> = BTreeMap::new();
    let mut ticks = tokio::time::interval(STEP);
    while !app.warming.is_over() {
        ticks.tick().await;
        for (route, Progress { state, keys, done, .. }) in app.warming.report() {
            if state == State::Running && keys > 0 {
                let bar = bars.entry(route).or_insert_with_key(|route| BARS.add(new(route)));
                bar.set_length(keys as u64);
                bar.set_position(done as u64);
            } else if let Some(bar) = bars.remove(&route) {
                bar.finish_and_clear();
            }
        }
    }
    bars.values().for_each(ProgressBar::finish_and_clear);
}

fn new(route: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("warming {msg} {wide_bar} {pos}/{len} {eta}");
    ProgressBar::new(0).with_style(style.expect("the template is one")).with_message(route.to_owned())
}
