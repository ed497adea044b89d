//! The language of scenarios: one step a line.
//!
//! ```text
//! # what is shown
//! profile fast|default|calm       before `up`
//! quorum witness|fencing|manual   before `up`
//! everywhere SERVICE              before `up`: runs on both hosts
//! policy foreign-start-alarm|reboot-on-failed-stop    before `up`
//! up                              from bare hosts to a running, synced stack on ha-a, with a client
//! boot ha-a | power-off ha-a
//! witness on|off|wipe|snapshot|restore
//! kill|pause|continue|stop|restart manager HOST      kill replicad HOST
//! kill SERVICE HOST | start SERVICE HOST | fault SERVICE HOST start|stop|stuck|hang|full|read-only|taken|none
//! freeze HOST 5s                  the whole machine stands still, its clock with it
//! suspend HOST 5s                 the whole machine stands still, its clock runs on
//! leap MEMBER 5s | drift MEMBER PPM     its clock leaps ahead; runs too fast (or too slow: negative)
//! disk HOST fails|hangs|slow|well
//! wipe HOST                       what its manager has stored is lost
//! cut SEGMENT [FROM TO] | isolate MEMBER | link-down HOST | link-up HOST | heal
//! loss N | repeat N | lag MS
//! operator HOST COMMAND …         `force-primary HOST` with --accept-loss, unless `unaccepted` follows
//! run 5s
//! pace 1s                         the client writes a row so often
//! expect served HOST | expect somebody | expect nobody | expect verdict HOST WORD | expect record PRIMARY SYNCED
//! expect why HOST WORDS …         a sentence of its status holds these words
//! expect running SERVICE HOST | expect stopped SERVICE HOST
//! expect gap 4s                   the client was never without an acknowledged row for longer, since the last such line
//! ```

use std::fmt::Write as _;

use cluster::config::{Config, ForeignStart, Quorum};
use cluster::control::Command;
use cluster::event::{Running, Shutdown};
use cluster::member::{Node, Voter};
use cluster::timing::Timing;

use crate::host::Fault;
use crate::managed::{Cluster, name};
use crate::net::{LOCAL, PUBLIC};
use crate::setup;
use crate::world::World;

pub(crate) struct Outcome {
    pub(crate) log: String,
    pub(crate) result: Result<(), String>,
}

/// Plays a script to its end, or to the first thing that is not as it should be.
pub(crate) fn run(text: &str) -> Outcome {
    let mut player = Player {
        cluster: None,
        quorum: Quorum::Witness,
        profile: Timing::DEFAULT_MS,
        settings: Vec::new(),
        snapshot: None,
    };
    let mut result = Ok(());
    for (number, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.is_empty() || words[0].starts_with('#') {
            continue;
        }
        if let Err(problem) = player.step(&words) {
            let told = player.cluster.as_ref().map(Cluster::told).unwrap_or_default();
            result = Err(format!("script:{}: {line}: {problem}\n{told}", number + 1));
            break;
        }
    }
    let mut log = String::new();
    for (at, line) in player.cluster.iter().flat_map(|c| &c.story) {
        writeln!(log, "{:>4}.{:03} {line}", at / 1000, at % 1000).unwrap();
    }
    Outcome { log, result }
}

type Setting = Box<dyn Fn(&mut Config)>;

struct Player {
    cluster: Option<Cluster>,
    quorum: Quorum,
    profile: u64,
    /// Changes of the configuration, before there is a cluster.
    settings: Vec<Setting>,
    snapshot: Option<cluster::register::SavedVote>,
}

