//! Framed messages: a little-endian `u32` length, then that many bytes of JSON.
//!
//! A length above the reader's bound is refused before anything is allocated for it.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Most bytes of one frame: room for a large diff, far below what would hurt.
pub const MAX_FRAME_BYTES: u32 = 16 << 20;

const LENGTH_BYTES: usize = 4;

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream failed, or ended inside a frame.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The announced length is above the bound.
    #[error("a message of {0} bytes was announced, at most {1} are allowed")]
    TooLong(u32, u32),
    /// The bytes are not the expected JSON.
    #[error("unreadable message: {0}")]
    Json(#[from] serde_json::Error),
}

/// The bytes of one frame.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut out = vec![0; LENGTH_BYTES];
    serde_json::to_writer(&mut out, message)?;
    let len = u32::try_from(out.len() - LENGTH_BYTES).unwrap_or(u32::MAX);
    if len > MAX_FRAME_BYTES {
        return Err(FrameError::TooLong(len, MAX_FRAME_BYTES));
    }
    let (head, _) = out.split_at_mut(LENGTH_BYTES);
    head.copy_from_slice(&len.to_le_bytes());
    Ok(out)
}

/// Writes one frame and flushes.
pub fn write<T: Serialize>(stream: &mut impl Write, message: &T) -> Result<(), FrameError> {
    stream.write_all(&encode(message)?)?;
    Ok(stream.flush()?)
}

/// Reads one frame; `None` when the stream ends between frames.
pub fn read<T: DeserializeOwned>(stream: &mut impl Read) -> Result<Option<T>, FrameError> {
    let mut head = [0; LENGTH_BYTES];
    let mut have = 0;
    while have < LENGTH_BYTES {
        match stream.read(head.get_mut(have..).unwrap_or_default()) {
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(n) => have += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
    let mut body = vec![0; body_bytes(head, MAX_FRAME_BYTES)?];
    stream.read_exact(&mut body)?;
    Ok(Some(serde_json::from_slice(&body)?))
}

fn body_bytes(head: [u8; LENGTH_BYTES], longest: u32) -> Result<usize, FrameError> {
    let len = u32::from_le_bytes(head);
    if len > longest {
        return Err(FrameError::TooLong(len, longest));
    }
    Ok(usize::try_from(len).unwrap_or(usize::MAX))
}

/// Cuts a byte stream that arrives in arbitrary pieces into frames.
#[derive(Debug)]
pub struct Decoder {
    buffer: Vec<u8>,
    longest: u32,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::up_to(MAX_FRAME_BYTES)
    }
}

impl Decoder {
    /// Refuses frames longer than this.
    #[must_use]
    pub const fn up_to(longest: u32) -> Self {
        Self { buffer: Vec::new(), longest }
    }

    /// Whether no frame has begun.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Adds bytes as they arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, if there is one.
    #[expect(
        clippy::should_implement_trait,
        reason = "generic over the message, so it cannot be an iterator"
    )]
    pub fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let Some((head, rest)) = self.buffer.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let len = body_bytes(*head, self.longest)?;
        let Some(body) = rest.get(..len) else { return Ok(None) };
        let message = serde_json::from_slice(body)?;
        self.buffer.drain(..LENGTH_BYTES + len);
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_cut_anywhere_is_put_together_again() {
        let bytes = [encode(&"first").unwrap(), encode(&"second").unwrap()].concat();
        for cut in 0..bytes.len() {
            let mut decoder = Decoder::default();
            let mut seen: Vec<String> = Vec::new();
            for piece in [&bytes[..cut], &bytes[cut..]] {
                decoder.push(piece);
                while let Some(text) = decoder.next().unwrap() {
                    seen.push(text);
                }
            }
            assert_eq!(seen, ["first", "second"]);
        }
    }

    #[test]
    fn the_end_between_frames_is_an_end_and_inside_a_frame_an_error() {
        let bytes = encode(&7).unwrap();
        assert_eq!(read::<u8>(&mut bytes.as_slice()).unwrap(), Some(7));
        assert_eq!(read::<u8>(&mut [].as_slice()).unwrap(), None);
        for cut in 1..bytes.len() {
            assert!(matches!(read::<u8>(&mut &bytes[..cut]), Err(FrameError::Io(_))), "cut at {cut}");
        }
    }

    #[test]
    fn an_absurd_length_is_refused_before_memory_is_taken() {
        let bytes = u32::MAX.to_le_bytes();
        assert!(matches!(
            read::<u8>(&mut bytes.as_slice()),
            Err(FrameError::TooLong(u32::MAX, MAX_FRAME_BYTES))
        ));
    }
}
