//! The replication daemon: disks, sockets and block device around the replica core.

pub mod cli;
pub mod status;
