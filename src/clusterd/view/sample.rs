//! Statuses for tests: what a manager says in each situation that an operator meets.

use cluster::config::{Quorum, ResourceId};
use cluster::control::{Ability, Move, NodeView, PathView, ResourceView, Status, Verdict};
use cluster::event::{Health, ReplicaView, Running};
use cluster::member::{Node, Nodes};
use cluster::record::{Intent, Record, Term, Version};
use cluster::timing::Timing;

/// All is well.
pub(crate) fn protected() -> Status {
    Status {
        cluster: "ha.example.com".to_owned(),
        node: Node::A,
        names: ["ha-a.example.com".to_owned(), "ha-b.example.com".to_owned()],
        verdict: Verdict::Protected,
        because: "the stack runs on ha-a and any one machine may fail".to_owned(),
        quorum: Quorum::Witness,
        record: Record {
            version: Version(17),
            term: Term(3),
            primary: Some(Node::A),
            synced: Nodes::BOTH,
            witness: Some(7),
            intent: Intent::default(),
        },
        own_vote_only: false,
        lease_left_ms: Some(1_640),
        lone: false,
        local: node("active", replica(true)),
        peer: Some(node("standby", replica(false))),
        peer_heard_ms_ago: Some(210),
        witness_heard_ms_ago: Some(390),
        paths: vec![path("peer", 0, Some(210)), path("peer", 1, Some(240)), path("witness", 0, Some(390))],
        resources: stack(),
        doing: None,
        can: abilities([
            "ha-b holds every acknowledged write, and the witness votes",
            "ha-b is connected and in sync",
            "ha-a and ha-b are a majority",
        ]),
        why: vec!["ha-a is primary of term 3 and has renewed its lease".to_owned()],
        timing: Timing::derive(Timing::DEFAULT_MS, 600_000).unwrap(),
        history: vec![
            moved("switchover", 3, Some(Node::B), 7_500_000, "an operator asked for it"),
            moved("takeover", 2, Some(Node::A), 273_600_000, "ha-a was silent for 1.2 s"),
        ],
        moves: [("switchover".to_owned(), 1), ("takeover".to_owned(), 1)].into(),
    }
}

/// The standby is lost.
pub(crate) fn standby_lost() -> Status {
    let mut status = protected();
    status.verdict = Verdict::Degraded;
    status.because = "ha-b is silent; if ha-a fails as well, the service stops until ha-a returns".to_owned();
    status.record.version = Version(18);
    status.record.synced = Nodes::only(Node::A);
    status.peer_heard_ms_ago = Some(252_000);
    status.paths.iter_mut().filter(|p| p.to == "peer").for_each(|p| p.heard_ms_ago = Some(252_000));
    let local = status.local.replica.as_mut().unwrap();
    (local.connected, local.alone, local.out_of_sync_kib) = (false, true, 12_500);
    local.peer_disk = "DUnknown".to_owned();
    status.resources.iter_mut().for_each(|r| r.state[1] = Running::Unknown);
    status.can = abilities(["ha-b is silent", "ha-b is silent", "ha-a acts alone, by the record"]);
    status.can.iter_mut().take(2).for_each(|ability| ability.yes = false);
    status.why.push("ha-b may not take over: it lacks acknowledged writes (record version 18)".to_owned());
    status
}

/// The standby is back and fetches what it missed.
pub(crate) fn resync() -> Status {
    let mut status = protected();
    status.verdict = Verdict::Degraded;
    status.because =
        "ha-b fetches what it missed; if ha-a fails before that is done, the service stops".to_owned();
    status.record.synced = Nodes::only(Node::A);
    let local = status.local.replica.as_mut().unwrap();
    (local.alone, local.sync_permille, local.out_of_sync_kib) = (true, Some(423), 1_258_291);
    local.peer_disk = "Inconsistent".to_owned();
    let peer = status.peer.as_mut().and_then(|peer| peer.replica.as_mut()).unwrap();
    (peer.disk, peer.sync_permille) = ("Inconsistent".to_owned(), Some(423));
    status.can =
        abilities(["the resync is at 42.3 %", "the resync is at 42.3 %", "ha-a acts alone, by the record"]);
    status.can.iter_mut().take(2).for_each(|ability| ability.yes = false);
    status.doing = Some("resync of ha-b: 42.3 %".to_owned());
    status
}

