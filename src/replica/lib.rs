//! What replication decides: a pure core, events in and actions out.
