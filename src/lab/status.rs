//! What a lab is like right now.
