//! Memory and processor time of a process, from /proc.

use std::fs;
use std::process;

/// The kernel counts processor time for /proc in hundredths of a second on every architecture we run on (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ProcessUsage {
    /// Most resident memory it ever had, in MiB.
    pub(crate) rss_mib_max: f64,
    /// Processor time of all its threads, user and system, in seconds.
    pub(crate) cpu_s: f64,
}

impl ProcessUsage {
    /// Of this process. `None` where /proc is not mounted.
    pub(crate) fn own() -> Option<Self> {
        Self::of(process::id())
    }

    /// Of process `id`, while it has not been waited for.
    pub(crate) fn of(id: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        Self::parse(&status, &stat)
    }

    /// What two processes used together: processor time of both, memory of the larger.
    pub(crate) fn and(self, other: Self) -> Self {
        Self { rss_mib_max: self.rss_mib_max.max(other.rss_mib_max), cpu_s: self.cpu_s + other.cpu_s }
    }

    fn parse(status: &str, stat: &str) -> Option<Self> {
        let high_water = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let rss_kib_max: f64 = high_water.trim().strip_suffix("kB")?.trim().parse().ok()?;
        // The process name stands in parentheses and may hold anything: fields are counted behind the last one.
        let mut behind_name = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
        let mut ticks = || behind_name.next()?.parse::<f64>().ok();
        Some(Self { rss_mib_max: rss_kib_max / 1_024.0, cpu_s: (ticks()? + ticks()?) / TICKS_PER_SECOND })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_a_name_with_spaces_and_parentheses() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 99 0 0";
        let status = "Name:\ta) b (c\nVmPeak:\t  9000 kB\nVmHWM:\t    2048 kB\nThreads:\t1\n";
        assert_eq!(ProcessUsage::parse(status, stat), Some(ProcessUsage { rss_mib_max: 2.0, cpu_s: 3.0 }));
        assert_eq!(ProcessUsage::parse("", stat), None);
        assert_eq!(ProcessUsage::parse(status, "7 (a S 1"), None);
    }

    #[test]
    fn this_process_uses_memory() {
        assert!(ProcessUsage::own().unwrap().rss_mib_max > 0.1);
    }
}
