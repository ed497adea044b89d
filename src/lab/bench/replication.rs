//! What replication costs: fio on ha-a's replicated device, in turn on the partition below it, and on a replicated
//! volume of GlusterFS on a pair of its own.
//!
//! The first two are the same blocks of the same disk, reached with and without the daemon, which is idle in the
//! second case. So afterwards the two hosts' disks differ: the pair is fit for nothing but to be taken down,
//! and the full sync at the end, which makes them equal again, is measured too.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::cost;
use super::fio::{self, Job, Outcome};
use super::report::{Better, Metric, Report};
use super::{glusterfs, on_labs, provisioned};
use crate::interrupt::Interrupt;
use crate::layout::{Host, Lab, PAIR};
use crate::stage::{Stage, Status};
use crate::wait;

const A: &Host = &PAIR[0];
const B: &Host = &PAIR[1];

const RAW: &str = "/dev/vdb1";
const REPLICATED: &str = "/dev/drbd1";
const SETTLE: &str = "sync /dev/vdb1";

/// For apt-get with a local repository.
const INSTALL: Duration = Duration::from_secs(300);
/// For writing all of it once, and for a flush of everything that was written.
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
/// All of the machine: both hosts, their kernel, fio.
const PROCESSOR: Metric = Metric { name: "processor", unit: "s/GiB", better: Better::Less };
const MEMORY: Metric = Metric { name: "memory of its programs", unit: "MiB", better: Better::Less };
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

/// Something to write to on ha-a.
struct Target<'a> {
    name: &'static str,
    stage: &'a Stage,
    path: &'static str,
    /// What brings all that was written to a host's disk.
    settle: &'static str,
}

/// Boots and provisions both pairs, measures, and takes them down again.
pub(super) fn run(lab: &Lab, runs: u32, interrupt: &Interrupt, report: &mut Report) -> anyhow::Result<()> {
    on_labs(lab, &["", "-glusterfs"], interrupt, |stages| {
        let [pair, peer] = stages else { bail!("two labs were asked for, there are {}", stages.len()) };
        glusterfs::prepare(peer)?;
        provisioned(pair, |pair| measure(pair, peer, runs, report))
    })
}

/// Takes every figure `runs` times.
fn measure(pair: &Stage, peer: &Stage, runs: u32, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("{}: apt-get install fio", A.name);
    pair.answer(A, "apt-get install --yes --quiet fio", INSTALL)?;
    let status = pair.until(A, "both disks are UpToDate", SYNC, Status::is_in_sync)?;
    ensure!(status.role() == "Primary", "{} is {} instead of Primary", A.name, status.role());
    let size_kib: u64 = format!("{:.0}", status.size_kib()?).parse().context("read the device's size")?;
    let raw = Target { name: RAW, stage: pair, path: RAW, settle: SETTLE };
    let replicated = Target { name: REPLICATED, path: REPLICATED, ..raw };
    let volume = Target { name: "GlusterFS", stage: peer, path: glusterfs::FILE, settle: glusterfs::SETTLE };
    // A brick's file system keeps some of its disk for itself.
    let written_kib = size_kib / 8 * 7;
    // All of the device, for zeroes are not sent in a sync.
    for (target, size_kib) in [(&replicated, size_kib), (&volume, written_kib)] {
        eprintln!("{}: writing {} MiB of {} once", A.name, size_kib / 1024, target.path);
        // The disks are sparse files: the first write of a block costs more than all others.
        target.stage.answer(A, &fio::fill(target.path, size_kib), FILL)?;
    }
    writes([&raw, &replicated, &volume], written_kib, runs, report)?;
    for (target, programs) in [(&replicated, "futago"), (&volume, glusterfs::PROGRAMS)] {
        report.add("after all writes", target.name, MEMORY, cost::memory_mib(target.stage, A, programs)?);
    }
    syncs(pair, size_kib, runs, report)
}

/// fio's figures of all targets, in turn.
fn writes(
    mut targets: [&Target<'_>; 3],
    size_kib: u64,
    runs: u32,
    report: &mut Report,
) -> anyhow::Result<()> {
    for (case, job, figures) in &CASES {
        for run in 1..=runs {
            for target in targets {
                let name = target.name;
                let (outcome, cores) =
                    take(target, job, size_kib).with_context(|| format!("measure {name}"))?;
                let Outcome { iops, mib_per_s, p50_us, p99_us } = outcome;
                eprintln!(
                    "{case}: run {run} of {runs}: {name}: {iops:.0} IOPS, {mib_per_s:.1} MiB/s, \
                     p50 {p50_us:.0} µs, p99 {p99_us:.0} µs"
                );
                for (metric, value) in *figures {
                    report.add(case, name, *metric, value(&outcome));
                }
                report.add(case, name, PROCESSOR, cores / mib_per_s * 1024.0);
            }
            // None is always the one that comes first.
            targets.rotate_left(1);
        }
    }
    Ok(())
}

/// What fio says of a job, and how many processors were busy meanwhile.
fn take(target: &Target<'_>, job: &Job, size_kib: u64) -> anyhow::Result<(Outcome, f64)> {
    settle(target.stage, target.settle)?;
    let busy = cost::Busy::begin()?;
    let answer = target.stage.answer(A, &job.line(target.path, size_kib), JOB)?;
    Ok((fio::read(&answer)?, busy.cores()?))
}

/// What the previous job left to be written back must not be the next one's burden.
fn settle(stage: &Stage, line: &str) -> anyhow::Result<()> {
    for host in [A, B] {
        stage.answer(host, line, FILL)?;
    }
    Ok(())
}

/// How long a full sync takes, of disks that differ everywhere and of equal ones.
fn syncs(stage: &Stage, size_kib: u64, runs: u32, report: &mut Report) -> anyhow::Result<()> {
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
    settle(stage, SETTLE)?;
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
