//! The TCP connection to a host, opened in another network namespace when one is named.

use std::fs::File;
use std::io;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::sync::oneshot;

use super::Target;

/// Folder of named network namespaces, as `ip netns` keeps it.
const NAMESPACES: &str = "/run/netns";

/// The file of a namespace: named, or given by its path.
#[must_use]
pub fn namespace(name: &str) -> PathBuf {
    Path::new(NAMESPACES).join(name)
}

/// Connects. A thread of its own does it: entering a namespace must not leak into the runtime's threads, and
/// looking up a name blocks.
pub(super) async fn dial(target: &Target) -> io::Result<tokio::net::TcpStream> {
    let (sender, receiver) = oneshot::channel();
    let target = target.clone();
    // The receiver is gone only when the caller has given up.
    thread::Builder::new().name("dial".into()).spawn(move || drop(sender.send(connect(&target))))?;
    let stream = receiver.await.map_err(|_| io::Error::other("the connecting thread ended early"))??;
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    tokio::net::TcpStream::from_std(stream)
}

fn connect(target: &Target) -> io::Result<TcpStream> {
    if let Some(name) = &target.netns {
        enter(name)?;
    }
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (target.address.as_str(), target.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, target.connect_timeout) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn enter(name: &str) -> io::Result<()> {
    let path = namespace(name);
    let context =
        |e: io::Error| io::Error::new(e.kind(), format!("enter network namespace {}: {e}", path.display()));
    let namespace = File::open(&path).map_err(context)?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|e| context(e.into()))
}
