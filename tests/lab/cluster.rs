//! The managed pair on real hosts: what docs/cluster.md promises for orders and for lost machines, under a client
//! that keeps every acknowledged row.
//!
//! Outages are printed, not judged: a busy machine must not fail a test that is about correctness.

use crate::harness::possible;
use crate::managed::{Managed, PAIR, assert_survived, other};

/// Orders to move the stack in one drill, half of them given on the controller.
const SWITCHOVERS: usize = 20;

/// An order from either side moves the service there and back: no row is lost, nothing is resynced.
#[test]
fn orders_move_what_runs_and_nothing_else_does() {
    if !possible() {
        return;
    }
    let pair = Managed::up("default");
    switchovers(&pair);
}

fn switchovers(pair: &Managed) {
    for round in 0..SWITCHOVERS {
        let from = pair.active();
        let client = pair.client();
        if round % 2 == 0 {
            pair.cluster(PAIR[round / 2 % 2], "switchover");
        } else {
            pair.from_controller(&["switchover", "--to", other(from)]);
        }
        assert_eq!(pair.active_now(), Some(other(from)), "the order has ended, the stack runs elsewhere");
        assert_eq!(PAIR.map(|host| out_of_sync(pair, host)), [0, 0], "a planned move resyncs nothing");
        client.until_rows(5);
        assert_survived(&format!("switchover {round} from {from}"), &client.stop());
        pair.until_protected();
    }
}

/// KiB that the device's disks differ in.
fn out_of_sync(pair: &Managed, host: &str) -> u64 {
    let text = pair.lab.run_in(host, "futago replica status r0 --verbose --statistics");
    let number = text.split("out-of-sync:").nth(1).and_then(|rest| rest.split_whitespace().next());
    number.and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("no out-of-sync in {text}"))
}
