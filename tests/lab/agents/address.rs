//! The virtual address on a link of the host's own, with a neighbour at its other end.

use std::time::Duration;

use cluster::config::Class;
use cluster::event::{AgentResult, Running, Verb};
use cluster::timing::Timing;
use tokio::time::{Instant, interval_at};

use super::rig::{Rig, inside, sh, until};

const V4: &str = "198.51.100.10";
const V6: &str = "2001:db8:77::10";

/// `near` here, `far` in a namespace of a neighbour.
fn link() {
    sh("ip link del near 2>/dev/null || true; ip netns del far 2>/dev/null || true
        ip netns add far; ip link add near type veth peer name far netns far
        ip addr add 198.51.100.1/24 dev near; ip addr add 2001:db8:77::1/64 dev near nodad; ip link set near up
        ip -n far addr add 198.51.100.2/24 dev far; ip -n far addr add 2001:db8:77::2/64 dev far nodad
        ip -n far link set far up
        until ip -o link show near | grep -q 'state UP'; do sleep 0.01; done");
}

fn class(address: &str, prefix: u8) -> Class {
    Class::Address { address: address.to_owned(), prefix, interface: "near".to_owned() }
}

fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(time.tv_sec).expect("time") * 1000 + u64::try_from(time.tv_nsec).expect("time") / 1_000_000
}

fn timing() -> Timing {
    Timing::derive(Timing::FAST_MS, 0).expect("timing")
}

fn renew(rig: &Rig) {
    rig.agents.may_act_until(Some(now() + timing().holder_lease_ms));
}

/// Starts the address under a lease that is renewed at the manager's pace meanwhile.
async fn start_renewed(rig: &Rig) {
    let start = rig.perform(Verb::Start);
    tokio::pin!(start);
    let pace = Duration::from_millis(timing().renew_ms);
    let mut renewals = interval_at(Instant::now() + pace, pace);
    loop {
        tokio::select! {
            outcome = &mut start => {
                assert_eq!(outcome.result, AgentResult::Ok, "{}", outcome.reason);
                return;
            }
            _ = renewals.tick() => renew(rig),
        }
    }
}

fn is_there(address: &str) -> bool {
    sh("ip -o addr show dev near").contains(&format!(" {address}/"))
}

#[tokio::test]
async fn the_address_is_there_only_while_this_host_may_act() {
    if !inside() {
        return;
    }
    for (address, prefix) in [(V4, 24), (V6, 64)] {
        link();
        let mut rig = Rig::of(vec![class(address, prefix)]).await;
        rig.expect(Verb::Monitor, AgentResult::NotRunning).await;
        let refused = rig.expect(Verb::Start, AgentResult::Failed).await;
        assert!(refused.reason.contains("may not act"), "{}", refused.reason);

        // Too little is left of the right for a lifetime of whole seconds; the next renewal is waited for.
        rig.agents.may_act_until(Some(now() + 800));
        start_renewed(&rig).await;
        // Ten lifetimes, kept up by renewals.
        for _ in 0..20 {
            renew(&rig);
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert!(is_there(address), "{address} stays while it is renewed");
        }
        assert!(sh("ip -o addr show dev near").contains("valid_lft"));
        let routes = sh("ip route show dev near; ip -6 route show dev near");
        assert!(!routes.contains("expires"), "the network's route has no lifetime: {routes}");
        rig.expect_silence();

        rig.agents.may_act_until(None);
        let reason = rig.expect_change(Running::Stopped).await;
        assert!(reason.contains("may not act"), "{reason}");
        assert!(!is_there(address));
        rig.expect(Verb::Stop, AgentResult::Ok).await;

        // Without renewal it goes when the right ends,
        if address == V4 {
            renew(&rig);
            start_renewed(&rig).await;
            rig.expect_change(Running::Stopped).await;
            assert!(!is_there(address));
            // and the kernel sees to it when the manager is gone.
            renew(&rig);
            start_renewed(&rig).await;
            let started = now();
            drop(rig);
            assert!(is_there(address));
            until("the kernel drops it", || !is_there(address)).await;
            println!("{address}: gone {} ms after the manager's last word", now() - started);
        }
    }
}

