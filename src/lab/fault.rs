//! Faults of the network: cut links, lossy links, slow links.
