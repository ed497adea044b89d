//! What every record store must do, shown on the bundled one: see [`world`].
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bundled;
mod rules;
mod storm;
mod world;
