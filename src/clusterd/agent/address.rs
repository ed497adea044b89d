//! `futago:address`: the virtual address, with a lifetime that the kernel enforces.
//!
//! One task owns it. It is added and refreshed only while this host may act, and for no longer than
//! [`lifetime`] allows: when this program hangs or dies, the kernel takes the address off. It is claimed from
//! neighbours in a burst and then now and again, for switches that have missed it.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::Context as _;
use cluster::event::{AgentOutcome, AgentResult, Running, Verb};
use cluster::timing::{Millis, Timing};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::arp::{self, Mac};
use super::lifetime;
use super::link::{Interface, Link, News, Newsfeed};
use super::{Report, done, outcome, sys};

/// "Who has it?" is asked so often before the address is taken,
const PROBES: u32 = 3;
/// but only once more when all of that was done this shortly before, while other services were starting,
const LOOKED_AHEAD: Duration = Duration::from_secs(10);
/// and each time answered within this time, or not at all: hosts on one link answer within a millisecond.
const PROBE_WAIT: Duration = Duration::from_millis(50);
/// Announcements after taking it, and between them; as IPaddr2 does. The first is made at once.
const BURST: u32 = 5;
const BURST_EVERY: Duration = Duration::from_millis(200);
/// Announcements from then on: against caches that have missed the burst.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(10);
/// At most so often the same conflict is told.
const CONFLICT_EVERY: Duration = Duration::from_secs(10);
/// The kernel answers at once, or something is badly wrong.
const NETLINK: Duration = Duration::from_secs(2);
/// Operations that may wait for the task: the core has one at a time.
const COMMANDS: usize = 4;

/// The virtual address, as the rest of the program sees it.
pub(super) struct Address {
    commands: mpsc::Sender<Command>,
    task: JoinHandle<()>,
}

struct Command {
    verb: Verb,
    reply: oneshot::Sender<AgentOutcome>,
}

impl Address {
    /// Errors when the kernel's interface cannot be opened, or the address is none.
    pub(super) fn new(
        address: &str,
        prefix: u8,
        interface: &str,
        timing: Timing,
        until: watch::Receiver<Option<Millis>>,
        report: Report,
    ) -> anyhow::Result<Self> {
        let address: IpAddr = address.parse().with_context(|| format!("read the address {address}"))?;
        let (link, feed) = Link::open()?;
        let (commands, orders) = mpsc::channel(COMMANDS);
        let interface = interface.to_owned();
        let owner = Owner {
            address,
            prefix,
            interface,
            timing,
            until,
            report,
            link,
            held: None,
            acts: false,
            free_at: None,
        };
        Ok(Self { commands, task: tokio::spawn(owner.run(orders, feed)) })
    }

    pub(super) async fn perform(&self, verb: Verb, deadline: Instant) -> AgentOutcome {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.commands.send(Command { verb, reply }).await.ok()?;
            answer.await.ok()
        };
        match timeout_at(deadline, asked).await {
            Ok(Some(done)) => done,
            Ok(None) => outcome(AgentResult::Failed, "the address's task has ended; see the log"),
            Err(_) => outcome(AgentResult::TimedOut, "the kernel did not answer in time"),
        }
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        // The address stays for its lifetime: the next program takes it over.
        self.task.abort();
    }
}

/// The task that owns the address.
struct Owner {
    address: IpAddr,
    prefix: u8,
    interface: String,
    timing: Timing,
    until: watch::Receiver<Option<Millis>>,
    report: Report,
    link: Link,
    held: Option<Held>,
    /// This host might act when the right to act was looked at last.
    acts: bool,
    /// When nobody on the link had the address.
    free_at: Option<Instant>,
}

/// The address is on the interface.
struct Held {
    interface: Interface,
    has_company: bool,
    neighbours: Option<(Mac, AsyncFd<OwnedFd>)>,
    burst_left: u32,
    announce_at: Instant,
    /// A start that waits for the kernel's own check of an IPv6 address, one to two seconds long; there is news
    /// of its end.
    tentative: Option<oneshot::Sender<AgentOutcome>>,
    conflict_told: Option<Instant>,
}

