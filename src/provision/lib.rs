//! The provisioner: inventory and playbooks in, converged hosts out.

pub mod cli;
pub mod module;
pub mod protocol;
