//! One connection between two members, from its first byte to its end.
//!
//! ```text
//! TCP ── TLS, both sides with a certificate ── Hello from the dialer ── Hello from the listener ── messages
//! ```
//! Its end, by a reset or by silence, means that one way is lost and nothing more.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use base::frame::FrameError;
use cluster::member::Voter;
use cluster::message::{Message, PROTOCOL};
use rustix::net::sockopt;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsStream;

use crate::frames::{self, Reader};
use crate::outbox::{MAX_MESSAGE_BYTES, Outbox, Turn};
use crate::tls::{self, Identity};

/// Longest to wait for an answer to a connection request: some round trips across a country.
const CONNECT: Duration = Duration::from_secs(1);
/// Longest until both sides know each other.
const HANDSHAKE: Duration = Duration::from_secs(3);
/// Silence after which the kernel asks whether the other side is still there, and pause between questions. A
/// witness says nothing by itself.
const KEEPALIVE: Duration = Duration::from_secs(1);

/// The first message in each direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// Version of the language.
    pub(crate) protocol: u32,
    /// In which cluster,
    pub(crate) cluster: String,
    /// who speaks; the certificate must say the same.
    pub(crate) from: Voter,
}

impl Hello {
    pub(crate) fn new(cluster: &str, from: Voter) -> Self {
        Self { protocol: PROTOCOL, cluster: cluster.to_owned(), from }
    }
}

/// Why a connection did not come to pass, or ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// TCP or TLS failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What came is not the language.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// It took too long.
    #[error("no answer within {} ms", .0.as_millis())]
    Silent(Duration),
    /// The other side ended it.
    #[error("closed by the other side")]
    Closed,
    /// A newer connection took its place.
    #[error("replaced by a newer connection")]
    Replaced,
    /// Another version of the program.
    #[error(
        "it speaks version {theirs} of the members' language and this is version {PROTOCOL}: upgrade one of them"
    )]
    Protocol {
        /// Its version.
        theirs: u32,
    },
    /// It is not who it says, or not somebody to talk to here.
    #[error("it says that it is {said}, its certificate names {}", names.join(", "))]
    Stranger {
        /// What it says.
        said: String,
        /// What it can prove.
        names: Vec<String>,
    },
    /// The name of the cluster cannot be in a certificate.
    #[error("the cluster's name cannot be part of a host name: {0}")]
    Name(#[from] tokio_rustls::rustls::pki_types::InvalidDnsNameError),
}

/// A connection whose other side has proved who it is.
pub(crate) struct Link {
    reader: Reader<ReadHalf<TlsStream<TcpStream>>>,
    writer: WriteHalf<TlsStream<TcpStream>>,
}

/// One member that opens a connection to another.
#[derive(Clone, Debug)]
pub(crate) struct Dial {
    /// In which cluster.
    pub(crate) cluster: String,
    /// Who opens it.
    pub(crate) me: Voter,
    /// To whom.
    pub(crate) to: Voter,
    /// From which address; any for the witness.
    pub(crate) source: Option<IpAddr>,
    /// To which address.
    pub(crate) target: SocketAddr,
    /// How long unanswered data may stay so.
    pub(crate) silence: Duration,
}

impl Dial {
    /// Opens it.
    pub(crate) async fn open(&self, identity: &Identity) -> Result<Link, LinkError> {
        let stream = within(CONNECT, self.connect()).await?;
        within(HANDSHAKE, self.greet(identity, stream)).await
    }

    async fn connect(&self) -> Result<TcpStream, LinkError> {
        let socket = if self.target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(source) = self.source {
            socket.bind(SocketAddr::new(source, 0))?;
        }
        let stream = socket.connect(self.target).await?;
        prepare(&stream, self.silence)?;
        Ok(stream)
    }

