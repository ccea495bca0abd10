//! Counters of the hot path: one block for each worker, written by that worker alone and summed when they are read.
//!
//! A counter that all cores write to costs more than a whole command at P=64, for its cache line travels at every
//! increment; a histogram that keeps its samples would hold memory until somebody reads it. So commands are counted in
//! arrays, and durations in buckets. Everything off the hot path uses the `metrics` crate's own handles.

use crate::resp::command::COMMANDS;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Which way a command went: label `path` of `weir_command_duration_seconds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// A routed read that the store answered.
    Upstream,
    /// A command that the engine worked on.
    Load,
    /// A plain command.
    Pass,
    /// A routed read that the near cache answered.
    Near,
}

const PATHS: [(Path, &str); 4] =
    [(Path::Upstream, "upstream"), (Path::Load, "load"), (Path::Pass, "pass"), (Path::Near, "near")];

/// Upper bounds of the buckets in seconds: from a command in memory to a slow load.
const BOUNDS: [f64; 14] =
    [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

/// One worker's counters.
pub struct CommandCounts {
    ok: Box<[AtomicU64]>,
    error: Box<[AtomicU64]>,
    durations: [Buckets; PATHS.len()],
}

#[derive(Default)]
struct Buckets {
    counts: [AtomicU64; BOUNDS.len() + 1],
    microseconds: AtomicU64,
}

impl Default for CommandCounts {
    fn default() -> Self {
        let zeros = || (0..=COMMANDS.len()).map(|_| AtomicU64::new(0)).collect();
        CommandCounts { ok: zeros(), error: zeros(), durations: Default::default() }
    }
}

impl CommandCounts {
    /// Stands for a command of the upstream's that Weir does not know.
    pub const UNKNOWN: u16 = COMMANDS.len() as u16;
    /// Stands in for a command that is counted already.
    pub const COUNTED: u16 = u16::MAX;

    /// One command, by its index in [`COMMANDS`], is answered.
    pub fn count(&self, command: u16, is_error: bool) {
        self.count_all(command, is_error, 1);
    }

    /// So many are.
    pub fn count_all(&self, command: u16, is_error: bool, commands: usize) {
        let counters = if is_error { &self.error } else { &self.ok };
        if let Some(counter) = counters.get(command as usize) {
            add(counter, commands as u64);
        }
    }

    /// `commands` were answered together, since `begun`.
    pub fn observe(&self, path: Path, begun: Instant, commands: usize) {
        self.observe_duration(path, begun.elapsed(), commands);
    }

    fn observe_duration(&self, path: Path, duration: Duration, commands: usize) {
        let seconds = duration.as_secs_f64();
        let bucket = BOUNDS.iter().position(|&bound| seconds <= bound).unwrap_or(BOUNDS.len());
        let buckets = &self.durations[path as usize];
        add(&buckets.counts[bucket], commands as u64);
        add(&buckets.microseconds, duration.as_micros() as u64 * commands as u64);
    }
}

/// Only this block's own worker writes, so that no locked instruction is needed.
fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Relaxed) + amount, Relaxed);
}

/// Weir has closed a client's connection: label `reason` of `weir_clients_closed_total`.
pub fn closed(reason: &'static str) {
    ::metrics::counter!("weir_clients_closed_total", "reason" => reason).increment(1);
}

/// Weir has stopped reading a client: label `reason` of `weir_clients_paused_total`.
pub fn paused(reason: &'static str) {
    ::metrics::counter!("weir_clients_paused_total", "reason" => reason).increment(1);
}

/// A client was not let in: label `reason` of `weir_clients_refused_total`.
pub fn refused(reason: &'static str) {
    ::metrics::counter!("weir_clients_refused_total", "reason" => reason).increment(1);
}

/// Writes the sums of all workers in Prometheus's text format.
pub fn render(workers: &[Arc<CommandCounts>], out: &mut String) {
    let sum = |pick: &dyn Fn(&CommandCounts) -> u64| workers.iter().map(|worker| pick(worker)).sum::<u64>();
    out.push_str("# TYPE weir_commands_total counter\n");
    let names = COMMANDS.iter().map(|spec| spec.name).chain(["unknown"]);
    for (index, name) in names.enumerate() {
        for (result, count) in
            [("ok", sum(&|worker| read(&worker.ok[index]))), ("error", sum(&|worker| read(&worker.error[index])))]
        {
            if count > 0 {
                line(out, &format!("weir_commands_total{{command=\"{name}\",result=\"{result}\"}} {count}"));
            }
        }
    }
    out.push_str("# TYPE weir_command_duration_seconds histogram\n");
    for (path, label) in PATHS {
        let mut cumulative = 0;
        for bucket in 0..=BOUNDS.len() {
            cumulative += sum(&|worker| read(&worker.durations[path as usize].counts[bucket]));
            let bound = BOUNDS.get(bucket).map_or("+Inf".to_string(), f64::to_string);
            line(out, &format!("weir_command_duration_seconds_bucket{{path=\"{label}\",le=\"{bound}\"}} {cumulative}"));
        }
        let seconds = sum(&|worker| read(&worker.durations[path as usize].microseconds)) as f64 / 1e6;
        line(out, &format!("weir_command_duration_seconds_sum{{path=\"{label}\"}} {seconds}"));
        line(out, &format!("weir_command_duration_seconds_count{{path=\"{label}\"}} {cumulative}"));
    }
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Relaxed)
}

fn line(out: &mut String, line: &str) {
    writeln!(out, "{line}").expect("a string takes every text");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_summed_and_buckets_are_cumulative() {
        let workers = [Arc::new(CommandCounts::default()), Arc::new(CommandCounts::default())];
        for worker in &workers {
            worker.count(CommandCounts::UNKNOWN, false);
            worker.count(CommandCounts::COUNTED, true);
            worker.observe_duration(Path::Pass, Duration::from_micros(300), 2);
        }
        let mut text = String::new();
        render(&workers, &mut text);
        assert!(text.contains("weir_commands_total{command=\"unknown\",result=\"ok\"} 2\n"));
        assert!(!text.contains("result=\"error\""));
        assert!(text.contains("weir_command_duration_seconds_bucket{path=\"pass\",le=\"0.00025\"} 0\n"));
        assert!(text.contains("weir_command_duration_seconds_bucket{path=\"pass\",le=\"0.0005\"} 4\n"));
        assert!(text.contains("weir_command_duration_seconds_bucket{path=\"pass\",le=\"+Inf\"} 4\n"));
        assert!(text.contains("weir_command_duration_seconds_sum{path=\"pass\"} 0.0012\n"));
    }
}
