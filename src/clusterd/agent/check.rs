//! Deep looks at a service: does it answer, not only live? Each says what it has seen.
//!
//! A server that hangs is found by the deadline: it is a timeout, not a wait.

use std::time::Duration;

use cluster::config::Check;
use cluster::event::{AgentOutcome, AgentResult};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};

use super::child::{Run, RunError};
use super::{done, outcome};

/// The longest page that is searched for a text: a health page is small.
const PAGE: usize = 1024 * 1024;
/// A MariaDB packet that a look reads: greetings and error messages are below 1 KiB.
const PACKET: usize = 16 * 1024;
/// Ways to log in that a server may propose one after the other; root has two.
const METHODS: usize = 4;
/// Left of the deadline for a command to be killed in.
const SHORT: Duration = Duration::from_millis(100);

/// Looks once. A failed look is `Failed`, a late one `TimedOut`.
pub(super) async fn look(check: &Check, deadline: Instant) -> AgentOutcome {
    let (what, seen) = match check {
        Check::Http { url, contains } => {
            (format!("GET {url}"), timeout_at(deadline, http(url, contains.as_deref())).await)
        }
        Check::Tcp { address } => (format!("connect to {address}"), timeout_at(deadline, tcp(address)).await),
        Check::Sql { socket } => {
            (format!("ask MariaDB at {socket}"), timeout_at(deadline, sql(socket)).await)
        }
        Check::Command { argv } => return command(argv, deadline).await,
    };
    match seen {
        Ok(Ok(())) => done(),
        Ok(Err(problem)) => outcome(AgentResult::Failed, format!("{what}: {problem}")),
        Err(_) => outcome(AgentResult::TimedOut, format!("{what}: no answer in time")),
    }
}

async fn http(url: &str, contains: Option<&str>) -> Result<(), String> {
    let uri: hyper::Uri = url.parse().map_err(|error| format!("not a URL: {error}"))?;
    let authority = uri.authority().ok_or("the URL names no host")?;
    if uri.scheme_str() != Some("http") {
        return Err("only http:// is understood".to_owned());
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(80))).await;
    let stream = stream.map_err(|error| format!("connect: {error}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let ask = async {
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let request = Request::get(path).header("host", authority.as_str()).header("user-agent", "futago");
        let request = request.header("connection", "close").body(Empty::<Bytes>::new());
        let request = request.map_err(|error| error.to_string())?;
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        if !status.is_success() && !status.is_redirection() {
            return Err(format!("the answer was {status}"));
        }
        let Some(text) = contains else { return Ok(()) };
        let page =
            Limited::new(answer.into_body(), PAGE).collect().await.map_err(|error| error.to_string())?;
        let page = page.to_bytes();
        let found = text.is_empty() || page.windows(text.len()).any(|part| part == text.as_bytes());
        if found {
            Ok(())
        } else {
            Err(format!("the answer, {} bytes, does not contain `{text}`", page.len()))
        }
    };
    tokio::pin!(connection);
    tokio::pin!(ask);
    tokio::select! {
        answer = &mut ask => answer,
        ended = &mut connection => match ended {
            // The server may close before the answer has been read to its end.
            Ok(()) => ask.await,
            Err(error) => Err(error.to_string()),
        },
    }
}

async fn tcp(address: &str) -> Result<(), String> {
    TcpStream::connect(address).await.map(drop).map_err(|error| error.to_string())
}

