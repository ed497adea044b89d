//! libFuzzer against the reader of resource files.

#![no_main]

#[allow(dead_code, reason = "each target takes one entry")]
#[path = "../entries.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::config(data));
