//! The cluster manager and the witness.
//!
//! ```text
//!   ctl, links, replica, agents, health ──► mailbox ──► driver ──► cluster::engine: events in, actions out
//!                                                         │
//!   links ◄── store ◄─────────────────────────────────────┴──► agents, replicad, fence, watchdog, alerts
//! ```
//! Nothing is decided here: who may write and what runs where is the core's business.

pub mod agent;
mod alert;
mod book;
mod chronicle;
pub mod cli;
mod clock;
pub mod config;
pub mod ctl;
pub mod daemon;
mod driver;
mod etcd;
pub mod fence;
mod frames;
mod health;
pub mod history;
mod job;
pub mod keep;
mod link;
mod links;
mod mailbox;
mod metrics;
mod outbox;
mod progress;
mod replica;
mod report;
mod sys;
mod tell;
mod timer;
pub mod tls;
mod verbs;
mod view;
mod watch;
mod watchdog;
pub mod witness;
