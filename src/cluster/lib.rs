//! What the cluster manager decides: who may write, what runs where, what happens next.
//!
//! A core: events in, actions out ([`event`]). No sockets, files, clocks or threads; every decision can be
//! replayed from a seed. The safety argument is told in docs/cluster.md; the types here carry its rules.

pub mod config;
pub mod control;
pub mod engine;
pub mod etcd;
pub mod event;
pub mod member;
pub mod message;
pub mod policy;
pub mod record;
pub mod register;
pub mod store;
pub mod timing;
