//! The lab: a local pair of real hosts.
