//! The machine that the figures are of. Not its name: that says nothing to anybody else.

use std::fs;
use std::thread;

/// In one line: kernel, processors, and how busy they are by now.
pub fn description() -> String {
    let kernel = read("/proc/sys/kernel/osrelease");
    // The rest of it says who built it.
    let kernel = kernel.split(['-', '+']).next().unwrap_or_default().trim().to_owned();
    format!("Linux {kernel}, {} CPUs, load average {}", cpus(), load())
}

/// How many processors this process may use.
pub fn cpus() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// The load averages of the last 1, 5 and 15 minutes.
pub fn load() -> String {
    read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|_| "unknown".to_owned())
}
