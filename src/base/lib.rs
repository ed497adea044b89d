//! Support for the shells: durable files, framed messages, child processes, service notification.
//!
//! No domain words here: this crate knows nothing of replication, playbooks or laboratories.

pub mod file;
pub mod frame;
pub mod notify;
pub mod process;
