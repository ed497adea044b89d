//! `lab publish`: the service of a lab on a port of this machine's loopback, so that a browser outside can look.
//!
//! The machine gets no route into the lab: the listening socket is made outside, and the thread that serves it has entered
//! the lab's network namespace, where it opens the other half of each connection.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use provision::inventory::Inventory;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::interrupt::Interrupt;
use crate::layout::Lab;
use crate::load;
use crate::up;

/// Connections at a time: a browser opens six to a site, and further ones wait until one has ended.
const CONNECTIONS: usize = 64;
/// After the system has refused to accept, such as for want of descriptors.
const REFUSED: Duration = Duration::from_millis(100);
/// Ports of the service.
pub(crate) const HTTP: u16 = 80;
const HTTPS: u16 = 443;
/// A port of this machine that is free on most.
const USUAL: u16 = 8080;

/// What is forwarded where.
#[derive(Debug)]
pub(crate) struct Publication {
    netns: PathBuf,
    service: SocketAddr,
    visit: Visit,
}

/// What somebody needs who wants to look at the site of a lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Visit {
    /// The command that publishes it.
    pub(crate) publish: String,
    /// Where, once it is published.
    pub(crate) url: String,
    /// Who logs in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    /// Where the password is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) password: Option<String>,
    /// What to know besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
}

impl Visit {
    /// Of a lab with this inventory, by the usual ports.
    pub(crate) fn of(lab: &Lab, inventory: &Inventory) -> Self {
        Self::to(lab, inventory, USUAL, HTTP)
    }

    /// The same, on a port of this machine that leads to a port of the service.
    fn to(lab: &Lab, inventory: &Inventory, port: u16, to: u16) -> Self {
        let site = inventory.site();
        let more = if to == HTTP { String::new() } else { format!(" --to {to}") };
        let secure = to == HTTPS;
        let scheme = if secure { "https" } else { "http" };
        let file = inventory.secrets.file().display();
        // WordPress writes the name of the site into every page; a redirect to TLS has it, too.
        let by_name = (site.redirect && !secure) || inventory.stack.as_deref() == Some("wordpress");
        let name = &inventory.cluster;
        let note = by_name.then(|| {
            format!(
                "its pages lead to {}: for a browser write \"127.0.0.1 {name}\" into /etc/hosts and publish the port of that \
                 URL; for one page: curl --connect-to {name}::127.0.0.1:{port} {}{}",
                site.url, site.url, site.path
            )
        });
        Self {
            publish: format!("futago lab publish {port} --name {lab}{more}"),
            url: format!("{scheme}://127.0.0.1:{port}{}", site.path),
            user: site.administrator.as_ref().map(|one| one.user.clone()),
            password: site.administrator.map(|one| format!("{} in {file}", one.password)),
            note,
        }
    }
}

impl fmt::Display for Visit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "url: {}", self.url)?;
        let more = [("user", &self.user), ("password", &self.password), ("note", &self.note)];
        more.iter().try_for_each(|(name, text)| match text {
            Some(text) => write!(f, "\n{name}: {text}"),
            None => Ok(()),
        })
    }
}

/// Publishes the service of a lab until the user wants to stop.
pub(crate) fn run(lab: &Lab, port: u16, to: u16, interrupt: &Interrupt) -> anyhow::Result<()> {
    up::has_network(lab)?;
    let inventory = Inventory::load(&lab.inventory())
        .map_err(|problems| anyhow!("{problems}"))
        .with_context(|| format!("read the virtual address of lab `{lab}`"))?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).with_context(|| {
        format!("listen on 127.0.0.1 port {port}: name another PORT, or 0 for one that is free")
    })?;
    let port = listener.local_addr().context("look at the listening socket")?.port();
    let publication = Publication {
        netns: lab.netns_path(),
        service: (inventory.virtual_ip.address, to).into(),
        visit: Visit::to(lab, &inventory, port, to),
    };
    println!("{}", publication.visit);
    eprintln!("publishing {} of lab `{lab}`; Ctrl-C ends it", publication.service);
    let interrupt = interrupt.clone();
    let thread = std::thread::Builder::new().name("publish".to_owned());
    let served = thread.spawn(move || publication.serve(listener, &interrupt)).context("start a thread")?;
    served.join().map_err(|_| anyhow!("the publishing thread has failed; this is a bug"))?
}

impl Publication {
    fn serve(&self, listener: TcpListener, interrupt: &Interrupt) -> anyhow::Result<()> {
        load::enter(&self.netns)?;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
        runtime.block_on(async {
            tokio::select! {
                failed = self.accept(listener) => failed,
                () = interrupt.told() => Ok(()),
            }
        })
    }

    /// Ends only with an error.
    async fn accept(&self, listener: TcpListener) -> anyhow::Result<()> {
        listener.set_nonblocking(true).context("prepare the listening socket")?;
        let listener = tokio::net::TcpListener::from_std(listener).context("prepare the listening socket")?;
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let place = Arc::clone(&places).acquire_owned().await.context("wait for a place")?;
            let (mut outside, _) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    eprintln!("accept a connection: {error}");
                    tokio::time::sleep(REFUSED).await;
                    continue;
                }
            };
            let service = self.service;
            tokio::spawn(async move {
                let _place = place;
                match TcpStream::connect(service).await {
                    // Whoever ends it early is a visitor who has seen enough.
                    Ok(mut inside) => {
                        drop(tokio::io::copy_bidirectional(&mut outside, &mut inside).await);
                    }
                    Err(error) => eprintln!("connect to {service} in the lab: {error}"),
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn visit(more: &str, to: u16) -> Visit {
        let text = format!("{}{more}", include_str!("../../inventory/example.yml"));
        Visit::to(
            &"x".parse().unwrap(),
            &Inventory::parse(Path::new("/lab/ha.yml"), &text).unwrap(),
            8080,
            to,
        )
    }

    #[test]
    fn a_visitor_is_told_the_url_and_where_the_password_is() {
        assert_eq!(
            visit("stack: zabbix\n", 80).to_string(),
            "url: http://127.0.0.1:8080/zabbix/\nuser: Admin\n\
             password: zabbix_admin_password in /lab/.futago/ha.secrets.yml"
        );
        let secure = visit("stack: lamp\n", HTTPS);
        assert_eq!(secure.url, "https://127.0.0.1:8080/");
        assert_eq!(secure.publish, "futago lab publish 8080 --name x --to 443");
        let note = visit("stack: wordpress\n", 80).note.unwrap();
        assert!(note.contains("\"127.0.0.1 ha.example.com\" into /etc/hosts"), "{note}");
    }
}
