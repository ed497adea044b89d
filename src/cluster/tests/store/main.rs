//! What every record store must do, shown on both: see [`world`].
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bundled;
mod etcd;
mod in_etcd;
mod rules;
mod storm;
mod world;
