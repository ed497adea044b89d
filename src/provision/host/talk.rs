//! A program on a host that is spoken to in lines, and a connection that a host opens for us.

use std::net::SocketAddr;

use russh::client::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::io::{AsyncRead, AsyncWrite};

use super::HostError;
use super::channel::Tail;
use super::jump::{forward, why};
use super::root::Begun;
use super::shell::Shell;

/// A line longer than this is cut: whoever talks in lines has none that long.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// A running program: a line goes to its stdin, a line comes from its stdout.
pub struct Talk {
    reader: ChannelReadHalf,
    writer: ChannelWriteHalf<Msg>,
    heard: Vec<u8>,
    complaint: Tail,
}

impl Shell {
    /// Starts a program as root.
    pub async fn talk(&self, words: &[&str]) -> Result<Talk, HostError> {
        let Begun { reader, writer, said, complaint, .. } = self.begin(words, None).await?;
        Ok(Talk { reader, writer, heard: said, complaint })
    }

    /// A TCP connection from the host to an address, as far as its SSH server allows that.
    pub async fn tunnel(
        &self,
        to: SocketAddr,
    ) -> Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static, HostError> {
        let failed = |error: russh::Error| HostError::Tunnel {
            host: self.target.name.clone(),
            to,
            reason: why(&error),
        };
        forward(&self.handle, &to.ip().to_string(), to.port()).await.map_err(failed)
    }
}

impl Talk {
    /// Sends a line.
    pub async fn say(&self, line: &str) -> Result<(), String> {
        self.writer.data(format!("{line}\n").as_bytes()).await.map_err(|error| error.to_string())
    }

    /// The next line that it says, without its end; none when it has ended.
    pub async fn hear(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.heard.drain(..=end).collect();
                return Some(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            self.heard.truncate(MAX_LINE_BYTES);
            match self.reader.wait().await? {
                ChannelMsg::Data { data } => self.heard.extend_from_slice(&data),
                ChannelMsg::ExtendedData { data, .. } => self.complaint.push(&data),
                _ => {}
            }
        }
    }

    /// The last it has said on stderr.
    #[must_use]
    pub fn complaint(&self) -> String {
        self.complaint.said()
    }

    /// Has nothing more to say. A program that reads its stdin ends by that.
    pub async fn end(self) {
        // A connection that is gone has ended it already.
        let _ = self.writer.eof().await;
        let _ = self.writer.close().await;
    }
}
