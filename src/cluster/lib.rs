//! What the cluster manager decides.
