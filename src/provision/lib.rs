//! The provisioner: inventory and playbooks in, converged hosts out.

pub mod cli;
mod fields;
pub mod inventory;
pub mod module;
pub mod problem;
pub mod protocol;
pub mod yaml;
