//! Who talks to whom: `on`, `connection`, `connection-mesh`, `path`, `host`, `address`.

use super::super::error::{Problem, Wanted};
use super::super::raw::{Address, Connection, End, Given, Host, Layer};
use super::super::section::Section;
use super::super::tree::Statement;
use super::super::{lexer::Word, value};
use super::Collector;

const ONE_PATH: &str = "the connection has one path; remove the others";

impl Collector {
    /// `on NAME { … }`.
    pub(super) fn on(&mut self, statement: &Statement) -> Option<Host> {
        let name = self.name(statement, Wanted::Text(value::HOST));
        let mut host = Host {
            name: name.map(|w| w.text.clone()).unwrap_or_default(),
            at: statement.at().clone(),
            node_id: None,
            address: None,
            volumes: Vec::new(),
            layer: Layer::default(),
        };
        for inner in self.block(statement) {
            match inner.name() {
                "address" => {
                    let address = self.address(inner);
                    self.once(inner, &mut host.address, address);
                }
                "node-id" => {
                    let id = self.node_id(inner);
                    self.once(inner, &mut host.node_id, id);
                }
                "volume" => self.volume(inner, &mut host.volumes),
                "disk" if inner.block.is_some() => {
                    self.section(Section::Disk, inner, &mut host.layer.disk);
                }
                "options" => self.section(Section::Options, inner, &mut host.layer.rest),
                "proxy" => self.refuse(inner, "there is no proxy for slow links; remove it"),
                _ if self.in_plain_volume(inner, &mut host.volumes) => {}
                _ => self.unknown(Section::On, inner),
            }
        }
        name.map(|_| host)
    }

    fn node_id(&mut self, statement: &Statement) -> Option<u32> {
        let word = self.one(statement, Wanted::Text(value::NODE_ID))?;
        let id = value::number(&word.text, 31);
        if id.is_none() {
            self.bad(word, "node-id", Wanted::Text(value::NODE_ID));
        }
        id
    }

    fn address(&mut self, statement: &Statement) -> Option<Address> {
        let address = self.address_words(statement, &statement.rest);
        let refused = statement.rest.first().is_some_and(|w| is_foreign_family(&w.text));
        if refused { None } else { self.value(statement, value::ADDRESS, address) }
    }

    /// `[family] ADDRESS:PORT`.
    fn address_words(&mut self, statement: &Statement, words: &[Word]) -> Option<Address> {
        let (family, rest) = match words {
            [first, rest @ ..] if matches!(first.text.as_str(), "ipv4" | "ipv6") => {
                (Some(first.text.as_str()), rest)
            }
            [first, ..] if is_foreign_family(&first.text) => {
                self.refuse(statement, "the hosts talk over TCP; write ipv4 or ipv6");
                return None;
            }
            rest => (None, rest),
        };
        // DRBD's lexer allows blanks around the colon.
        let text: String = rest.iter().map(|w| w.text.as_str()).collect();
        value::address(family, &text)
    }

    /// `connection { … }`.
    pub(super) fn connection(&mut self, statement: &Statement) -> Connection {
        let mut out = Connection { at: statement.at().clone(), ends: Vec::new(), layer: Layer::default() };
        let mut paths = 0;
        for inner in self.block(statement) {
            match inner.name() {
                "host" => {
                    let end = self.end(inner);
                    out.ends.extend(end);
                }
                "path" => {
                    paths += 1;
                    if paths > 1 {
                        let (subject, why) = ("a second path".to_owned(), ONE_PATH);
                        self.error(inner.at(), Problem::Refused { subject, why });
                    }
                    for host in self.block(inner) {
                        if host.name() == "host" {
                            let end = self.end(host);
                            out.ends.extend(end);
                        } else {
                            self.unknown(Section::Path, host);
                        }
                    }
                }
                "net" => self.section(Section::Net, inner, &mut out.layer.net),
                "disk" if inner.block.is_some() => {
                    self.section(Section::Disk, inner, &mut out.layer.disk);
                }
                "volume" => self.volume_of_connection(inner, &mut out.layer),
                _ => self.unknown(Section::Connection, inner),
            }
        }
        out
    }

    fn volume_of_connection(&mut self, statement: &Statement, layer: &mut Layer) {
        self.name(statement, Wanted::Text(value::VOLUME));
        for inner in self.block(statement) {
            if inner.name() == "disk" && inner.block.is_some() {
                self.section(Section::Disk, inner, &mut layer.disk);
            } else {
                self.unknown(Section::Volume, inner);
            }
        }
    }

    /// `connection-mesh { hosts A B; net { … } }`.
    pub(super) fn mesh(&mut self, statement: &Statement) -> Connection {
        let mut out = Connection { at: statement.at().clone(), ends: Vec::new(), layer: Layer::default() };
        for inner in self.block(statement) {
            match inner.name() {
                "hosts" => {
                    self.value(inner, "the names of both hosts", (inner.rest.len() == 2).then_some(()));
                    out.ends.extend(inner.rest.iter().map(|word| End {
                        name: word.text.clone(),
                        at: word.at.clone(),
                        address: None,
                        port: None,
                    }));
                }
                "net" => self.section(Section::Net, inner, &mut out.layer.net),
                _ => self.unknown(Section::Mesh, inner),
            }
        }
        out
    }

    /// `host NAME [address [family] ADDRESS:PORT | port PORT];`.
    fn end(&mut self, statement: &Statement) -> Option<End> {
        const WANTED: &str = "NAME, or NAME address ipv4 ADDRESS:PORT, or NAME port PORT";
        let words = statement.rest.as_slice();
        let [name, tail @ ..] = words else {
            self.value(statement, WANTED, None::<()>);
            return None;
        };
        let mut end = End { name: name.text.clone(), at: statement.at().clone(), address: None, port: None };
        let good = match tail {
            [] => Some(()),
            [key, address @ ..] if key.text == "address" => {
                let value = self.address_words(statement, address);
                let good = value.is_some() || address.first().is_some_and(|w| is_foreign_family(&w.text));
                end.address = Some(Given { value, at: key.at.clone() });
                good.then_some(())
            }
            [key, port] if key.text == "port" => {
                end.port = value::port(&port.text);
                end.port.map(|_| ())
            }
            [_, via, ..] if via.text == "via" => {
                self.error(&via.at, Problem::Refused { subject: "via".to_owned(), why: "there is no proxy" });
                Some(())
            }
            _ => None,
        };
        self.value(statement, WANTED, good);
        Some(end)
    }
}

fn is_foreign_family(word: &str) -> bool {
    matches!(word, "sdp" | "ssocks" | "sci")
}