/// The standby is back and refuses to fetch what it missed.
pub(crate) fn standby_refuses() -> Status {
    let mut status = standby_lost();
    status.because = "ha-b may lack acknowledged writes: if ha-a fails, the service stops".to_owned();
    status.peer_heard_ms_ago = Some(210);
    status.paths = protected().paths;
    status.why.clear();
    let peer = status.peer.as_mut().and_then(|peer| peer.replica.as_mut()).unwrap();
    (peer.connected, peer.stands_alone, peer.disk) = (false, true, "Consistent".to_owned());
    peer.alone_because = Some(
        "before-resync-target handler returned 1, dropping connection: nothing was changed on this disk"
            .to_owned(),
    );
    status
}

/// The witness is lost.
pub(crate) fn witness_lost() -> Status {
    let mut status = protected();
    status.verdict = Verdict::Degraded;
    status.because =
        "the witness is silent; if a host fails as well, no automatic failover is possible".to_owned();
    status.witness_heard_ms_ago = None;
    status.paths.iter_mut().filter(|p| p.to == "witness").for_each(|p| p.heard_ms_ago = None);
    status.can = abilities([
        "without ha-a only ha-b would vote, one of three",
        "ha-b is connected and in sync",
        "the witness is silent already",
    ]);
    let [fail_over, _, lose] = status.can.as_mut_slice() else { panic!() };
    (fail_over.yes, lose.yes) = (false, false);
    status
}

/// A person must decide.
pub(crate) fn held() -> Status {
    let mut status = protected();
    status.verdict = Verdict::Held;
    status.because =
        "mariadb has failed on both hosts within 10 min; repair it, then: futago cluster cleanup mariadb"
            .to_owned();
    let mariadb = &mut status.resources[2];
    mariadb.state = [Running::Failed, Running::Stopped];
    mariadb.failures = [3, 1];
    mariadb.banned = Nodes::only(Node::B);
    mariadb.reason = Some("main process exited, code=killed, status=9/KILL".to_owned());
    status.resources.iter_mut().skip(3).take(2).for_each(|r| r.state[0] = Running::Stopped);
    status.record.intent.hold = Some("network work until 22:00".to_owned());
    status.record.intent.standby = Nodes::only(Node::B);
    status.can =
        abilities(["automatic failover is on hold", "ha-b is in standby", "ha-a and ha-b are a majority"]);
    status.can.iter_mut().take(2).for_each(|ability| ability.yes = false);
    status.local.health.problems =
        ["the gateway 203.0.113.1 does not answer", "less than 64 MiB are free for the manager's state"]
            .map(str::to_owned)
            .into();
    status
}

/// One of two hosts without a witness, booted alone.
pub(crate) fn booted_alone() -> Status {
    let mut status = down();
    status.verdict = Verdict::Held;
    status.because = "ha-b was not heard since the manager here started and may have gone on without ha-a: bring it back, or make sure that it is off and type `futago cluster force-primary ha-a --accept-loss` (by its record of term 3 ha-a has every acknowledged write, except what ha-b has acknowledged if it was made the primary since)".to_owned();
    status.quorum = Quorum::Manual;
    status.own_vote_only = true;
    (status.peer, status.peer_heard_ms_ago, status.witness_heard_ms_ago) = (None, None, None);
    let local = status.local.replica.as_mut().unwrap();
    (local.primary, local.blocked) = (false, false);
    status
}

/// Nothing runs: this host was cut off.
pub(crate) fn down() -> Status {
    let mut status = standby_lost();
    status.verdict = Verdict::Down;
    status.because =
        "ha-a reaches neither ha-b nor the witness, and its lease is over; nothing runs here".to_owned();
    status.node = Node::A;
    status.lease_left_ms = None;
    status.local.role = "waiting".to_owned();
    let local = status.local.replica.as_mut().unwrap();
    (local.primary, local.blocked, local.alone) = (true, true, false);
    status.record.synced = Nodes::BOTH;
    status.witness_heard_ms_ago = Some(251_000);
    status.resources.iter_mut().for_each(|r| r.state[0] = Running::Stopped);
    status.can = abilities(["nothing runs here", "ha-b is silent", "the witness is silent already"]);
    status.can.iter_mut().for_each(|ability| ability.yes = false);
    status
}

