//! The replication daemon: disks, sockets and block device around the replica core.
//!
//! ```text
//!            ctl (one thread a client)          export/helper (a process)
//!                    │ reports                        │ reports
//!  FUSE requests ──► driver ◄───────────────── worker (disk threads)
//!  peer sockets  ──►   │  one thread a resource: engine, slots, descriptors
//!                      └─► replica::engine: events in, actions out
//! ```
//! Nothing is decided here: what a resource may do is the core's business.

pub mod adjust;
pub mod aligned;
mod alive;
pub mod cli;
mod config;
pub mod contact;
pub mod create;
pub mod ctl;
mod daemon;
mod differences;
pub mod disk;
pub mod driver;
mod dump;
pub mod enlarged;
mod events;
pub mod exchange;
pub mod export;
mod generations;
pub mod journal;
pub mod keep;
pub mod legacy;
pub mod mailbox;
mod offline;
pub mod peer;
mod reexec;
mod resize;
mod rollback;
pub mod running;
pub mod scripts;
mod shutdown;
pub mod signature;
pub mod slots;
pub mod status;
pub mod sys;
pub mod undo;
mod verbs;
mod verify;
mod watch;
pub mod worker;

/// Stack of the threads of this crate. All memory is locked, so a stack costs what it is given.
pub(crate) const STACK_BYTES: usize = 512 << 10;
