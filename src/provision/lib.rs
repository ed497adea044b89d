//! The provisioner: inventory and playbooks in, converged hosts out.

pub mod agent;
pub mod apply;
pub mod assets;
pub mod cli;
mod fields;
pub mod host;
pub mod inventory;
pub mod module;
pub mod plan;
pub mod playbook;
pub mod problem;
pub mod protocol;
pub mod report;
pub mod runner;
mod step;
pub mod template;
pub mod yaml;