/// A new cluster before `bootstrap`.
pub(crate) fn no_record() -> Status {
    let mut status = protected();
    status.verdict = Verdict::Down;
    status.because = "there is no record yet; begin with: futago cluster bootstrap --primary HOST".to_owned();
    status.record = Record::default();
    status.lease_left_ms = None;
    (status.local, status.peer) = (node("waiting", None), None);
    (status.peer_heard_ms_ago, status.paths) = (None, Vec::new());
    status.resources.iter_mut().for_each(|r| r.state = [Running::Stopped, Running::Unknown]);
    (status.can, status.history, status.why) = (Vec::new(), Vec::new(), Vec::new());
    status
}

fn node(role: &str, replica: Option<ReplicaView>) -> NodeView {
    let running = if role == "active" { (0..5).map(ResourceId).collect() } else { Vec::new() };
    let health = Health::good();
    NodeView {
        role: role.to_owned(),
        replica,
        health,
        running,
        failed: Vec::new(),
        setup: Some(1),
        doing: None,
        given_up: None,
    }
}

fn replica(primary: bool) -> Option<ReplicaView> {
    Some(ReplicaView {
        primary,
        disk: "UpToDate".to_owned(),
        connected: true,
        stands_alone: false,
        alone_because: None,
        peer_primary: !primary,
        peer_disk: "UpToDate".to_owned(),
        sync_permille: None,
        out_of_sync_kib: 0,
        sent_kib: if primary { 2_048 } else { 16 },
        received_kib: if primary { 16 } else { 2_048 },
        writes: if primary { 300 } else { 0 },
        write_us: if primary { 120_000 } else { 0 },
        flushes: if primary { 40 } else { 0 },
        flush_us: if primary { 48_500 } else { 0 },
        fence: Term(3),
        term: primary.then_some(Term(3)),
        alone: false,
        loss: 1,
        blocked: false,
        deposed: false,
    })
}

fn path(to: &str, path: u8, heard_ms_ago: Option<u64>) -> PathView {
    PathView { to: to.to_owned(), path, heard_ms_ago }
}

fn stack() -> Vec<ResourceView> {
    let one = |name: &str, class: &str, everywhere| ResourceView {
        name: name.to_owned(),
        class: class.to_owned(),
        everywhere,
        state: [Running::Started, if everywhere { Running::Started } else { Running::Stopped }],
        banned: Nodes::NONE,
        since_ms: 7_500_000,
        found: name == "apache",
        failures: [0, 0],
        reason: None,
    };
    vec![
        one("r0", "futago:replica", false),
        one("data", "futago:mount", false),
        one("mariadb", "systemd:mariadb.service", false),
        one("site", "ocf:heartbeat:apache", false),
        one("address", "futago:address", false),
        one("apache", "systemd:apache2.service", true),
    ]
}

fn abilities(because: [&str; 3]) -> Vec<Ability> {
    let one =
        |what: &str, because: &str| Ability { what: what.to_owned(), yes: true, because: because.to_owned() };
    let [over, switch, witness] = because;
    vec![one("fail over", over), one("switch over", switch), one("lose the witness", witness)]
}

/// A move with its steps.
pub(crate) fn moved(kind: &str, term: u64, from: Option<Node>, ago_ms: u64, because: &str) -> Move {
    let step = |name: &str, ms| (name.to_owned(), ms);
    Move {
        kind: kind.to_owned(),
        term: Term(term),
        from,
        to: from.map_or(Node::A, Node::peer),
        because: because.to_owned(),
        ago_ms,
        steps: vec![
            step("stop address, site, mariadb", 310),
            step("unmount data", 40),
            step("record term and primary", 15),
            step("promote r0", 25),
            step("start mariadb", 380),
            step("start site, address", 70),
        ],
        finished: true,
    }
}