/// MariaDB greets whoever connects; then root, known by its socket as Debian sets it up, logs in and pings.
/// The greeting proves that connections are accepted, the answer to the login that a thread could be had and the
/// privilege tables be read, even if it is a refusal: then there is no ping. That queries on data succeed is only
/// proven by a command.
async fn sql(socket: &str) -> Result<(), String> {
    let mut stream = UnixStream::connect(socket).await.map_err(|error| format!("connect: {error}"))?;
    let (_, greeting) = receive(&mut stream).await?;
    match greeting.first() {
        // "Too many connections" and the like.
        Some(0xff) => return Err(format!("it refuses connections: {}", message(&greeting))),
        Some(10) => {}
        _ => return Err("what answers is not MariaDB".to_owned()),
    }
    send(&mut stream, 1, &login()).await?;
    for _ in 0..METHODS {
        let (sequence, answer) = receive(&mut stream).await?;
        match answer.first() {
            Some(0x00) => return ping(&mut stream).await,
            // Another way to log in: for root it is the socket itself, and there is nothing to say.
            Some(0xfe) => send(&mut stream, sequence.wrapping_add(1), &[]).await?,
            Some(0xff) => {
                return match answer.get(1..3) {
                    // ER_ACCESS_DENIED_ERROR 1045, ER_ACCESS_DENIED_NO_PASSWORD_ERROR 1698.
                    Some([0x15, 0x04] | [0xa2, 0x06]) => Ok(()),
                    _ => Err(format!("it refuses the login: {}", message(&answer))),
                };
            }
            _ => break,
        }
    }
    Err("its answer to a login is none of MariaDB's".to_owned())
}

async fn ping(stream: &mut UnixStream) -> Result<(), String> {
    const COM_PING: u8 = 14;
    const COM_QUIT: u8 = 1;
    send(stream, 0, &[COM_PING]).await?;
    let (_, answer) = receive(stream).await?;
    if answer.first() != Some(&0) {
        return Err(format!("it does not answer a ping: {}", message(&answer)));
    }
    send(stream, 0, &[COM_QUIT]).await
}

/// A login as root without a password (protocol 4.1).
fn login() -> Vec<u8> {
    const CLIENT_PROTOCOL_41: u32 = 0x200;
    const CLIENT_SECURE_CONNECTION: u32 = 0x8000;
    const CLIENT_PLUGIN_AUTH: u32 = 0x8_0000;
    let mut body =
        (CLIENT_PROTOCOL_41 | CLIENT_SECURE_CONNECTION | CLIENT_PLUGIN_AUTH).to_le_bytes().to_vec();
    body.extend(65_536_u32.to_le_bytes());
    // utf8mb4, then 23 bytes that are reserved.
    body.push(45);
    body.extend([0; 23]);
    body.extend(b"root\0");
    // No password.
    body.push(0);
    body.extend(b"mysql_native_password\0");
    body
}

async fn send(stream: &mut UnixStream, sequence: u8, body: &[u8]) -> Result<(), String> {
    let [low, middle, high, _] = u32::try_from(body.len()).unwrap_or_default().to_le_bytes();
    let mut packet = vec![low, middle, high, sequence];
    packet.extend(body);
    stream.write_all(&packet).await.map_err(|error| format!("send: {error}"))
}

async fn receive(stream: &mut UnixStream) -> Result<(u8, Vec<u8>), String> {
    let mut header = [0; 4];
    let lost = |error: std::io::Error| format!("no answer: {error}");
    stream.read_exact(&mut header).await.map_err(lost)?;
    let [low, middle, high, sequence] = header;
    let length = usize::from(low) | usize::from(middle) << 8 | usize::from(high) << 16;
    if length > PACKET {
        return Err(format!("what answers is not MariaDB: a packet of {length} bytes"));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.map_err(lost)?;
    Ok((sequence, body))
}

/// Text of an error packet: behind its marker, its number, and `#` with five characters of state.
fn message(packet: &[u8]) -> String {
    let text = packet.get(3..).unwrap_or_default();
    let text = if text.first() == Some(&b'#') { text.get(6..).unwrap_or_default() } else { text };
    String::from_utf8_lossy(text).into_owned()
}

async fn command(argv: &[String], deadline: Instant) -> AgentOutcome {
    let Some((program, arguments)) = argv.split_first() else {
        return outcome(AgentResult::Nowhere, "the check is an empty command");
    };
    match Run::new(program).args(arguments).until(deadline - SHORT).await {
        Ok(finished) if finished.code() == Some(0) => done(),
        Ok(finished) => outcome(AgentResult::Failed, format!("check {program}: {}", finished.reason())),
        Err(error @ RunError::Start { .. }) => outcome(AgentResult::NotHere, format!("check: {error}")),
        Err(error) => outcome(AgentResult::TimedOut, format!("check: {error}")),
    }
}