/// What the task waits for.
enum Wake {
    Command(Option<Command>),
    Until(bool),
    News(Option<News>),
    Ended,
    Announce,
    Heard(Mac),
}

impl Owner {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>, feed: Newsfeed) {
        let mut feed = Some(feed);
        loop {
            match self.wake(&mut commands, &mut feed).await {
                Wake::Command(Some(command)) => self.obey(command).await,
                Wake::Command(None) | Wake::Until(false) => return,
                Wake::Until(true) => self.refresh().await,
                Wake::Ended => self.end().await,
                Wake::News(Some(news)) => self.learn(news).await,
                Wake::News(None) => {
                    tracing::error!(
                        "the kernel's news of {} have ended; only looks notice changes",
                        self.address
                    );
                    feed = None;
                }
                Wake::Announce => self.announce(),
                Wake::Heard(mac) => self.conflict(mac),
            }
        }
    }

    async fn wake(&mut self, commands: &mut mpsc::Receiver<Command>, feed: &mut Option<Newsfeed>) -> Wake {
        let end = self.end_of_right();
        let held = self.held.as_ref();
        let announce_at = held.filter(|held| held.neighbours.is_some()).map(|held| held.announce_at);
        let listening = match self.address {
            IpAddr::V4(address) => held.and_then(|held| held.neighbours.as_ref()).map(|ear| (address, ear)),
            IpAddr::V6(_) => None,
        };
        tokio::select! {
            biased;
            changed = self.until.changed() => Wake::Until(changed.is_ok()),
            () = at(end), if held.is_some() => Wake::Ended,
            command = commands.recv() => Wake::Command(command),
            news = next(feed) => Wake::News(news),
            () = at(announce_at) => Wake::Announce,
            mac = hear(listening) => Wake::Heard(mac),
        }
    }

    async fn obey(&mut self, command: Command) {
        let done = match command.verb {
            Verb::Start => match self.start().await {
                Ok(()) => {
                    if let Some(held) = &mut self.held
                        && self.address.is_ipv6()
                    {
                        held.tentative = Some(command.reply);
                        return self.look_at_tentative().await;
                    }
                    done()
                }
                Err(error) => {
                    self.held = None;
                    outcome(AgentResult::Failed, format!("{error:#}"))
                }
            },
            Verb::Stop | Verb::Kill => match self.remove().await {
                Ok(()) => done(),
                Err(error) => outcome(AgentResult::Failed, format!("{error:#}")),
            },
            Verb::Monitor => {
                self.look().await.unwrap_or_else(|error| outcome(AgentResult::Failed, format!("{error:#}")))
            }
        };
        // Who asked may have given up.
        let _ = command.reply.send(done);
    }

    async fn start(&mut self) -> anyhow::Result<()> {
        self.long_enough().await?;
        let interface = within(self.link.interface(&self.interface)).await?;
        anyhow::ensure!(interface.is_up, "add {}: interface {} is down", self.address, self.interface);
        let found = within(self.link.find(interface.index, self.address, self.prefix)).await?;
        let neighbours = self.neighbours(&interface)?;
        let looked_ahead = self.free_at.take().is_some_and(|at| at.elapsed() < LOOKED_AHEAD);
        let probes = if looked_ahead { 1 } else { PROBES };
        if !found.is_present
            && let (IpAddr::V4(address), Some(neighbours)) = (self.address, &neighbours)
            && let Some(owner) = probe(neighbours, address, probes).await?
        {
            anyhow::bail!(
                "add {address}: another host on {} has it already, with the hardware address {owner}",
                self.interface
            );
        }
        self.long_enough().await?;
        self.held = Some(Held {
            interface,
            has_company: found.has_company,
            neighbours,
            burst_left: BURST,
            announce_at: Instant::now(),
            tentative: None,
            conflict_told: None,
        });
        self.set().await
    }

    fn neighbours(&self, interface: &Interface) -> anyhow::Result<Option<(Mac, AsyncFd<OwnedFd>)>> {
        let Some(mac) = interface.mac else { return Ok(None) };
        let protocol = if self.address.is_ipv4() { arp::ARP } else { 0 };
        let socket = sys::packet_socket(interface.index, protocol)
            .and_then(|socket| crate::sys::register(socket, Interest::READABLE));
        let socket = socket.with_context(|| format!("open a packet socket on {}", self.interface))?;
        Ok(Some((mac, socket)))
    }

    /// Seconds that may be given now.
    fn lifetime(&self) -> anyhow::Result<u32> {
        let until = *self.until.borrow();
        lifetime::seconds(until, now(), &self.timing).with_context(|| {
            format!("add {}: this host may not act at present, or not for long enough", self.address)
        })
    }

    /// Waits, while this host may act, until it may for as long as the kernel's whole seconds ask for: shortly before a
    /// renewal too little may be left.
    async fn long_enough(&mut self) -> anyhow::Result<()> {
        loop {
            let lifetime = self.lifetime();
            let Some(end) = self.end_of_right().filter(|end| lifetime.is_err() && *end > Instant::now())
            else {
                return lifetime.map(drop);
            };
            // Renewed, or not in time: both are looked at above.
            let _ = timeout_at(end, self.until.changed()).await;
        }
    }

    /// When this host may act no more, as far as is known now.
    fn end_of_right(&self) -> Option<Instant> {
        let until = *self.until.borrow();
        until.map(|until| Instant::now() + Duration::from_millis(until.saturating_sub(now())))
    }

    /// Gives the address its lifetime, adding it when it is not there.
    async fn set(&mut self) -> anyhow::Result<()> {
        let seconds = self.lifetime()?;
        let Some(held) = &self.held else { return Ok(()) };
        let (index, company) = (held.interface.index, held.has_company);
        within(self.link.set(index, self.address, self.prefix, seconds, company)).await?;
        let until = *self.until.borrow();
        if lifetime::is_in_time(seconds, until, now(), &self.timing) {
            return Ok(());
        }
        self.remove().await?;
        anyhow::bail!(
            "add {}: this host stood still for too long meanwhile; it was taken off again",
            self.address
        )
    }

    /// The right to act has been prolonged, or is over.
    async fn refresh(&mut self) {
        let until = *self.until.borrow();
        let acts = until.is_some_and(|until| until > now());
        let begins = !std::mem::replace(&mut self.acts, acts) && acts;
        if self.held.is_none() {
            if begins {
                self.free_at = self.is_free().await.then(Instant::now);
            }
            return;
        }
        if until.is_none_or(|until| until <= now()) {
            return self.end().await;
        }
        if self.lifetime().is_err() {
            // Too late for this renewal; the lifetime that was set before still holds.
            return;
        }
        if let Err(error) = self.set().await {
            self.report.send(Running::Failed, format!("{error:#}"));
        }
    }

    /// Asked when this host has just got the right to act: other services start meanwhile. What cannot be found out
    /// now is found out by the start.
    async fn is_free(&mut self) -> bool {
        let IpAddr::V4(address) = self.address else { return false };
        let Ok(interface) = within(self.link.interface(&self.interface)).await else { return false };
        let found = within(self.link.find(interface.index, self.address, self.prefix)).await;
        if !interface.is_up || found.map_or(true, |found| found.is_present) {
            return false;
        }
        let Ok(Some(neighbours)) = self.neighbours(&interface) else { return false };
        matches!(probe(&neighbours, address, PROBES).await, Ok(None))
    }

    /// The right to act is over.
    async fn end(&mut self) {
        let text = match self.remove().await {
            Ok(()) => format!("{} was taken off: this host may not act at present", self.address),
            Err(error) => format!("{error:#}"),
        };
        self.report.send(Running::Stopped, text);
    }

    async fn remove(&mut self) -> anyhow::Result<()> {
        let index = match self.held.take() {
            Some(held) => {
                if let Some(waiting) = held.tentative {
                    let text =
                        format!("add {}: it was taken off before the kernel had checked it", self.address);
                    // Who asked may have given up.
                    let _ = waiting.send(outcome(AgentResult::Failed, text));
                }
                held.interface.index
            }
            None => match within(self.link.interface(&self.interface)).await {
                Ok(interface) => interface.index,
                // No interface, no address.
                Err(_) => return Ok(()),
            },
        };
        within(self.link.remove(index, self.address, self.prefix)).await
    }

    async fn look(&mut self) -> anyhow::Result<AgentOutcome> {
        // Whatever is found below, a start that waits has its answer first.
        self.look_at_tentative().await;
        let Ok(interface) = within(self.link.interface(&self.interface)).await else {
            self.held = None;
            return Ok(outcome(AgentResult::NotRunning, format!("there is no interface {}", self.interface)));
        };
        let found = within(self.link.find(interface.index, self.address, self.prefix)).await?;
        if !found.is_present {
            self.held = None;
            return Ok(outcome(AgentResult::NotRunning, ""));
        }
        if self.held.is_none() {
            // Left by an earlier life of this program: from now on it is refreshed, and removed, as ours.
            let neighbours = self.neighbours(&interface)?;
            self.held = Some(Held {
                interface,
                has_company: found.has_company,
                neighbours,
                burst_left: 0,
                announce_at: Instant::now(),
                tentative: None,
                conflict_told: None,
            });
        }
        if !interface.is_up {
            return Ok(outcome(AgentResult::Failed, format!("interface {} is down", self.interface)));
        }
        Ok(done())
    }

    async fn learn(&mut self, news: News) {
        let Some(held) = &mut self.held else {
            return self.learn_of_foreign(news).await;
        };
        match news {
            News::Changed { index, address } if index == held.interface.index && address == self.address => {
                self.look_at_tentative().await;
            }
            News::Removed { index, address } if index == held.interface.index && address == self.address => {
                // The kernel takes an address with a lifetime off when its check has found another owner.
                if held.tentative.is_some() {
                    return self.look_at_tentative().await;
                }
                self.held = None;
                self.report.send(
                    Running::Stopped,
                    format!("{address} was removed by somebody else, or its lifetime ended"),
                );
            }
            News::Interface { index, is_up } if index == held.interface.index => {
                if is_up == held.interface.is_up {
                    return;
                }
                held.interface.is_up = is_up;
                held.burst_left = BURST;
                held.announce_at = Instant::now();
                let (state, word) =
                    if is_up { (Running::Started, "up again") } else { (Running::Failed, "down") };
                self.report.send(state, format!("interface {} is {word}", self.interface));
            }
            News::Lost if held.tentative.is_some() => self.look_at_tentative().await,
            News::Lost => match self.look().await {
                Ok(seen) if seen.result == AgentResult::NotRunning => {
                    self.report.send(Running::Stopped, format!("{} is no longer there", self.address));
                }
                Ok(_) => {}
                Err(error) => tracing::warn!("look for {}: {error:#}", self.address),
            },
            _ => {}
        }
    }

    /// Where it is not held, it may have been added by hand: told, and neither announced nor prolonged. It is looked
    /// for, since the news may be of a time when it was held.
    async fn learn_of_foreign(&mut self, news: News) {
        if !matches!(news, News::Changed { address, .. } if address == self.address) {
            return;
        }
        let Ok(interface) = within(self.link.interface(&self.interface)).await else { return };
        let found = within(self.link.find(interface.index, self.address, self.prefix)).await;
        if found.is_ok_and(|found| found.is_present) {
            let text = format!("{} was added to {} by somebody else", self.address, self.interface);
            self.report.send(Running::Started, text);
        }
    }

    fn announce(&mut self) {
        let Some(held) = &mut self.held else { return };
        held.burst_left = held.burst_left.saturating_sub(1);
        held.announce_at = Instant::now() + if held.burst_left > 0 { BURST_EVERY } else { ANNOUNCE_EVERY };
        let Some((mac, socket)) = &held.neighbours else { return };
        if held.interface.is_up && held.tentative.is_none() {
            for frame in arp::announcements(*mac, self.address) {
                // The next one comes anyway.
                if let Err(error) = rustix::io::write(socket.get_ref(), &frame) {
                    tracing::debug!("announce {}: {error}", self.address);
                }
            }
        }
    }

    async fn look_at_tentative(&mut self) {
        let Some(held) = self.held.as_mut().filter(|held| held.tentative.is_some()) else { return };
        let looked = within(self.link.find(held.interface.index, self.address, self.prefix)).await;
        let result = match looked {
            Ok(found) if found.is_duplicate => {
                Err(format!("add {}: another host on {} has it already", self.address, self.interface))
            }
            Ok(found) if found.is_present && found.is_tentative => return,
            Ok(found) if found.is_present => Ok(()),
            Ok(_) => Err(format!(
                "add {}: it went while the kernel checked it: another host on {} has it already, or somebody removed it",
                self.address, self.interface
            )),
            Err(error) => Err(format!("{error:#}")),
        };
        let Some(waiting) = held.tentative.take() else { return };
        held.burst_left = BURST;
        held.announce_at = Instant::now();
        let answer = match result {
            Ok(()) => done(),
            Err(problem) => {
                if let Err(error) = self.remove().await {
                    tracing::warn!("{error:#}");
                }
                outcome(AgentResult::Failed, problem)
            }
        };
        let _ = waiting.send(answer);
    }

    /// Somebody else claims the address. We defend it, and tell: a failover would not help against a third host.
    fn conflict(&mut self, mac: Mac) {
        let Some(held) = &mut self.held else { return };
        let now = Instant::now();
        if held.conflict_told.is_some_and(|told| now < told + CONFLICT_EVERY) {
            return;
        }
        held.conflict_told = Some(now);
        held.announce_at = now;
        let text = format!("{} is also used by the hardware address {mac}", self.address);
        self.report.send(Running::Started, text);
    }
}

