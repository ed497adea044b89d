//! fio: one job as a command line, and its answer.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use serde::Deserialize;

/// Measured after the warm-up.
pub(super) const SECONDS: u32 = 6;
/// Before the measurement, so that no figure contains a beginning.
pub(super) const WARM_UP_SECONDS: u32 = 1;

/// A way of writing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    pub(super) pattern: &'static str,
    pub(super) block: &'static str,
    pub(super) depth: u32,
    /// Whether every write is followed by a flush.
    pub(super) flush: bool,
}

/// What fio measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Outcome {
    pub(super) iops: f64,
    pub(super) mib_per_s: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
}

impl Job {
    /// The command line for this job on the first `size_kib` of a device. The same blocks come in the same
    /// order each time, so that devices can be compared.
    pub(super) fn line(&self, device: &str, size_kib: u64) -> String {
        let Self { pattern, block, depth, flush } = self;
        let flush = if *flush { " --fsync=1" } else { "" };
        format!(
            "fio --name=bench --filename={device} --size={size_kib}k --rw={pattern} --bs={block} \
             --iodepth={depth}{flush} --ioengine=libaio --direct=1 --time_based --runtime={SECONDS} \
             --ramp_time={WARM_UP_SECONDS} --output-format=json"
        )
    }
}

/// The line that writes every block once.
pub(super) fn fill(device: &str, size_kib: u64) -> String {
    format!(
        "fio --name=fill --filename={device} --size={size_kib}k --rw=write --bs=1M --iodepth=8 \
         --ioengine=libaio --direct=1 --end_fsync=1 --output-format=json"
    )
}

#[derive(Deserialize)]
struct Answer {
    jobs: Vec<Measured>,
}

#[derive(Deserialize)]
struct Measured {
    error: i64,
    write: Writes,
}

#[derive(Deserialize)]
struct Writes {
    iops: f64,
    bw_bytes: f64,
    clat_ns: Latency,
}

#[derive(Deserialize)]
struct Latency {
    #[serde(default)]
    percentile: BTreeMap<String, f64>,
}

/// Reads fio's JSON. No writes, or an error, is no figure.
pub(super) fn read(text: &str) -> anyhow::Result<Outcome> {
    let answer: Answer = serde_json::from_str(text).context("read fio's answer")?;
    let [job] = answer.jobs.as_slice() else {
        anyhow::bail!("fio answered for {} jobs instead of one", answer.jobs.len())
    };
    ensure!(job.error == 0, "fio met error {} while writing", job.error);
    ensure!(job.write.iops > 0.0, "fio has not written anything");
    let microseconds = |percent: &str| {
        let found = job.write.clat_ns.percentile.get(percent);
        found.map(|ns| ns / 1000.0).with_context(|| format!("fio gave no percentile {percent}"))
    };
    Ok(Outcome {
        iops: job.write.iops,
        mib_per_s: job.write.bw_bytes / f64::from(1 << 20),
        p50_us: microseconds("50.000000")?,
        p99_us: microseconds("99.000000")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(error: i64, iops: f64) -> String {
        serde_json::json!({
            "fio version": "fio-3.33",
            "jobs": [{
                "jobname": "bench",
                "error": error,
                "write": {
                    "iops": iops,
                    "bw_bytes": 4_194_304,
                    "clat_ns": {"N": 3, "percentile": {"50.000000": 21_504, "99.000000": 98_816}},
                },
            }],
        })
        .to_string()
    }

    #[test]
    fn figures_are_read_in_the_units_that_are_shown() {
        let expected = Outcome { iops: 1024.5, mib_per_s: 4.0, p50_us: 21.504, p99_us: 98.816 };
        assert_eq!(read(&answer(0, 1024.5)).unwrap(), expected);
    }

    #[test]
    fn an_error_or_no_write_is_no_figure() {
        assert!(read(&answer(5, 1024.5)).unwrap_err().to_string().contains("error 5"));
        assert!(read(&answer(0, 0.0)).is_err());
        assert!(read("fio: no such file").is_err());
        assert!(read(r#"{"jobs":[]}"#).is_err());
    }

    #[test]
    fn only_a_job_that_flushes_flushes() {
        let job = Job { pattern: "randwrite", block: "4k", depth: 32, flush: false };
        let line = job.line("/dev/drbd1", 1000);
        assert!(line.contains("--filename=/dev/drbd1 --size=1000k --rw=randwrite --bs=4k --iodepth=32 --io"));
        assert!(Job { flush: true, ..job }.line("/dev/drbd1", 1000).contains(" --fsync=1 "));
    }
}
