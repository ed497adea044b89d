//! Support for the shells: durable files, framed messages, child processes, service notification,
//! log lines, randomness, who is who (TLS), YAML in which every value knows its place.
//!
//! No domain words here: this crate knows nothing of replication, playbooks or laboratories.

pub mod excerpt;
pub mod fields;
pub mod file;
pub mod frame;
pub mod logs;
pub mod nearest;
pub mod notify;
pub mod problem;
pub mod process;
pub mod question;
pub mod random;
pub mod time;
pub mod tls;
pub mod yaml;
