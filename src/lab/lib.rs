//! The lab: a local pair of real hosts.

pub mod cli;
