//! The bytes of a connection: as they are, or over TLS. Never waits.

use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags};
use rustls::Connection;

use super::link::LinkEnd;

/// Encrypted bytes taken from the socket in one call.
const CHUNK: usize = 256 << 10;
/// Bytes encrypted at a time.
const ENCRYPTED: usize = 256 << 10;

/// A connected, non-blocking socket, with or without TLS.
#[derive(Debug)]
pub(super) struct Wire {
    socket: TcpStream,
    tls: Option<Box<Tls>>,
}

#[derive(Debug)]
struct Tls {
    connection: Connection,
    /// Taken from the socket, not yet decrypted.
    chunk: Vec<u8>,
    start: usize,
    end: usize,
}

impl Wire {
    /// Bytes go as they are.
    pub(super) fn clear(socket: TcpStream) -> Self {
        Self { socket, tls: None }
    }

    /// The handshake is still to be made: [`Self::greet`].
    pub(super) fn secured(socket: TcpStream, mut connection: Connection) -> Self {
        connection.set_buffer_limit(Some(ENCRYPTED));
        let tls = Tls { connection, chunk: vec![0; CHUNK], start: 0, end: 0 };
        Self { socket, tls: Some(Box::new(tls)) }
    }

    /// Goes on with the handshake. `true`: it is over, or there is none.
    pub(super) fn greet(&mut self) -> Result<bool, LinkEnd> {
        let greeted = self.shake_hands();
        if greeted.is_err() {
            // What TLS says to the peer about it, if that still gets there.
            let _ = self.push();
        }
        greeted.map_err(|end| match end {
            LinkEnd::Tls(rustls::Error::InvalidMessage(_)) => LinkEnd::OnlyHereTls,
            end => end,
        })
    }

    fn shake_hands(&mut self) -> Result<bool, LinkEnd> {
        loop {
            self.push()?;
            let Some(tls) = &mut self.tls else { return Ok(true) };
            if !tls.connection.is_handshaking() {
                return Ok(true);
            }
            if !tls.take_in(&self.socket)? {
                return Ok(false);
            }
        }
    }

    /// The peer's own certificate, in DER; none without TLS.
    pub(super) fn certificate(&self) -> Option<&rustls::pki_types::CertificateDer<'static>> {
        self.tls.as_ref()?.connection.peer_certificates()?.first()
    }

    /// Whether encrypted bytes wait for the socket.
    pub(super) fn has_queued(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.connection.wants_write())
    }

    /// Fills the buffers in their order. `None` when there is nothing to read now; 0 when the peer has closed.
    pub(super) fn read(&mut self, mut buffers: [&mut [u8]; 2]) -> Result<Option<usize>, LinkEnd> {
        match &mut self.tls {
            None => {
                let mut buffers = buffers.map(IoSliceMut::new);
                retried(|| rustix::io::readv(&self.socket, &mut buffers))
            }
            Some(tls) => loop {
                if let Some(len) = tls.decrypted(&mut buffers)? {
                    return Ok(Some(len));
                }
                if !tls.take_in(&self.socket)? {
                    return Ok(None);
                }
            },
        }
    }

    /// Sends from these pieces. `None` when the socket takes nothing now.
    pub(super) fn write(&mut self, pieces: &[IoSlice<'_>]) -> Result<Option<usize>, LinkEnd> {
        if self.tls.is_none() {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            return retried(|| {
                rustix::net::sendmsg(&self.socket, pieces, &mut SendAncillaryBuffer::default(), flags)
            });
        }
        if !self.push()? {
            return Ok(None);
        }
        let Some(tls) = &mut self.tls else { return Ok(None) };
        let len = tls.connection.writer().write_vectored(pieces).map_err(network)?;
        self.push()?;
        Ok(Some(len))
    }

    /// Sends what is encrypted. `false` when the socket does not take all of it now.
    pub(super) fn push(&mut self) -> Result<bool, LinkEnd> {
        let Some(tls) = &mut self.tls else { return Ok(true) };
        while tls.connection.wants_write() {
            match tls.connection.write_tls(&mut &self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(network(error)),
            }
        }
        Ok(true)
    }

    /// Says to the peer that nothing more will come.
    pub(super) fn shut(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.connection.send_close_notify();
        }
        // Both fail only when the connection is gone already.
        let _ = self.push();
        let _ = self.socket.shutdown(std::net::Shutdown::Write);
    }

    /// Reads and forgets; `false` when the peer has closed.
    pub(super) fn discard(&self, scratch: &mut [u8]) -> bool {
        loop {
            match retried(|| rustix::io::read(&self.socket, &mut *scratch)) {
                Ok(Some(0)) | Err(_) => return false,
                Ok(Some(_)) => {}
                Ok(None) => return true,
            }
        }
    }
}

impl Tls {
    /// Decrypts some of what the socket has. `false` when it has nothing now.
    fn take_in(&mut self, socket: &TcpStream) -> Result<bool, LinkEnd> {
        if self.start == self.end {
            let Some(len) = retried(|| rustix::io::read(socket, &mut self.chunk[..]))? else {
                return Ok(false);
            };
            if len == 0 {
                return Err(LinkEnd::Closed);
            }
            (self.start, self.end) = (0, len);
        }
        let mut fresh = self.chunk.get(self.start..self.end).unwrap_or_default();
        // From memory: what is not taken now has its turn when what was decrypted is read.
        self.start += self.connection.read_tls(&mut fresh).map_err(network)?;
        self.connection.process_new_packets()?;
        Ok(true)
    }

    /// Moves decrypted bytes into the buffers. `None` when there are none; 0 when the peer has said that no more come.
    fn decrypted(&mut self, buffers: &mut [&mut [u8]; 2]) -> Result<Option<usize>, LinkEnd> {
        let mut reader = self.connection.reader();
        let mut moved = 0;
        for buffer in buffers {
            let mut rest = &mut **buffer;
            while !rest.is_empty() {
                match reader.read(rest) {
                    Ok(0) => return Ok(Some(moved)),
                    Ok(len) => {
                        moved += len;
                        rest = rest.get_mut(len..).unwrap_or_default();
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        return Ok((moved > 0).then_some(moved));
                    }
                    Err(error) => return Err(network(error)),
                }
            }
        }
        Ok(Some(moved))
    }
}

/// `None`: it would have to wait.
fn retried(mut call: impl FnMut() -> Result<usize, Errno>) -> Result<Option<usize>, LinkEnd> {
    loop {
        match call() {
            Ok(len) => return Ok(Some(len)),
            Err(Errno::AGAIN) => return Ok(None),
            Err(Errno::INTR) => {}
            Err(error) => return Err(LinkEnd::Network(error)),
        }
    }
}

fn network(error: io::Error) -> LinkEnd {
    LinkEnd::Network(Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
