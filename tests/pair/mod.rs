//! A whole cluster in virtual time: two hosts with the real managers and the real replication engines, a
//! witness, networks, clocks, services and a client. Scenarios script it, the simulator throws dice.

pub(crate) mod chaos;
pub(crate) mod client;
pub(crate) mod cluster;
pub(crate) mod host;
pub(crate) mod net;
pub(crate) mod setup;
