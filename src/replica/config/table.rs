//! Every option of DRBD 8.4 and 9 for two nodes: values, and what becomes of it here. Data only.
//!
//! Ranges follow DRBD's own limits (drbd_limits.h). An option that promises protection which is not there
//! (authentication, fencing, quorum, encryption) is refused, never ignored.

use super::options::Effect::{self, Fixed, Ignored, Only, Used};
use super::options::Kind::{self, Flag, Number, Text, Words};
use super::options::Spec;
use super::options::Unit::{Bytes, Count, KibPerSecond, Seconds, Sectors, Tenths};
use super::section::Section;

const fn net(name: &'static str, kind: Kind, effect: Effect) -> Spec {
    Spec { section: Section::Net, name, kind, effect }
}

const fn disk(name: &'static str, kind: Kind, effect: Effect) -> Spec {
    Spec { section: Section::Disk, name, kind, effect }
}

const fn options(name: &'static str, kind: Kind, effect: Effect) -> Spec {
    Spec { section: Section::Options, name, kind, effect }
}

const fn startup(name: &'static str, kind: Kind) -> Spec {
    Spec { section: Section::Startup, name, kind, effect: Ignored(STARTUP) }
}

const fn handler(name: &'static str) -> Spec {
    Spec { section: Section::Handlers, name, kind: Text, effect: Used }
}

const fn no_handler(name: &'static str, why: &'static str) -> Spec {
    Spec { section: Section::Handlers, name, kind: Text, effect: Ignored(why) }
}

const fn global(name: &'static str, kind: Kind) -> Spec {
    Spec { section: Section::Global, name, kind, effect: Ignored(GLOBAL) }
}

const ANY: u64 = u32::MAX as u64;

const STARTUP: &str = "the daemon starts at once and connects in the background; \"wait-connect\" waits";
const FENCER: &str =
    "the daemon fences nobody; the cluster manager does (\"managed yes\", its agents in cluster.yml)";
const NEVER_TARGET: &str = "a Primary is never made the target of a resync";
const GLOBAL: &str = "it concerns DRBD's own tools";
const KERNEL: &str = "the kernel decides this by itself";
const QUEUES: &str = "queues have fixed bounds here";
const RESYNC: &str = "the resync's speed is bounded by resync-rate and c-max-rate only";
const CSUMS: &str = "a resync compares by itself, where that saves something";
const COMMIT: &str = "with two nodes there is no such phase";
const SPLIT: &str =
    "a split brain is never resolved by itself; an administrator decides with --discard-my-data";
const PROTOCOL: &str = "a write is always confirmed by both disks; write \"protocol C;\"";
const SECRET: &str = "the peers prove who they are with certificates (\"tls yes\"); remove it";
const TLS: &str = "certificate and key are those of the host, in /etc/futago/tls; remove it";
const FENCING: &str = "there is no fencing yet; remove it, and do not promote a node while the other may be \
                       running as Primary";
const QUORUM: &str = "two nodes have no majority; remove it";
const CONGESTION: &str = "it belongs to protocol A; remove it";
const ZEROES: &str = "what is discarded reads as zeroes on both disks";
const AL: &str = "the activity log is always kept";

const AFTER_SB: &[&str] = &[
    "disconnect",
    "discard-younger-primary",
    "discard-older-primary",
    "discard-zero-changes",
    "discard-least-changes",
    "discard-local",
    "discard-remote",
    "discard-secondary",
    "consensus",
    "violently-as0p",
    "call-pri-lost-after-sb",
];