impl Player {
    fn step(&mut self, words: &[&str]) -> Result<(), String> {
        match words {
            ["profile", word] => {
                self.profile = match *word {
                    "fast" => Timing::FAST_MS,
                    "calm" => Timing::CALM_MS,
                    _ => Timing::DEFAULT_MS,
                };
                return Ok(());
            }
            ["quorum", word] => {
                self.quorum = match *word {
                    "fencing" => Quorum::Fencing,
                    "manual" => Quorum::Manual,
                    _ => Quorum::Witness,
                };
                return Ok(());
            }
            ["everywhere", service] => {
                let unit = setup::everywhere(service);
                self.settings.push(Box::new(move |config| config.everywhere.push(unit.clone())));
                return Ok(());
            }
            ["policy", "foreign-start-alarm"] => {
                self.settings.push(Box::new(|config| config.policy.foreign_start = ForeignStart::Alarm));
                return Ok(());
            }
            ["policy", "reboot-on-failed-stop"] => {
                self.settings.push(Box::new(|config| config.policy.reboot_on_failed_stop = true));
                return Ok(());
            }
            _ => {}
        }
        let (quorum, profile) = (self.quorum, self.profile);
        let cluster = self.cluster.get_or_insert_with(|| Cluster::new(World::new(1), quorum, profile));
        match words {
            ["up"] => {
                self.settings.iter().for_each(|setting| cluster.configure(setting));
                cluster.bring_up(quorum)?;
                cluster.story.clear();
                cluster.client.longest_gap = 0;
                Ok(())
            }
            ["pace", time] => {
                cluster.client.pace = millis(time)?;
                Ok(())
            }
            ["run", time] => cluster.pass(millis(time)?),
            ["expect", rest @ ..] => expect(cluster, rest),
            ["witness", "snapshot"] => {
                self.snapshot = cluster.witness_snapshot();
                Ok(())
            }
            ["witness", "restore"] => {
                cluster.restore_witness(self.snapshot.take());
                cluster.start_witness();
                Ok(())
            }
            ["operator", host, rest @ ..] => {
                cluster.command(node(host)?, command(rest)?);
                Ok(())
            }
            _ => fault(cluster, words),
        }
    }
}

fn fault(cluster: &mut Cluster, words: &[&str]) -> Result<(), String> {
    match words {
        ["boot", host] => cluster.power_on(node(host)?),
        ["power-off", host] => cluster.power_off(node(host)?),
        ["witness", "on"] => cluster.start_witness(),
        ["witness", "off"] => cluster.stop_witness(false),
        ["witness", "wipe"] => cluster.stop_witness(true),
        ["kill", "manager", host] => cluster.kill_manager(node(host)?),
        ["pause", "manager", host] => cluster.pause_manager(node(host)?, true),
        ["continue", "manager", host] => cluster.pause_manager(node(host)?, false),
        ["stop", "manager", host] => cluster.shut_down_manager(node(host)?, Shutdown::HandOver),
        ["restart", "manager", host] => cluster.shut_down_manager(node(host)?, Shutdown::Restart),
        ["lose", "replicad", host] => cluster.lose_replicad(node(host)?),
        ["kill", "replicad", host] => cluster.kill_replicad(node(host)?),
        ["kill", service, host] => cluster.kill_service(node(host)?, service),
        ["start", service, host] => cluster.start_service(node(host)?, service),
        ["fault", service, host, what] => {
            let fault = match *what {
                "start" => Some(Fault::Start),
                "stop" => Some(Fault::Stop),
                "stuck" => Some(Fault::Stuck),
                "hang" => Some(Fault::Hang),
                "full" => Some(Fault::Full),
                "read-only" => Some(Fault::ReadOnly),
                "taken" => Some(Fault::Taken),
                _ => None,
            };
            cluster.set_fault(node(host)?, service, fault);
        }
        ["cut", segment] => {
            cluster.tell(format!("{segment} segment is cut"));
            cluster.cut_segment(path(segment)?, true);
        }
        ["cut", segment, from, to] => {
            cluster.tell(format!("{segment} segment is cut from {from} to {to}"));
            cluster.cut(voter(from)?, voter(to)?, path(segment)?, true);
        }
        ["isolate", member] => {
            cluster.tell(format!("{member} is isolated"));
            cluster.isolate(voter(member)?, true);
        }
        ["link-down", host] => cluster.set_public_link(node(host)?, false),
        ["link-up", host] => cluster.set_public_link(node(host)?, true),
        ["heal"] => {
            cluster.tell("everything is healed".into());
            cluster.heal();
        }
        ["loss", n] => cluster.net.loss = n.parse().map_err(|_| "a number")?,
        ["repeat", n] => cluster.net.repeat = n.parse().map_err(|_| "a number")?,
        ["lag", n] => cluster.net.lag = n.parse().map_err(|_| "milliseconds")?,
        _ => return machine(cluster, words),
    }
    Ok(())
}

/// What happens to a whole machine, its clock or its disks.
fn machine(cluster: &mut Cluster, words: &[&str]) -> Result<(), String> {
    match words {
        ["freeze", host, time] => cluster.freeze(node(host)?, millis(time)?),
        ["suspend", host, time] => cluster.suspend(node(host)?, millis(time)?),
        ["leap", member, time] => cluster.leap(voter(member)?, millis(time)?),
        ["drift", member, ppm] => cluster.drift(voter(member)?, ppm.parse().map_err(|_| "a number")?),
        ["disk", host, how @ ("fails" | "hangs" | "slow" | "well")] => cluster.set_disk(node(host)?, how),
        ["wipe", host] => cluster.wipe_manager(node(host)?),
        _ => return Err("no such step".into()),
    }
    Ok(())
}

