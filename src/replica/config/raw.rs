//! What the files say, before inheritance: every statement with its place, and gaps where nothing was said.

use std::net::IpAddr;

use super::error::Location;

/// A value and its place; `None` when something was given that made no sense (and was reported).
#[derive(Clone, Debug)]
pub(super) struct Given<T> {
    pub(super) value: Option<T>,
    pub(super) at: Location,
}

/// A statement that may stand once.
pub(super) type Slot<T> = Option<Given<T>>;

/// The value of an option that has an effect.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) name: &'static str,
    /// `None` when it has no effect or was wrong.
    pub(super) number: Option<u64>,
    /// As it was written.
    pub(super) word: String,
    pub(super) at: Location,
}

/// The options of one place in the inheritance.
#[derive(Clone, Debug, Default)]
pub(super) struct Layer {
    pub(super) net: Vec<Setting>,
    pub(super) disk: Vec<Setting>,
    /// `options`, and sections that have no effect here.
    pub(super) rest: Vec<Setting>,
}

/// `address`, with the port where it was given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address {
    pub(super) ip: IpAddr,
    pub(super) port: Option<u16>,
}

/// `device`.
#[derive(Clone, Debug)]
pub(super) struct Device {
    pub(super) path: String,
    pub(super) minor: u32,
}

/// `volume`, or the same statements without it.
#[derive(Clone, Debug)]
pub(super) struct Volume {
    pub(super) number: u32,
    pub(super) at: Location,
    pub(super) device: Slot<Device>,
    pub(super) disk: Slot<String>,
    pub(super) meta_disk: Slot<()>,
    pub(super) layer: Layer,
}

impl Volume {
    pub(super) fn new(number: u32, at: Location) -> Self {
        Self { number, at, device: None, disk: None, meta_disk: None, layer: Layer::default() }
    }
}

/// `on`.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) at: Location,
    pub(super) node_id: Slot<u32>,
    pub(super) address: Slot<Address>,
    pub(super) volumes: Vec<Volume>,
    pub(super) layer: Layer,
}

/// `host` inside of `connection`.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) name: String,
    pub(super) at: Location,
    pub(super) address: Slot<Address>,
    pub(super) port: Option<u16>,
}

/// `connection` or `connection-mesh`.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) at: Location,
    pub(super) ends: Vec<End>,
    /// Hosts may be left out.
    pub(super) layer: Layer,
}

/// `resource`.
#[derive(Clone, Debug)]
pub(super) struct Resource {
    pub(super) name: String,
    pub(super) at: Location,
    pub(super) volumes: Vec<Volume>,
    pub(super) hosts: Vec<Host>,
    pub(super) connections: Vec<Connection>,
    pub(super) layer: Layer,
}
