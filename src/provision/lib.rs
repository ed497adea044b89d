//! The provisioner: inventory and playbooks in, converged hosts out.
