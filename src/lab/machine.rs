//! The machine that a figure was taken on: without it, a figure says little.

use std::fmt;
use std::fs;
use std::thread;

use anyhow::Context as _;
use serde::Serialize;

/// What matters of the machine.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    memory_mib: u64,
    kernel: String,
    /// How many processes wanted to run before the measurement: 1, 5 and 15 minutes, as in /proc/loadavg.
    load_before: Vec<f64>,
    /// How this program was built: `release` or `debug`.
    build: &'static str,
}

impl Machine {
    /// Looks at the machine as it is now.
    pub(crate) fn look() -> anyhow::Result<Self> {
        let read = |path: &str| fs::read_to_string(path).with_context(|| format!("read {path}"));
        Ok(Self {
            cpu: field(&read("/proc/cpuinfo")?, "model name").unwrap_or("unknown").to_owned(),
            cores: thread::available_parallelism().context("count the cores")?.get(),
            memory_mib: memory_mib(&read("/proc/meminfo")?).context("read /proc/meminfo: no MemTotal")?,
            kernel: read("/proc/sys/kernel/osrelease")?.trim_end().to_owned(),
            load_before: load(&read("/proc/loadavg")?),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, cores, memory_mib, kernel, load_before, build } = self;
        let load: Vec<String> = load_before.iter().map(|load| format!("{load:.2}")).collect();
        let cores = if *cores == 1 { "1 core".to_owned() } else { format!("{cores} cores") };
        write!(
            f,
            "{cpu}, {cores}, {memory_mib} MiB of memory, Linux {kernel}, load before {}, {build} build",
            load.join(" ")
        )
    }
}

/// The first value of a `name : value` line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().filter_map(|line| line.split_once(':')).find_map(|(key, value)| {
        let found = key.trim() == name;
        found.then_some(value.trim())
    })
}

fn memory_mib(meminfo: &str) -> Option<u64> {
    let kib: u64 = field(meminfo, "MemTotal")?.strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

fn load(loadavg: &str) -> Vec<f64> {
    loadavg.split_whitespace().take(3).filter_map(|word| word.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_read() {
        let cpuinfo = "processor\t: 0\nmodel\t\t: 1\nmodel name\t: Some CPU @ 2.00GHz\n";
        assert_eq!(field(cpuinfo, "model name"), Some("Some CPU @ 2.00GHz"));
        assert_eq!(memory_mib("MemTotal:       24634572 kB\nMemFree: 1 kB\n"), Some(24057));
        assert_eq!(load("0.50 1.25 2.00 1/234 5678\n"), [0.5, 1.25, 2.0]);
    }
}