    async fn greet(&self, identity: &Identity, stream: TcpStream) -> Result<Link, LinkError> {
        let name = tls::server_name(&self.cluster, self.to)?;
        let stream = identity.connector.connect(name, stream).await?;
        let mut link = Link::new(TlsStream::Client(stream));
        frames::write(&mut link.writer, &Hello::new(&self.cluster, self.me)).await?;
        let answer: Hello = link.reader.next().await?.ok_or(LinkError::Closed)?;
        if answer.protocol != PROTOCOL {
            return Err(LinkError::Protocol { theirs: answer.protocol });
        }
        // Its certificate was checked for the name that was dialled.
        if (answer.from, answer.cluster.as_str()) != (self.to, self.cluster.as_str()) {
            return Err(stranger(&answer, Vec::new()));
        }
        Ok(link)
    }
}

/// Takes a connection that another member has opened: `me` says who this is for the one that came, or nothing if
/// it is nobody to talk to.
pub(crate) async fn accept(
    identity: &Identity,
    stream: TcpStream,
    silence: Duration,
    me: impl FnOnce(&Hello) -> Option<Voter>,
) -> Result<(Link, Hello), LinkError> {
    prepare(&stream, silence)?;
    within(HANDSHAKE, async {
        let stream = identity.acceptor.accept(stream).await?;
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let names = certificates.first().map(tls::names_of).unwrap_or_default();
        let mut link = Link::new(TlsStream::Server(stream));
        let hello: Hello = link.reader.next().await?.ok_or(LinkError::Closed)?;
        if !names.contains(&tls::role_name(&hello.cluster, hello.from)) {
            return Err(stranger(&hello, names));
        }
        let Some(me) = me(&hello) else { return Err(stranger(&hello, names)) };
        // Also to another version: so that it can tell its people.
        frames::write(&mut link.writer, &Hello::new(&hello.cluster, me)).await?;
        if hello.protocol != PROTOCOL {
            return Err(LinkError::Protocol { theirs: hello.protocol });
        }
        Ok((link, hello))
    })
    .await
}

fn stranger(hello: &Hello, names: Vec<String>) -> LinkError {
    LinkError::Stranger { said: tls::role_name(&hello.cluster, hello.from), names }
}

impl Link {
    fn new(stream: TlsStream<TcpStream>) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self { reader: Reader::new(reader, MAX_MESSAGE_BYTES), writer }
    }

    /// Says what is in the outbox and hands on what is heard, until the connection ends: always with the reason.
    pub(crate) async fn converse(
        self,
        outbox: &Outbox,
        turn: Turn,
        silence: Duration,
        heard: impl FnMut(Message),
    ) -> LinkError {
        let Self { reader, writer } = self;
        tokio::select! {
            error = listen(reader, heard) => error,
            error = speak(writer, outbox, turn, silence) => error,
        }
    }
}

async fn listen(
    mut reader: Reader<ReadHalf<TlsStream<TcpStream>>>,
    mut heard: impl FnMut(Message),
) -> LinkError {
    loop {
        match reader.next().await {
            Ok(Some(message)) => heard(message),
            Ok(None) => return LinkError::Closed,
            // A process that was killed closes without the words of TLS.
            Err(FrameError::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return LinkError::Closed;
            }
            Err(error) => return error.into(),
        }
    }
}

async fn speak(
    mut writer: WriteHalf<TlsStream<TcpStream>>,
    outbox: &Outbox,
    turn: Turn,
    silence: Duration,
) -> LinkError {
    while let Some(parcel) = outbox.next(turn).await {
        let said = async {
            writer.write_all(&parcel.bytes).await?;
            writer.flush().await
        };
        match timeout(silence, said).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error.into(),
            Err(_) => return LinkError::Silent(silence),
        }
    }
    LinkError::Replaced
}

/// Small messages at once, and a dead way found out soon.
fn prepare(stream: &TcpStream, silence: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_tcp_user_timeout(stream, u32::try_from(silence.as_millis()).unwrap_or(u32::MAX))?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE)?;
    Ok(sockopt::set_tcp_keepintvl(stream, KEEPALIVE)?)
}

async fn within<T>(
    wait: Duration,
    future: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    timeout(wait, future).await.unwrap_or(Err(LinkError::Silent(wait)))
}
