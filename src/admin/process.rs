//! The process's own metrics, under the names that Prometheus's client libraries give them. Linux only: from /proc.

use std::fmt::Write;

/// Appends them; none where there is no /proc.
pub fn render(text: &mut String) {
    let _ = cpu(text);
    let _ = memory(text);
    let _ = descriptors(text);
}

/// `utime` and `stime`, fields 14 and 15 of /proc/self/stat, in ticks of 1/100 s (proc(5); USER_HZ is 100 on Linux).
fn cpu(text: &mut String) -> Option<()> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let after_name = stat.rsplit_once(") ")?.1;
    let mut fields = after_name.split(' ').skip(11);
    let ticks = fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
    gauge(text, "process_cpu_seconds_total", "counter", ticks / 100.0)
}

/// `VmRSS` and `VmSize` of /proc/self/status, in kB.
fn memory(text: &mut String) -> Option<()> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    for (field, name) in [("VmRSS:", "process_resident_memory_bytes"), ("VmSize:", "process_virtual_memory_bytes")] {
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse().ok()?;
        gauge(text, name, "gauge", kilobytes * 1024.0)?;
    }
    Some(())
}

fn descriptors(text: &mut String) -> Option<()> {
    let open = std::fs::read_dir("/proc/self/fd").ok()?.count();
    gauge(text, "process_open_fds", "gauge", open as f64)
}

fn gauge(text: &mut String, name: &str, kind: &str, value: f64) -> Option<()> {
    writeln!(text, "# TYPE {name} {kind}\n{name} {value}").ok()
}
