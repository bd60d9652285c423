//! Metrics of the process itself, under the names that Prometheus' client libraries use in all languages.
//!
//! They are read from `/proc` at each scrape. On a system without it, they are absent.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

/// The unit of processor time in `/proc`, per second. Part of Linux' ABI on the platforms that are built, whatever the kernel's
/// own timer is.
const TICKS: f64 = 100.0;

/// Registers the metrics. `registry` must have no prefix.
pub fn register(registry: &mut Registry) {
    registry.register_collector(Box::new(ProcessCollector));
}

#[derive(Debug)]
struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (status, stat) = (read("/proc/self/status"), read("/proc/self/stat"));
        let (system, limits) = (read("/proc/stat"), read("/proc/self/limits"));
        let mut gauge = |name, help, unit: Option<Unit>, value: Option<f64>| {
            encode(&mut encoder, name, help, unit.as_ref(), value.map(ConstGauge::new).as_ref())
        };
        let help = "Resident memory size in bytes.";
        gauge("process_resident_memory", help, Some(Unit::Bytes), resident_memory(&status))?;
        gauge("process_open_fds", "Number of open file descriptors.", None, open_files())?;
        gauge("process_max_fds", "Maximum number of open file descriptors.", None, max_files(&limits))?;
        let help = "Start time of the process since the Unix epoch in seconds.";
        gauge("process_start_time", help, Some(Unit::Seconds), start_time(&stat, &system))?;
        let help = "Total user and system CPU time spent in seconds.";
        let seconds = cpu_seconds(&stat).map(ConstCounter::new);
        encode(&mut encoder, "process_cpu", help, Some(&Unit::Seconds), seconds.as_ref())
    }
}

fn encode(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    metric: Option<&impl EncodeMetric>,
) -> Result<(), fmt::Error> {
    let Some(metric) = metric else { return Ok(()) };
    metric.encode(encoder.encode_descriptor(name, help, unit, metric.metric_type())?)
}

fn resident_memory(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024.0)
}

/// The number of this process's descriptors, without the one that lists them.
fn open_files() -> Option<f64> {
    let count = u32::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok()?;
    Some(f64::from(count.saturating_sub(1)))
}

/// The soft limit. `unlimited` is no number.
fn max_files(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// A field of `/proc/self/stat` by its number in proc(5). The second, the command's name, may contain anything.
fn field(stat: &str, number: usize) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((field(stat, 14)? + field(stat, 15)?) / TICKS)
}

/// The start is counted from the boot of the system, whose time is in `/proc/stat`.
fn start_time(stat: &str, system: &str) -> Option<f64> {
    let boot: f64 = system.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + field(stat, 22)? / TICKS)
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn values_are_read_from_the_files_of_proc() {
        let stat = "7 (a) b 1 2 3) S 1 7 7 0 -1 4194560 90 80 7 6 250 50 5 4 20 0 9 0 12345 99 88 18446744073709551615";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(start_time(stat, "cpu  1 2\nbtime 1700000000\n"), Some(1_700_000_123.45));
        assert_eq!(
            resident_memory("VmHWM:\t  900 kB\nVmRSS:\t    400 kB\nRssAnon:\t1 kB\n"),
            Some(409_600.0)
        );
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 524288               files\n";
        assert_eq!(max_files(limits), Some(1024.0));
        assert_eq!(max_files(&limits.replace("1024", "unlimited")), None);
    }

    #[test]
    fn what_cannot_be_read_is_absent() {
        assert_eq!(
            (cpu_seconds(""), start_time("1 (x) S 2", "btime 1"), resident_memory("")),
            (None, None, None)
        );
        assert_eq!(max_files(""), None);
    }

    #[test]
    fn the_names_have_no_prefix_and_the_standard_units() {
        let mut registry = Registry::default();
        register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let series = [
            "process_resident_memory_bytes ",
            "process_cpu_seconds_total ",
            "process_open_fds ",
            "process_max_fds ",
            "process_start_time_seconds ",
        ];
        for series in series {
            assert_eq!(
                text.lines().filter(|line| line.starts_with(series)).count(),
                1,
                "{series} in\n{text}"
            );
        }
    }
}
