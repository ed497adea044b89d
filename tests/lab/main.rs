//! End-to-end tests on real hosts: each makes a lab of its own and leaves nothing behind.
//!
//! They need root and a machine that can run containers. The first one to run builds the hosts' image.

mod agents;
mod backup;
mod browser;
mod client;
mod cluster;
mod converge;
mod demo;
mod drill;
mod etcd;
mod faults;
mod fencing;
mod fleet;
mod from_ansible;
mod harness;
mod jump;
mod keys;
mod lifecycle;
mod managed;
mod modules;
mod ocf_group;
mod rebuild;
mod release;
mod replication;
mod resize;
mod rollback;
mod site;
mod sudo;
mod terminal;
mod unwatched;
