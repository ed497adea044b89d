//! The cluster manager and the witness.
//!
//! ```text
//!   ctl, links, replica, agents, health ──► mailbox ──► driver ──► cluster::engine: events in, actions out
//!                                                         │
//!   links ◄── store ◄─────────────────────────────────────┴──► agents, replicad, fence, watchdog, alerts
//! ```
//! Nothing is decided here: who may write and what runs where is the core's business.

pub mod agent;
pub mod cli;
pub mod config;
pub mod ctl;
pub mod fence;
mod frames;
pub mod history;
mod mailbox;
mod progress;
mod question;
mod verbs;
mod view;