fn expect(cluster: &mut Cluster, words: &[&str]) -> Result<(), String> {
    let served: Vec<Node> = Node::ALL.into_iter().filter(|n| cluster.is_served_by(*n)).collect();
    match words {
        ["served", host] => {
            let names: Vec<&str> = served.iter().map(|n| name(*n)).collect();
            if served == [node(host)?] { Ok(()) } else { Err(format!("served by {names:?}")) }
        }
        ["somebody"] if !served.is_empty() => Ok(()),
        ["somebody"] => Err("served by nobody".into()),
        ["nobody"] if served.is_empty() => Ok(()),
        ["nobody"] => Err(format!("served by {}", name(served[0]))),
        ["verdict", host, word] => {
            let status = cluster.status(node(host)?).ok_or("no manager there")?;
            let verdict = format!("{:?}", status.verdict).to_uppercase();
            if verdict == *word { Ok(()) } else { Err(format!("{verdict}: {}", status.because)) }
        }
        ["why", host, words @ ..] => {
            let status = cluster.status(node(host)?).ok_or("no manager there")?;
            let text = words.join(" ");
            if status.why.iter().any(|why| why.contains(&text)) { Ok(()) } else { Err(status.why.join("; ")) }
        }
        ["running" | "stopped", service, host] => {
            let services = &cluster.host(node(host)?).services;
            let state = services.id(service).map(|id| services.state(id)).ok_or("no such service")?;
            let is = if words[0] == "running" { Running::Started } else { Running::Stopped };
            if state == is { Ok(()) } else { Err(format!("{state:?}")) }
        }
        ["record", primary, synced] => {
            let record = cluster.record();
            let is = (record.primary == Some(node(primary)?), record.synced.to_string() == *synced);
            if is == (true, true) { Ok(()) } else { Err(format!("{record:?}")) }
        }
        ["gap", time] => {
            let (gap, most) = (cluster.client.longest_gap, millis(time)?);
            cluster.client.longest_gap = 0;
            cluster.tell(format!("longest time without an acknowledged row: {gap} ms"));
            if gap <= most { Ok(()) } else { Err(format!("{gap} ms")) }
        }
        _ => Err("no such expectation".into()),
    }
}

fn command(words: &[&str]) -> Result<Command, String> {
    Ok(match words {
        ["bootstrap", host] => Command::Bootstrap { primary: node(host)?, maintenance: false },
        ["switchover"] => Command::Switchover { to: None },
        ["switchover", host] => Command::Switchover { to: Some(node(host)?) },
        ["standby", host] => Command::Standby { node: node(host)? },
        ["online", host] => Command::Online { node: node(host)? },
        ["maintenance", word] => Command::Maintenance { on: *word == "on" },
        ["hold"] => Command::Hold { reason: "scenario".into() },
        ["resume"] => Command::Resume,
        ["cleanup"] => Command::Cleanup { resource: None },
        ["restart", resource] => Command::Restart { resource: (*resource).into() },
        ["force-primary", host] => Command::ForcePrimary { node: node(host)?, accept_loss: true },
        ["force-primary", host, "unaccepted"] => {
            Command::ForcePrimary { node: node(host)?, accept_loss: false }
        }
        ["confirm-off", host] => Command::ConfirmOff { node: node(host)? },
        ["discard-diverged", host] => Command::DiscardDiverged { node: node(host)? },
        _ => return Err("no such command".into()),
    })
}

fn node(host: &str) -> Result<Node, String> {
    match host {
        "ha-a" => Ok(Node::A),
        "ha-b" => Ok(Node::B),
        _ => Err(format!("{host} is neither ha-a nor ha-b")),
    }
}

fn voter(member: &str) -> Result<Voter, String> {
    if member == "witness" { Ok(Voter::Witness) } else { node(member).map(Voter::from) }
}

fn path(segment: &str) -> Result<cluster::event::PathId, String> {
    match segment {
        "local" => Ok(LOCAL),
        "public" => Ok(PUBLIC),
        _ => Err(format!("{segment} is neither local nor public")),
    }
}

fn millis(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1.0),
        None => (text.strip_suffix('s').ok_or("a time like 5s or 300ms")?, 1000.0),
    };
    number.parse::<f64>().map(|n| (n * unit) as u64).map_err(|_| "a time like 5s or 300ms".into())
}
