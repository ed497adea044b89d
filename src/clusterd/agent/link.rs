//! One interface and its addresses over rtnetlink(7): set, remove, read, and hear of changes.

use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::pin;

use anyhow::{Context as _, bail};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, CacheInfo};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::{AddressMessageBuilder, Handle, MulticastGroup};
use tokio::task::JoinHandle;
use zbus::export::futures_core::Stream;

use super::arp::Mac;

/// A connection to the kernel for one address on one interface.
pub(super) struct Link {
    handle: Handle,
    tasks: Vec<JoinHandle<()>>,
}

/// An interface as it is now.
#[derive(Clone, Copy)]
pub(super) struct Interface {
    pub(super) index: u32,
    /// Up, and with a carrier.
    pub(super) is_up: bool,
    /// Neighbours can be asked on it.
    pub(super) mac: Option<Mac>,
}

/// An address on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The kernel is still asking whether somebody else has it.
    pub(super) is_tentative: bool,
    /// Somebody else has it.
    pub(super) is_duplicate: bool,
    /// Another address on the interface is of the same network.
    pub(super) has_company: bool,
    /// It is there.
    pub(super) is_present: bool,
}

/// What the kernel tells.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// An address was removed, or its lifetime has ended.
    Removed { index: u32, address: IpAddr },
    /// An address was added or is in another state: the kernel's own check of it is over, its lifetime is new.
    Changed { index: u32, address: IpAddr },
    /// An interface changed.
    Interface { index: u32, is_up: bool },
    /// The kernel had more to tell than it could: look again.
    Lost,
    /// Of no interest.
    Other,
}

/// The stream of news.
pub(super) struct Newsfeed(
    Box<dyn Stream<Item = (NetlinkMessage<RouteNetlinkMessage>, rtnetlink::sys::SocketAddr)> + Send + Unpin>,
);

impl Link {
    /// Opens the connections.
    pub(super) fn open() -> anyhow::Result<(Self, Newsfeed)> {
        let (connection, handle, _) = rtnetlink::new_connection().context("open a netlink socket")?;
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        let (events, _, news) =
            rtnetlink::new_multicast_connection(&groups).context("open a netlink socket for events")?;
        let tasks = vec![tokio::spawn(connection), tokio::spawn(events)];
        Ok((Self { handle, tasks }, Newsfeed(Box::new(news))))
    }

    /// Reads an interface by its name.
    pub(super) async fn interface(&self, name: &str) -> anyhow::Result<Interface> {
        let request = self.handle.link().get().match_name(name.to_owned()).execute();
        let message = first(request).await.with_context(|| format!("find the interface {name}"))?;
        let Some(message) = message else { bail!("find the interface {name}: there is none") };
        Ok(Interface { index: message.header.index, is_up: is_up(&message), mac: mac(&message) })
    }

    /// Adds an address, or gives it a new lifetime.
    pub(super) async fn set(
        &self,
        index: u32,
        address: IpAddr,
        prefix: u8,
        seconds: u32,
        has_company: bool,
    ) -> anyhow::Result<()> {
        let mut request = self.handle.address().add(index, address, prefix).replace();
        let mut lifetime = CacheInfo::default();
        lifetime.ifa_valid = seconds;
        lifetime.ifa_preferred = seconds;
        let attributes = &mut request.message_mut().attributes;
        attributes.push(AddressAttribute::CacheInfo(lifetime));
        if address.is_ipv6() && has_company {
            // The route to the network would get our lifetime, and end with it, although others need it.
            attributes.push(AddressAttribute::Flags(AddressFlags::Noprefixroute));
        }
        request.execute().await.with_context(|| format!("set {address}/{prefix} for {seconds} s"))
    }

    /// Removes an address; one that is not there is removed.
    pub(super) async fn remove(&self, index: u32, address: IpAddr, prefix: u8) -> anyhow::Result<()> {
        let message = match address {
            IpAddr::V4(address) => {
                AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(address, prefix).build()
            }
            IpAddr::V6(address) => {
                AddressMessageBuilder::<Ipv6Addr>::new().index(index).address(address, prefix).build()
            }
        };
        match self.handle.address().del(message).execute().await {
            Err(rtnetlink::Error::NetlinkError(error)) if is_absent(error.raw_code()) => Ok(()),
            other => other.with_context(|| format!("remove {address}/{prefix}")),
        }
    }

