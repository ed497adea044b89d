//! The cluster manager and the witness.
