//! Framed messages over a stream of the runtime: what [`base::frame`] is for blocking streams.
//!
//! Dropping a read halfway loses nothing: bytes stay in the decoder until a frame is whole.

use std::io;

use base::frame::{self, Decoder, FrameError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Bytes taken from a stream at a time: more than any usual message.
const CHUNK_BYTES: usize = 8 << 10;

/// The reading side of a stream.
#[derive(Debug)]
pub(crate) struct Reader<S> {
    stream: S,
    decoder: Decoder,
    chunk: Box<[u8]>,
}

impl<S: AsyncRead + Unpin> Reader<S> {
    /// Reads frames of at most so many bytes.
    pub(crate) fn new(stream: S, longest: u32) -> Self {
        Self { stream, decoder: Decoder::up_to(longest), chunk: vec![0; CHUNK_BYTES].into_boxed_slice() }
    }

    /// The stream without what was read ahead of the next frame.
    pub(crate) fn into_inner(self) -> S {
        self.stream
    }

    /// The next frame; `None` when the stream ends between frames.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        loop {
            if let Some(message) = self.decoder.next()? {
                return Ok(Some(message));
            }
            let count = self.stream.read(&mut self.chunk).await?;
            if count == 0 {
                let ended = io::Error::from(io::ErrorKind::UnexpectedEof);
                return if self.decoder.is_empty() { Ok(None) } else { Err(ended.into()) };
            }
            self.decoder.push(self.chunk.get(..count).unwrap_or_default());
        }
    }
}

/// Writes one frame and flushes. To be dropped halfway only together with the stream.
pub(crate) async fn write<T: Serialize>(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &T,
) -> Result<(), FrameError> {
    stream.write_all(&frame::encode(message)?).await?;
    Ok(stream.flush().await?)
}