#[tokio::test]
async fn an_address_that_another_host_has_is_not_taken() {
    if !inside() {
        return;
    }
    link();
    sh(&format!("ip -n far addr add {V4}/24 dev far"));
    let owner = sh("ip netns exec far cat /sys/class/net/far/address");
    let mut rig = Rig::of(vec![class(V4, 24)]).await;
    rig.agents.may_act_until(Some(now() + 60_000));
    let taken = rig.expect(Verb::Start, AgentResult::Failed).await;
    assert!(taken.reason.contains(&owner), "{}", taken.reason);
    assert!(!is_there(V4));

    // Once it is free it is taken, neighbours learn of it, and a later conflict is told.
    sh(&format!(
        "ip -n far addr del {V4}/24 dev far; ip -n far neigh replace {V4} lladdr 02:00:00:00:00:99 nud stale dev far"
    ));
    rig.expect(Verb::Start, AgentResult::Ok).await;
    let taken = now();
    let own = sh("ip -o link show near | sed 's/.*link.ether \\([^ ]*\\).*/\\1/'");
    until("the neighbour learns", || sh(&format!("ip -n far neigh show {V4}")).contains(&own)).await;
    println!("{V4}: the neighbour knows it {} ms after the start", now() - taken);
    sh(&format!("ip -n far addr add {V4}/24 dev far; ip netns exec far arping -c 1 -A -I far {V4} || true"));
    let reason = rig.expect_change(Running::Started).await;
    assert!(reason.contains("also used by") && reason.contains(&owner), "{reason}");
    rig.expect(Verb::Stop, AgentResult::Ok).await;
}

#[tokio::test]
async fn who_has_the_address_is_asked_as_soon_as_the_right_to_act_begins() {
    if !inside() {
        return;
    }
    link();
    sh("ip netns exec far nft 'add table arp heard; add chain arp heard probes { type filter hook input priority 0; };
        add rule arp heard probes arp saddr ip 0.0.0.0 counter'");
    let heard = || {
        let rule = sh("ip netns exec far nft list chain arp heard probes");
        let count =
            rule.split("packets ").nth(1).and_then(|rest| rest.split(' ').next()).map(str::parse::<u32>);
        count.expect("a counter").expect("a number of packets")
    };
    let rig = Rig::of(vec![class(V4, 24)]).await;
    // Not only in the first turn of a manager's life.
    for turn in 0..3_u32 {
        assert_eq!(heard(), 4 * turn, "only who may act asks");
        rig.agents.may_act_until(Some(now() + 60_000));
        until("three questions", || heard() >= 4 * turn + 3).await;
        rig.expect(Verb::Start, AgentResult::Ok).await;
        assert_eq!(heard(), 4 * turn + 4, "asked once more before it is taken");
        rig.expect(Verb::Stop, AgentResult::Ok).await;
        rig.agents.may_act_until(None);
        // The end of the right has been seen.
        rig.expect(Verb::Monitor, AgentResult::NotRunning).await;
    }
}

#[tokio::test]
async fn an_ipv6_address_that_another_host_has_is_not_taken() {
    if !inside() {
        return;
    }
    link();
    sh(&format!("ip -n far addr add {V6}/64 dev far nodad"));
    let rig = Rig::of(vec![class(V6, 64)]).await;
    rig.agents.may_act_until(Some(now() + 60_000));
    let taken = rig.expect(Verb::Start, AgentResult::Failed).await;
    assert!(taken.reason.contains("another host"), "{}", taken.reason);
    assert!(!is_there(V6));
}

#[tokio::test]
async fn who_deletes_the_address_or_takes_the_link_down_is_noticed() {
    if !inside() {
        return;
    }
    link();
    let mut rig = Rig::of(vec![class(V4, 24)]).await;
    rig.agents.may_act_until(Some(now() + 60_000));
    rig.expect(Verb::Start, AgentResult::Ok).await;
    sh(&format!("ip addr del {V4}/24 dev near"));
    rig.expect_change(Running::Stopped).await;
    rig.agents.may_act_until(Some(now() + 60_000));
    assert!(!is_there(V4), "a renewal brings nothing back that is gone");
    rig.expect(Verb::Start, AgentResult::Ok).await;
    sh("ip -n far link set far down");
    let reason = rig.expect_change(Running::Failed).await;
    assert!(reason.contains("interface near is down"), "{reason}");
    rig.expect(Verb::Monitor, AgentResult::Failed).await;
    rig.expect(Verb::Stop, AgentResult::Ok).await;
    let refused = rig.expect(Verb::Start, AgentResult::Failed).await;
    assert!(refused.reason.contains("is down"), "{}", refused.reason);
}
