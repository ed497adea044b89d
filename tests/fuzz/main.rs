//! Random bytes for the parsers, bounded, from a seed: changed samples and words of their languages. What libFuzzer does for
//! hours (`libfuzzer/`) begins here.
//!
//! `FUZZ_SEED=n FUZZ_RUNS=n cargo test --test fuzz` tries others, or more.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    dead_code,
    reason = "a test fails by panicking; small numbers; shared with the simulator"
)]

mod entries;
#[path = "../sim/rng.rs"]
mod rng;

use replica::event::Range;
use replica::generation::Generations;
use replica::message::{Message, encode};
use replica::meta::{Layout, creation};

use rng::Rng;

/// Runs of each entry in a normal test run.
const RUNS: u64 = 20_000;
/// Most changes of a sample.
const CHANGES: u64 = 8;

const FILE: &str = "common { net { ping-int 3; tls yes; } handlers { split-brain \"mail root\"; } }
resource r0 { options { managed no; } disk { resync-rate 10M; al-extents 67; on-io-error call-local-io-error; }
  on ha-a { node-id 0; device /dev/drbd1 minor 1; disk /dev/vdb1; address ipv4 10.0.0.1:7789; meta-disk internal; }
  on ha-b { node-id 1; device /dev/drbd1 minor 1; disk /dev/vdb1; address [fd00::2]:7789; meta-disk internal; }
  connection { host ha-a; host ha-b port 7790; net { timeout 40; } } }\n";

const WORDS: &[&str] = &[
    "{",
    "}",
    ";",
    "\"",
    "\\",
    "#",
    "\n",
    "resource",
    "on",
    "volume 0",
    "disk",
    "none",
    "handlers",
    "include \"*\"",
    "skip",
    "connection-mesh { hosts a b; }",
    "99999999999999999999",
    "-1",
    "\u{0}",
    "\u{feff}",
    "no-",
    "floating",
    "after-sb-0pri",
];

/// Changes a sample here and there.
fn changed(rng: &mut Rng, sample: &[u8], words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = sample.to_vec();
    for _ in 0..rng.below(CHANGES) + 1 {
        let at = rng.below(bytes.len() as u64 + 1) as usize;
        let end = (at + rng.below(16) as usize).min(bytes.len());
        match rng.below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.below(8),
            1 if at < bytes.len() => bytes[at] = rng.next() as u8,
            2 => drop(bytes.drain(at..end)),
            3 => {
                let piece = bytes[at..end].to_vec();
                let to = rng.below(bytes.len() as u64 + 1) as usize;
                bytes.splice(to..to, piece);
            }
            4 if !words.is_empty() => {
                let word = words[rng.below(words.len() as u64) as usize];
                bytes.splice(at..at, word.iter().copied());
            }
            _ => bytes.truncate(bytes.len() - rng.below(3).min(bytes.len() as u64) as usize),
        }
    }
    bytes
}

fn number(key: &str, default: u64) -> u64 {
    std::env::var(key).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// Tries changes of each sample; the seed of a run that panics is told.
fn run(entry: fn(&[u8]), runs: u64, samples: &[Vec<u8>], words: &[&[u8]]) {
    let first = number("FUZZ_SEED", 1);
    for seed in first..first + number("FUZZ_RUNS", runs) {
        let mut rng = Rng::new(seed);
        let sample = &samples[rng.below(samples.len() as u64) as usize];
        let bytes = changed(&mut rng, sample, words);
        if std::panic::catch_unwind(|| entry(&bytes)).is_err() {
            panic!("FUZZ_SEED={seed}: {:?}", String::from_utf8_lossy(&bytes));
        }
    }
}

#[test]
fn no_resource_file_makes_the_parser_panic() {
    let words: Vec<&[u8]> = WORDS.iter().map(|word| word.as_bytes()).collect();
    run(entries::config, RUNS / 4, &[FILE.as_bytes().to_vec()], &words);
}

#[test]
fn no_message_is_read_as_something_else_than_it_is_written_as() {
    let range = Range { offset: 4096, len: 8192 };
    let generations = Generations { current: 1, bitmap: 2, history: [3; 8], counter: 4 };
    let with_data = |message: Message, data: &[u8]| {
        let mut bytes = encode(&message, 7, data);
        bytes.extend(data);
        bytes
    };
    let samples = [
        with_data(Message::Write { id: 1, range }, &[9; 8192]),
        with_data(Message::Zero { id: 2, range, unmap: true, resync: false }, &[]),
        with_data(Message::Bitmap { first_word: 3, words: vec![u64::MAX; 5] }, &[]),
        with_data(Message::SyncStart { base: 5, blocks: 6, as_of: 7 }, &[]),
        with_data(Message::SyncFinish(generations.clone()), &[]),
        with_data(Message::SkipSync(generations), &[]),
        with_data(Message::VerifyReply { id: 8, digests: vec![1, 2, 3] }, &[]),
        with_data(Message::InvalidateAnswer { granted: true }, &[]),
        vec![0; 300],
    ];
    run(entries::message, RUNS, &samples, &[&[0xff; 8], &[0; 8], b"FTG1"]);
}

#[test]
fn no_metadata_keeps_an_engine_from_beginning() {
    let layout = Layout::for_device(2 << 20).unwrap();
    let mut samples: Vec<Vec<u8>> = creation(&layout).into_iter().flatten().map(|(_, bytes)| bytes).collect();
    samples.iter_mut().for_each(|sample| sample.truncate(1 << 13));
    samples.push((0..1u32 << 13).map(|n| (n * 7 % 251) as u8).collect());
    run(entries::metadata, RUNS / 10, &samples, &[&[0xff; 8], &[0; 8], &[1, 0, 0, 0, 0, 0, 0, 0]]);
}
