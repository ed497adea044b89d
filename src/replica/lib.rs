//! What replication decides: a pure core, events in and actions out.
//!
//! This crate has no clock, no threads, no files, no sockets and no randomness of its own: the shell
//! (`replicad`) feeds it [`event::Event`]s together with the time, and performs the [`event::Action`]s that
//! come back. Every rule about roles, disk states, generations, the bitmap and acknowledgements lives here,
//! so that all of it can be replayed from a seed.

pub mod activity;
pub mod bitmap;
pub mod config;
pub mod control;
pub mod digest;
pub mod engine;
pub mod event;
pub mod generation;
pub mod handler;
pub mod message;
pub mod meta;
mod rng;
pub mod state;
pub mod undo;