pub(super) static TABLE: &[Spec] = &[
    // net
    net("protocol", Words(&["A", "B", "C"]), Only("C", PROTOCOL)),
    net("timeout", Number(Tenths, 1, 600), Used),
    net("ko-count", Number(Count, 1, 200), Used),
    net("ping-int", Number(Seconds, 1, 120), Used),
    net("ping-timeout", Number(Tenths, 1, 300), Used),
    net("connect-int", Number(Seconds, 1, 120), Used),
    net("socket-check-timeout", Number(Tenths, 0, 300), Ignored("ping-timeout serves here too")),
    net("max-buffers", Number(Count, 32, 131_072), Ignored(QUEUES)),
    net("max-epoch-size", Number(Count, 1, 20_000), Ignored(QUEUES)),
    net("sndbuf-size", Number(Bytes, 0, 128 << 20), Ignored(KERNEL)),
    net("rcvbuf-size", Number(Bytes, 0, 128 << 20), Ignored(KERNEL)),
    net("tcp-cork", Flag, Ignored("messages are put together before they are sent")),
    net("use-rle", Flag, Ignored("the bitmap's form on the wire is fixed")),
    net("after-sb-0pri", Words(AFTER_SB), Fixed("disconnect", SPLIT)),
    net("after-sb-1pri", Words(AFTER_SB), Fixed("disconnect", SPLIT)),
    net("after-sb-2pri", Words(AFTER_SB), Fixed("disconnect", SPLIT)),
    net("always-asbp", Flag, Fixed("no", SPLIT)),
    net(
        "rr-conflict",
        Words(&["disconnect", "retry-connect", "violently", "call-pri-lost", "auto-discard"]),
        Fixed("disconnect", SPLIT),
    ),
    net("allow-two-primaries", Flag, Only("no", "exactly one node may write; remove it")),
    net("allow-remote-read", Flag, Ignored("every node has its own disk")),
    net("cram-hmac-alg", Text, Only("", SECRET)),
    net("shared-secret", Text, Only("", SECRET)),
    net("csums-alg", Text, Ignored(CSUMS)),
    net("csums-after-crash-only", Flag, Ignored(CSUMS)),
    net("verify-alg", Text, Ignored("blocks are compared by XXH3-128")),
    net("data-integrity-alg", Text, Ignored("every message carries a CRC32C anyway")),
    net("fencing", Words(FENCINGS), Only("dont-care", FENCING)),
    net("on-congestion", Words(&["block", "pull-ahead", "disconnect"]), Only("block", CONGESTION)),
    net("congestion-fill", Number(Sectors, 0, ANY), Ignored("it belongs to protocol A")),
    net("congestion-extents", Number(Count, 0, ANY), Ignored("it belongs to protocol A")),
    net("tls", Flag, Used),
    net("tls-keyring", Text, Only("", TLS)),
    net("tls-privkey", Text, Only("", TLS)),
    net("tls-certificate", Text, Only("", TLS)),
    net("transport", Text, Only("tcp", "the hosts talk over TCP")),
    net("load-balance-paths", Flag, Fixed("no", "there is one path")),
    net("rdma-ctrl-rcvbuf-size", Number(Bytes, 0, ANY), Ignored("the hosts talk over TCP")),
    net("rdma-ctrl-sndbuf-size", Number(Bytes, 0, ANY), Ignored("the hosts talk over TCP")),
    net("_name", Text, Ignored("hosts are named by \"on\"")),
    // disk
    disk("al-extents", Number(Count, 67, 65_534), Used),
    disk("resync-rate", Number(KibPerSecond, 1, 8 << 20), Used),
    disk("undo-log", Words(&["yes", "no", "required"]), Used),
    disk("undo-file", Text, Used),
    disk("c-max-rate", Number(KibPerSecond, 1, 8 << 20), Used),
    disk("c-min-rate", Number(KibPerSecond, 0, 8 << 20), Ignored(RESYNC)),
    disk("c-plan-ahead", Number(Tenths, 0, 300), Ignored(RESYNC)),
    disk("c-delay-target", Number(Tenths, 1, 100), Ignored(RESYNC)),
    disk("c-fill-target", Number(Sectors, 0, 1 << 21), Ignored(RESYNC)),
    disk("resync-after", Text, Ignored("resources are resynced side by side")),
    disk("resync-without-replication", Flag, Ignored("the resync runs whenever the link is up")),
    disk("on-io-error", Words(&["detach", "pass_on", "call-local-io-error"]), Used),
    disk("fencing", Words(FENCINGS), Only("dont-care", FENCING)),
    disk(
        "size",
        Number(Sectors, 0, u64::MAX),
        Only("", "the device is as large as the smaller disk; remove it"),
    ),
    disk("al-updates", Flag, Fixed("yes", AL)),
    disk("disk-flushes", Flag, Fixed("yes", FLUSH)),
    disk("md-flushes", Flag, Fixed("yes", FLUSH)),
    disk("disk-barrier", Flag, Fixed("no", FLUSH)),
    disk("disk-drain", Flag, Fixed("yes", FLUSH)),
    disk("disk-timeout", Number(Tenths, 0, 6000), Used),
    disk("read-balancing", Text, Fixed("prefer-local", "reads are local")),
    disk("discard-zeroes-if-aligned", Flag, Fixed("yes", ZEROES)),
    disk("disable-write-same", Flag, Ignored(KERNEL)),
    disk(
        "rs-discard-granularity",
        Number(Bytes, 0, 1 << 20),
        Ignored("a resync zeroes what is zero, block by block"),
    ),
    disk("max-bio-bvecs", Number(Count, 0, 128), Ignored(KERNEL)),
    disk("bitmap", Flag, Fixed("yes", "both disks keep a bitmap")),
    // options
    options("managed", Flag, Used),
    options("cpu-mask", Text, Ignored(KERNEL)),
    options("auto-promote", Flag, Fixed("no", "a node becomes Primary by command only")),
    options(
        "auto-promote-timeout",
        Number(Tenths, 0, 600),
        Ignored("a node becomes Primary by command only"),
    ),
    options("on-no-data-accessible", Words(&["io-error", "suspend-io"]), Fixed("io-error", IO_ERROR)),
    options("quorum", Text, Only("off", QUORUM)),
    options("on-no-quorum", Words(&["io-error", "suspend-io"]), Ignored("there is no quorum")),
    options("quorum-minimum-redundancy", Text, Only("off", QUORUM)),
    options("quorum-dynamic-voters", Flag, Ignored("there is no quorum")),
    options("on-suspended-primary-outdated", Words(&["disconnect", "force-secondary"]), Ignored(COMMIT)),
    options("peer-ack-window", Number(Sectors, 0, ANY), Ignored(COMMIT)),
    options("peer-ack-delay", Number(Count, 0, ANY), Ignored(COMMIT)),
    options("twopc-timeout", Number(Tenths, 50, 600), Ignored(COMMIT)),
    options("twopc-retry-timeout", Number(Tenths, 1, 50), Ignored(COMMIT)),
    options("max-io-depth", Number(Count, 4, ANY), Ignored(QUEUES)),
    options("drbd8-compat-mode", Flag, Ignored("there is one mode")),
    // startup
    startup("wfc-timeout", Number(Seconds, 0, ANY)),
    startup("degr-wfc-timeout", Number(Seconds, 0, ANY)),
    startup("outdated-wfc-timeout", Number(Seconds, 0, ANY)),
    startup("wait-after-sb", Flag),
    startup("stacked-timeouts", Flag),
    startup("become-primary-on", Text),
    // handlers
    no_handler("fence-peer", FENCER),
    no_handler("outdate-peer", FENCER),
    no_handler("unfence-peer", FENCER),
    handler("before-resync-target"),
    handler("after-resync-target"),
    handler("before-resync-source"),
    handler("split-brain"),
    handler("initial-split-brain"),
    handler("out-of-sync"),
    handler("local-io-error"),
    no_handler("pri-lost", NEVER_TARGET),
    no_handler("pri-lost-after-sb", SPLIT),
    handler("pri-on-incon-degr"),
    no_handler("quorum-lost", "there is no quorum"),
    handler("disconnected"),
    // global
    global("usage-count", Words(&["yes", "no", "ask"])),
    global("minor-count", Number(Count, 1, ANY)),
    global("dialog-refresh", Number(Seconds, 0, ANY)),
    global("disable-ip-verification", Flag),
    global("udev-always-use-vnr", Flag),
    global("cmd-timeout-short", Number(Seconds, 0, ANY)),
    global("cmd-timeout-medium", Number(Seconds, 0, ANY)),
    global("cmd-timeout-long", Number(Seconds, 0, ANY)),
];

const FENCINGS: &[&str] = &["dont-care", "resource-only", "resource-and-stonith"];
pub(super) const IO_ERROR: &str = "a disk that fails is detached";
const FLUSH: &str = "both disks are always flushed when the application asks for it";
