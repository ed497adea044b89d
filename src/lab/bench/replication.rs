//! What replication costs: fio on ha-a's replicated device and, in turn, on the partition below it.
//!
//! Both are the same blocks of the same disk, reached with and without the daemon, which is idle in the
//! second case. So afterwards the two hosts' disks differ: the pair is fit for nothing but to be taken down,
//! and the full sync at the end, which makes them equal again, is measured too.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::fio::{self, Job, Outcome};
use super::report::{Better, Metric, Report};
use crate::layout::{Host, PAIR};
use crate::stage::{Stage, Status};
use crate::wait;

const A: &Host = &PAIR[0];
const B: &Host = &PAIR[1];

const RAW: &str = "/dev/vdb1";
const REPLICATED: &str = "/dev/drbd1";

/// For apt-get with a local repository.
const INSTALL: Duration = Duration::from_secs(300);
/// For writing the whole device once, and for a flush of everything that was written.
const FILL: Duration = Duration::from_secs(300);
/// For one job, which itself says how long it writes; the rest is for the last flush.
const JOB: Duration = Duration::from_secs(90);
/// For a full sync.
const SYNC: Duration = Duration::from_secs(300);

/// A figure and where it is in fio's answer.
type Figure = (Metric, fn(&Outcome) -> f64);

const IOPS: Figure = (Metric { name: "writes", unit: "IOPS", better: Better::More }, |o| o.iops);
const P50: Figure = (Metric { name: "latency p50", unit: "µs", better: Better::Less }, |o| o.p50_us);
const P99: Figure = (Metric { name: "latency p99", unit: "µs", better: Better::Less }, |o| o.p99_us);
const THROUGHPUT: Figure = (SPEED, |o| o.mib_per_s);
const SPEED: Metric = Metric { name: "throughput", unit: "MiB/s", better: Better::More };

const RANDOM: Job = Job { pattern: "randwrite", block: "4k", depth: 1, flush: false };

/// What is measured, and which figures count.
const CASES: [(&str, Job, &[Figure]); 4] = [
    ("4 KiB random writes, depth 1", RANDOM, &[IOPS, P50, P99]),
    ("4 KiB random writes, depth 32", Job { depth: 32, ..RANDOM }, &[IOPS, P50, P99]),
    ("4 KiB random writes, each flushed", Job { flush: true, ..RANDOM }, &[IOPS]),
    (
        "1 MiB sequential writes, depth 8",
        Job { pattern: "write", block: "1M", depth: 8, flush: false },
        &[THROUGHPUT],
    ),
];

/// Takes every figure `runs` times. The pair is provisioned already.
pub(super) fn measure(stage: &Stage, runs: u32, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("{}: apt-get install fio", A.name);
    stage.answer(A, "apt-get install --yes --quiet fio", INSTALL)?;
    let status = stage.until(A, "both disks are UpToDate", SYNC, Status::is_in_sync)?;
    ensure!(status.role() == "Primary", "{} is {} instead of Primary", A.name, status.role());
    let size_kib: u64 = format!("{:.0}", status.size_kib()?).parse().context("read the device's size")?;
    // The disks are sparse files: the first write of a block costs more than all others.
    eprintln!("{}: writing all {} MiB of {REPLICATED} once", A.name, size_kib / 1024);
    stage.answer(A, &fio::fill(REPLICATED, size_kib), FILL)?;
    for (case, job, figures) in &CASES {
        for run in 1..=runs {
            // Neither is always the one that comes first.
            let devices = if run % 2 == 1 { [RAW, REPLICATED] } else { [REPLICATED, RAW] };
            for device in devices {
                let outcome =
                    take(stage, job, device, size_kib).with_context(|| format!("measure {device}"))?;
                let Outcome { iops, mib_per_s, p50_us, p99_us } = outcome;
                eprintln!(
                    "{case}: run {run} of {runs}: {device}: {iops:.0} IOPS, {mib_per_s:.1} MiB/s, \
                     p50 {p50_us:.0} µs, p99 {p99_us:.0} µs"
                );
                for (metric, value) in *figures {
                    report.add(case, device, *metric, value(&outcome));
                }
            }
        }
    }
    for run in 1..=runs {
        spoil(stage, size_kib)?;
        for (case, differs) in [("full sync", true), ("full sync of equal disks", false)] {
            let speed = full_sync(stage, differs).with_context(|| format!("measure a {case}"))?;
            eprintln!("{case}: run {run} of {runs}: {speed:.1} MiB/s");
            report.add(case, "ha-a to ha-b", SPEED, speed);
        }
    }
    Ok(())
}

fn take(stage: &Stage, job: &Job, device: &str, size_kib: u64) -> anyhow::Result<Outcome> {
    settle(stage)?;
    fio::read(&stage.answer(A, &job.line(device, size_kib), JOB)?)
}

/// What the previous job left to be written back must not be the next one's burden.
fn settle(stage: &Stage) -> anyhow::Result<()> {
    for host in [A, B] {
        stage.answer(host, &format!("sync {RAW}"), FILL)?;
    }
    Ok(())
}

/// Makes every block of ha-b another one, behind its daemon's back: equal blocks are not sent.
fn spoil(stage: &Stage, size_kib: u64) -> anyhow::Result<()> {
    let mib = size_kib.div_ceil(1024);
    let line = format!(
        "dd if=/dev/urandom of={RAW} bs=1M count={size_kib}K iflag=count_bytes oflag=direct status=none"
    );
    eprintln!("{}: writing {mib} MiB over its disk", B.name);
    stage.answer(B, &line, FILL)?;
    Ok(())
}

/// Lets ha-b fetch everything anew and returns MiB/s from the order to UpToDate.
fn full_sync(stage: &Stage, differs: bool) -> anyhow::Result<f64> {
    settle(stage)?;
    let before = stage.status(B)?.received_kib()?;
    let started = Instant::now();
    let order = stage.quietly(B, "futago replica invalidate r0")?;
    ensure!(order.ok, "order it: {}", order.text);
    let last = wait::until(SYNC, &stage.interrupt, || Ok(Some(stage.status(B)?).filter(Status::is_in_sync)))?;
    let seconds = started.elapsed().as_secs_f64();
    let (size, received) = (last.size_kib()?, last.received_kib()? - before);
    ensure!(
        (received >= size) == differs,
        "ha-b received {received} of {size} KiB, so this was another case"
    );
    Ok(size / 1024.0 / seconds)
}