    /// Looks for an address on an interface.
    pub(super) async fn find(&self, index: u32, address: IpAddr, prefix: u8) -> anyhow::Result<Found> {
        let request = self.handle.address().get().set_link_index_filter(index).execute();
        let mut stream = pin!(request);
        let mut found =
            Found { is_tentative: false, is_duplicate: false, has_company: false, is_present: false };
        while let Some(message) = poll_fn(|context| stream.as_mut().poll_next(context)).await {
            let message = message.with_context(|| format!("list the addresses to find {address}"))?;
            let Some(other) = of(&message) else { continue };
            if other == address {
                found.is_present = true;
                let flags = flags(&message);
                found.is_tentative = flags.contains(AddressFlags::Tentative);
                found.is_duplicate = flags.contains(AddressFlags::Dadfailed);
            } else {
                found.has_company |= network(other, prefix) == network(address, prefix);
            }
        }
        Ok(found)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Newsfeed {
    /// The next news; `None` when the connection is gone.
    pub(super) async fn next(&mut self) -> Option<News> {
        let (message, _) = poll_fn(|context| std::pin::Pin::new(&mut self.0).poll_next(context)).await?;
        Some(match message.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelAddress(message)) => match of(&message) {
                Some(address) => News::Removed { index: message.header.index, address },
                None => News::Other,
            },
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(message)) => match of(&message) {
                Some(address) => News::Changed { index: message.header.index, address },
                None => News::Other,
            },
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message)) => {
                News::Interface { index: message.header.index, is_up: is_up(&message) }
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(message)) => {
                News::Interface { index: message.header.index, is_up: false }
            }
            NetlinkPayload::Overrun(_) => News::Lost,
            _ => News::Other,
        })
    }
}

/// The first of a stream of answers.
async fn first<T>(
    stream: impl Stream<Item = Result<T, rtnetlink::Error>>,
) -> Result<Option<T>, rtnetlink::Error> {
    let mut stream = pin!(stream);
    let mut answer = None;
    while let Some(item) = poll_fn(|context| stream.as_mut().poll_next(context)).await {
        answer = answer.or(Some(item?));
    }
    Ok(answer)
}

fn is_up(message: &LinkMessage) -> bool {
    message.header.flags.contains(LinkFlags::Up) && message.header.flags.contains(LinkFlags::LowerUp)
}

fn mac(message: &LinkMessage) -> Option<Mac> {
    let flags = message.header.flags;
    if flags.intersects(LinkFlags::Loopback | LinkFlags::Noarp) {
        return None;
    }
    message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(bytes) => bytes.as_slice().try_into().ok().map(Mac),
        _ => None,
    })
}

/// Of a point-to-point interface the attribute `Address` is the other end.
fn of(message: &AddressMessage) -> Option<IpAddr> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
}

fn flags(message: &AddressMessage) -> AddressFlags {
    let found = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Flags(flags) => Some(*flags),
        _ => None,
    });
    found.unwrap_or(AddressFlags::empty())
}

/// Its first bits, at the upper end.
fn network(address: IpAddr, prefix: u8) -> (bool, u128) {
    let (bits, length) = match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)) << 96, 32),
        IpAddr::V6(address) => (u128::from(address), 128),
    };
    let prefix = u32::from(prefix.min(length));
    (address.is_ipv6(), bits & u128::MAX.checked_shl(128 - prefix).unwrap_or(0))
}

fn is_absent(code: i32) -> bool {
    use rustix::io::Errno;
    [Errno::ADDRNOTAVAIL, Errno::NODEV, Errno::NXIO].iter().any(|errno| errno.raw_os_error() == code.abs())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_network_are_told_from_others() {
        let same = |a: &str, b: &str, prefix| {
            network(a.parse().unwrap(), prefix) == network(b.parse().unwrap(), prefix)
        };
        assert!(same("203.0.113.10", "203.0.113.11", 24));
        assert!(!same("203.0.113.10", "203.0.112.11", 24));
        assert!(same("203.0.113.10", "8.8.8.8", 0));
        assert!(same("2001:db8::1", "2001:db8::2", 64));
        assert!(!same("2001:db8::1", "2001:db8::2", 128));
    }
}
