//! The lab: a local pair of real hosts, made of containers with systemd as their first process.
//!
//! Everything a lab makes carries its name and can be found again from the name alone, without any state of
//! ours: the network namespace `futago-NAME`, the control groups `futago/NAME/HOST`, the loop devices over
//! `/var/lib/futago/lab/NAME` and those that carry a host's machine identity. So whatever is killed at
//! whatever moment, `lab down` finds what is left. A lab never gives the machine a route or an address.

mod bench;
mod child;
pub mod cli;
mod control_group;
mod demo;
mod disk;
pub mod drill;
mod exec;
mod fault;
mod files;
mod host;
mod image;
mod interrupt;
mod layout;
pub mod load;
mod lock;
mod machine;
mod network;
mod own;
mod packages;
mod power;
mod publish;
mod record;
mod requirements;
mod root;
mod sources;
mod stack;
mod stage;
mod status;
mod sys;
mod up;
mod wait;
