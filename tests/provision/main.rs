//! The provisioner from outside: what it says about broken input, what it renders, and in which order it works.
//!
//! No host is contacted here: the runner's tests use a scripted one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod agent;
mod ansible;
mod backup;
mod check;
mod cluster;
mod doc;
mod errors;
mod fleet;
mod golden;
mod owed;
mod project;
mod runner;
mod scripted;
mod secrets;
