//! Numbers that nobody else has.

use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

/// A random number: names a run, a new store, a question.
pub(crate) fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    let (mut filled, len) = (0, bytes.len());
    while filled < len {
        filled += getrandom(bytes.get_mut(filled..).unwrap_or_default(), GetRandomFlags::empty())?;
    }
    Ok(u64::from_le_bytes(bytes))
}
