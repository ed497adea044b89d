//! The rules of the manager, each by a story in a small world with virtual time.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod bench;
mod chaos;
mod failure;
mod lacking;
mod life;
mod order;
mod safety;
