//! What a measurement takes beside time: processors and memory.

use std::fs;
use std::time::Instant;

use anyhow::Context as _;

use crate::layout::Host;
use crate::stage::Stage;

/// What /proc/stat counts in: `USER_HZ`, part of the kernel's interface (include/uapi/asm-generic/param.h).
const TICKS_PER_SECOND: f64 = 100.0;

/// Counts the processors' time of the whole machine from a moment on.
pub(super) struct Busy {
    since: Instant,
    ticks: u64,
}

impl Busy {
    pub(super) fn begin() -> anyhow::Result<Self> {
        Ok(Self { since: Instant::now(), ticks: busy_ticks()? })
    }

    /// How many processors were busy since then, on average.
    pub(super) fn cores(&self) -> anyhow::Result<f64> {
        let ticks = busy_ticks()?.saturating_sub(self.ticks);
        #[expect(clippy::cast_precision_loss, reason = "ticks of some seconds")]
        let seconds = ticks as f64 / TICKS_PER_SECOND;
        Ok(seconds / self.since.elapsed().as_secs_f64())
    }
}

fn busy_ticks() -> anyhow::Result<u64> {
    let text = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
    busy_of(&text).context("read /proc/stat: no line `cpu`")
}

/// All but idle and iowait, the fourth and fifth number (proc_stat(5)); guests count as user already.
fn busy_of(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_whitespace().take(8).filter_map(|word| word.parse().ok()).collect();
    let idle = ticks.get(3..5)?.iter().sum::<u64>();
    Some(ticks.iter().sum::<u64>() - idle)
}

/// The resident memory of all processes of these names (`a,b`) on a host, in MiB.
pub(super) fn memory_mib(stage: &Stage, host: &Host, programs: &str) -> anyhow::Result<f64> {
    let said = stage.shell(host, &format!("ps -C {programs} -o rss="))?;
    let sizes: Result<Vec<f64>, _> = said.split_whitespace().map(str::parse).collect();
    let sizes = sizes.with_context(|| format!("read what ps says of {programs} on {}: {said}", host.name))?;
    Ok(sizes.iter().sum::<f64>() / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_not_work() {
        assert_eq!(busy_of("cpu  10 1 5 1000 200 2 3 4 0 0\ncpu0 1 2 3\n"), Some(25));
        assert_eq!(busy_of("intr 1\n"), None);
    }
}
