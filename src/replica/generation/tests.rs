//! The table of `compare`, case by case, in `table.txt`; every case is checked from both sides.

use super::*;
use crate::message::Abilities;

/// `CUR:BM[:H0[:H1]]` in small numbers, then words.
fn side(text: &str) -> PeerState {
    let mut words = text.split_whitespace();
    let mut numbers = words.next().unwrap().split(':').map(|n| n.parse().unwrap());
    let (current, bitmap) = (numbers.next().unwrap(), numbers.next().unwrap_or(0));
    let mut history = [0; HISTORY];
    for (entry, number) in history.iter_mut().zip(numbers) {
        *entry = number;
    }
    let mut state = PeerState {
        generations: Generations { current, bitmap, history, counter: 0 },
        role: Role::Secondary,
        disk: if current == JUST_CREATED { DiskState::Inconsistent } else { DiskState::UpToDate },
        bytes: 1 << 20,
        capacity: 1 << 20,
        crashed_primary: false,
        reconnect: false,
        discard_my_data: false,
        dirty_blocks: 0,
        abilities: Abilities::default(),
    };
    for word in words {
        match word {
            "primary" => state.role = Role::Primary,
            "crashed" => state.crashed_primary = true,
            "seen" => state.reconnect = true,
            "discard" => state.discard_my_data = true,
            "dirty" => state.dirty_blocks = 9,
            "inconsistent" => state.disk = DiskState::Inconsistent,
            "outdated" => state.disk = DiskState::Outdated,
            "consistent" => state.disk = DiskState::Consistent,
            other => panic!("unknown word {other}"),
        }
    }
    state
}

#[test]
fn the_table_holds_from_both_sides() {
    let mut rules = std::collections::BTreeSet::new();
    for (number, line) in (1..).zip(include_str!("table.txt").lines()) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let [me, peer, expected] = line.split('|').map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("line {number}: three columns expected");
        };
        let (me, peer) = (side(me), side(peer));
        let verdict = compare(&me, &peer, true);
        assert_eq!(format!("{} {}", verdict.decision, verdict.rule), expected, "line {number}");
        let other = compare(&peer, &me, false);
        assert_eq!(other.decision, verdict.decision.mirrored(), "line {number}, seen from the other side");
        rules.insert(verdict.rule);
    }
    assert_eq!(rules.len(), 18, "a rule without a case, or a new rule: {rules:?}");
}

#[test]
fn a_lone_period_keeps_the_oldest_base() {
    let mut g = Generations { current: 10, bitmap: 0, history: [0; HISTORY], counter: 0 };
    g.rotate(11);
    g.rotate(12);
    assert_eq!((g.current, g.bitmap), (12, 10));
    assert!(g.knows(11), "what the peer may have learned meanwhile is remembered");
}
