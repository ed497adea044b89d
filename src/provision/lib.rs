//! The provisioner: inventory and playbooks in, converged hosts out.

pub mod agent;
pub mod apply;
mod ask;
pub mod assets;
pub mod check;
pub mod cli;
pub mod doc;
mod exposed;
mod fleet;
pub mod host;
pub mod identity;
pub mod inventory;
pub mod module;
pub mod plan;
pub mod playbook;
pub mod prepare;
pub mod protocol;
mod quote;
pub mod rebuild;
pub mod remote;
pub mod report;
pub mod runner;
pub mod schema;
mod step;
pub mod sudo;
pub mod template;
