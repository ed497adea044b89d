//! A request that writes a row: it counts as acknowledged when the page has answered `ok N` in full.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::client::{Ask, Pace};

/// The patience is some twenty times what a healthy request takes, and short enough that those of an outage do not pile up.
pub(crate) const PACE: Pace = Pace { every_ms: 20, patience_ms: 300 };
/// An answer is one short line; a page of errors is cut off here.
const MAX_ANSWER_BYTES: u64 = 4096;

/// The page, by its server.
#[derive(Debug)]
pub(crate) struct RowPage(pub(crate) SocketAddr);

impl Ask for RowPage {
    async fn ask(&self, id: u64) -> Result<(), String> {
        let answer = get(self.0, id).await.map_err(|error| error.kind().to_string())?;
        if is_acknowledgement(&answer, id) {
            return Ok(());
        }
        Err(answer.lines().next().unwrap_or("an empty answer").chars().take(80).collect())
    }
}

/// HTTP/1.0: the answer ends with the connection and comes in one piece.
async fn get(address: SocketAddr, id: u64) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let host = address.ip();
    let request = format!("GET /row.php?id={id} HTTP/1.0\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::new();
    stream.take(MAX_ANSWER_BYTES).read_to_end(&mut bytes).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn is_acknowledgement(answer: &str, id: u64) -> bool {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return false };
    let status = head.split(' ').nth(1);
    status == Some("200") && body.trim_end() == format!("ok {id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_to_the_very_request_acknowledges_it() {
        assert!(is_acknowledgement("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nok 7\n", 7));
        assert!(!is_acknowledgement("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nok 8\n", 7));
        assert!(!is_acknowledgement("HTTP/1.0 503 Busy\r\n\r\nok 7", 7));
        assert!(!is_acknowledgement("HTTP/1.0 200 OK\r\n\r\nok 7 not committed", 7));
        assert!(!is_acknowledgement("HTTP/1.0 200 OK\r\n\r\nok ", 7));
    }
}