/// Who answers for the address, if anybody does.
async fn probe(
    (own, socket): &(Mac, AsyncFd<OwnedFd>),
    address: Ipv4Addr,
    probes: u32,
) -> anyhow::Result<Option<Mac>> {
    for _ in 0..probes {
        let sent = rustix::io::write(socket.get_ref(), &arp::probe(*own, address));
        sent.with_context(|| format!("ask on the link who has {address}"))?;
        if let Ok(owner) = timeout(PROBE_WAIT, claim(*own, socket, address)).await {
            return Ok(Some(owner));
        }
    }
    Ok(None)
}

/// The next one, other than us, who says that the address is theirs.
async fn claim(own: Mac, socket: &AsyncFd<OwnedFd>, address: Ipv4Addr) -> Mac {
    let mut frame = [0; 128];
    loop {
        let Ok(mut ready) = socket.readable().await else { return std::future::pending().await };
        match ready.try_io(|socket| Ok(rustix::io::read(socket.get_ref(), &mut frame)?)) {
            Ok(Ok(length)) => {
                let found = arp::claimed(frame.get(..length).unwrap_or_default(), address);
                if let Some(mac) = found.filter(|mac| *mac != own) {
                    return mac;
                }
            }
            // The interface went down; there will be news of it.
            Ok(Err(_)) => tokio::time::sleep(PROBE_WAIT).await,
            Err(_) => {}
        }
    }
}

async fn hear(listening: Option<(Ipv4Addr, &(Mac, AsyncFd<OwnedFd>))>) -> Mac {
    match listening {
        Some((address, (own, socket))) => claim(*own, socket, address).await,
        None => std::future::pending().await,
    }
}

async fn next(feed: &mut Option<Newsfeed>) -> Option<News> {
    match feed {
        Some(feed) => feed.next().await,
        None => std::future::pending().await,
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}

async fn within<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    timeout(NETLINK, work).await.context("ask the kernel over netlink: no answer")?
}

/// Milliseconds on `CLOCK_BOOTTIME`.
fn now() -> Millis {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    seconds * 1_000 + u64::try_from(time.tv_nsec).unwrap_or_default() / 1_000_000
}
