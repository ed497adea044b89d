//! Asks for the page of the site through the virtual address, as its visitors do.
//!
//! Directly, or through a connection that the witness opens where nothing leads to the virtual address from here. Any answer
//! that is whole and has a code below 500 is service.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use provision::host::{Shell, namespace};
use provision::inventory::Inventory;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::hosts::{Hosts, over_ssh};
use super::tls;
use crate::load::{Ask, Pace, enter};

/// Patience for one request: a page may need several queries.
pub(super) const PACE: Pace = Pace { every_ms: 50, patience_ms: 1000 };
/// More of a page is not read.
const MAX_ANSWER_BYTES: u64 = 1 << 20;
/// For a request that finds out whether there is a way.
const PROBE: Duration = Duration::from_secs(10);

/// What is asked for, and how.
#[derive(Clone)]
pub(super) struct Page {
    address: SocketAddr,
    request: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    through: Option<Arc<Shell>>,
}

/// A page and how its visitor gets there.
pub(super) struct Visitor {
    pub(super) page: Page,
    pub(super) netns: Option<PathBuf>,
    /// For who reads.
    pub(super) url: String,
    pub(super) way: String,
}

impl Visitor {
    /// Finds a way to the virtual address: from here, else through the witness.
    pub(super) fn find(inventory: &Inventory, hosts: &Hosts) -> anyhow::Result<Self> {
        let site = inventory.site();
        let url = format!("{}{}", site.url, site.path);
        let page = Page::of(inventory)?;
        let netns = inventory.ssh.netns.as_deref().map(namespace);
        let from_here = match probe(page.clone(), netns.clone()) {
            Ok(()) => {
                return Ok(Self { page, netns, url, way: "straight to the virtual address".to_owned() });
            }
            Err(error) => error,
        };
        let address = page.address;
        let Some(witness) = &inventory.witness else {
            bail!(
                "ask for {url} at {address}: {from_here:#}; run this on a machine that reaches the virtual address"
            );
        };
        let shell = hosts.runtime.block_on(Shell::connect(over_ssh(inventory)?.target(witness)))?;
        let page = Page { through: Some(Arc::new(shell)), ..page };
        probe(page.clone(), None).map_err(|error| {
            anyhow!(
                "ask for {url} at {address}: from here: {from_here:#}; through {}: {error:#}; see that the site answers, and run \
                 this on a machine that reaches the virtual address",
                witness.name
            )
        })?;
        eprintln!("{url} is not reached from here ({from_here:#}): the client asks through {}", witness.name);
        Ok(Self { page, netns: None, url, way: format!("through {}", witness.name) })
    }
}

impl Page {
    fn of(inventory: &Inventory) -> anyhow::Result<Self> {
        let site = inventory.site();
        let name = &inventory.cluster;
        // HTTP/1.0: the answer comes in one piece and ends with the connection.
        let request =
            format!("GET {} HTTP/1.0\r\nHost: {name}\r\nUser-Agent: futago drill\r\n\r\n", site.path);
        let tls = if site.redirect {
            let server = ServerName::try_from(name.clone()).with_context(|| format!("ask {name} by TLS"))?;
            Some((tls::connector(&inventory.https)?, server))
        } else {
            None
        };
        let port = if tls.is_some() { 443 } else { 80 };
        Ok(Self { address: (inventory.virtual_ip.address, port).into(), request, tls, through: None })
    }

    async fn secured(&self, stream: impl AsyncRead + AsyncWrite + Send + Unpin) -> Result<(), String> {
        match &self.tls {
            None => self.exchange(stream).await,
            Some((connector, server)) => {
                let stream =
                    connector.connect(server.clone(), stream).await.map_err(|error| error.to_string())?;
                self.exchange(stream).await
            }
        }
    }

    async fn exchange(&self, mut stream: impl AsyncRead + AsyncWrite + Send + Unpin) -> Result<(), String> {
        let few = |error: std::io::Error| error.kind().to_string();
        stream.write_all(self.request.as_bytes()).await.map_err(few)?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer).await.map_err(few)?;
        judge(&answer)
    }
}

impl Ask for Page {
    async fn ask(&self, _: u64) -> Result<(), String> {
        match &self.through {
            None => {
                let stream =
                    TcpStream::connect(self.address).await.map_err(|error| error.kind().to_string())?;
                self.secured(stream).await
            }
            Some(shell) => {
                let stream =
                    shell.tunnel(self.address).await.map_err(|_| "no connection from there".to_owned())?;
                self.secured(stream).await
            }
        }
    }
}

/// One request, from a thread that may enter another network namespace.
fn probe(page: Page, netns: Option<PathBuf>) -> anyhow::Result<()> {
    let asked = std::thread::spawn(move || {
        netns.map_or(Ok(()), |at| enter(&at))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let limit = || anyhow!("no answer within {} s", PROBE.as_secs());
        runtime.block_on(async {
            let asked = tokio::time::timeout(PROBE, page.ask(0)).await.map_err(|_| limit())?;
            asked.map_err(|reason| anyhow!(reason))
        })
    });
    asked.join().map_err(|_| anyhow!("the asking thread has failed; this is a bug"))?
}

/// Why an answer is no service.
fn judge(answer: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(answer);
    let first: String = text.lines().next().unwrap_or("an empty answer").chars().take(80).collect();
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return Err(first) };
    let code = first.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok());
    if !first.starts_with("HTTP/1.") || code.is_none_or(|code| code >= 500) {
        return Err(first);
    }
    let head = String::from_utf8_lossy(answer.get(..end).unwrap_or_default()).to_ascii_lowercase();
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    let body = answer.len().saturating_sub(end + 4);
    let cut = u64::try_from(answer.len()).is_ok_and(|length| length >= MAX_ANSWER_BYTES);
    if !cut && length.is_some_and(|length| body < length) {
        return Err("an answer that is cut off".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_answer_below_500_is_service_and_nothing_else() {
        for good in [
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            "HTTP/1.1 301 Moved\r\n\r\n",
            "HTTP/1.0 404 Not Found\r\n\r\nno",
        ] {
            assert_eq!(judge(good.as_bytes()), Ok(()), "{good}");
        }
        for (bad, reason) in [
            ("", "an empty answer"),
            ("HTTP/1.1 500 Internal Server Error\r\n\r\nno", "HTTP/1.1 500 Internal Server Error"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi", "an answer that is cut off"),
            ("HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK"),
            ("SSH-2.0-OpenSSH\r\n\r\n", "SSH-2.0-OpenSSH"),
        ] {
            assert_eq!(judge(bad.as_bytes()), Err(reason.to_owned()));
        }
    }
}
