//! What is tried with bytes of anybody: the parsers that read files, the network and disks. Called with random bytes by
//! the ordinary suite (`main.rs`), and by libFuzzer (`libfuzzer/`). A violation is a panic.

use replica::config;
use replica::engine::{Engine, Origin, Settings, UndoPolicy};
use replica::event::{Event, Millis};
use replica::handler::Handlers;
use replica::message::{HEADER_BYTES, Header, decode, encode};
use replica::meta::{Attached, Layout, MAGIC, SUPER_BYTES, Superblock, VERSION};

/// A resource file: it means something on both hosts, or each mistake has a place.
pub(crate) fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match config::parse("x.res", &text) {
        Ok(parsed) => {
            for resource in &parsed.resources {
                for host in &resource.hosts {
                    assert!(resource.for_node(&host.name).is_ok(), "{host:?} is no host of its resource");
                }
            }
        }
        Err(errors) => {
            assert!(!errors.is_empty());
            assert!(errors.iter().all(|e| e.at.line > 0 && e.at.column > 0 && !e.to_string().is_empty()));
        }
    }
}

/// A message of the peer, as it is and with a checksum that holds: what is read is written and read again as the same.
pub(crate) fn message(data: &[u8]) {
    let Some((head, body)) = data.split_first_chunk::<HEADER_BYTES>() else { return };
    read(head, body);
    let mut head = *head;
    head[..4].copy_from_slice(b"FTG1");
    // Most kinds of a byte are none.
    head[4] %= 40;
    head[5] = 0;
    head[32..36].copy_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(&head[..36]), &[0; 4]), body);
    head[36..].copy_from_slice(&crc.to_le_bytes());
    read(&head, body);
}

fn read(head: &[u8; HEADER_BYTES], body: &[u8]) {
    let Ok(header) = Header::parse(head) else { return };
    let Ok(message) = decode(&header, body) else { return };
    let data = if header.takes_slot() && message.name() != "Zero" { body } else { &[] };
    let again = encode(&message, header.term, data);
    let (head, rest) = again.split_first_chunk::<HEADER_BYTES>().expect("it has a header");
    let header = Header::parse(head).expect("its own header is read");
    assert_eq!(decode(&header, if rest.is_empty() { data } else { rest }), Ok(message));
}

/// The metadata of a disk, with checksums that hold: an engine begins with it, whatever it says, or it is refused.
pub(crate) fn metadata(data: &[u8]) {
    let layout = Layout::for_device(2 << 20).expect("large enough");
    let (at, len) = layout.metadata();
    let mut area = vec![0; len as usize];
    // Everywhere, as far as it goes; the superblocks then with magic, version, size and checksum.
    for (place, byte) in area.iter_mut().zip(data.iter().cycle()) {
        *place = *byte;
    }
    for (slot, seed) in [(0, data), (1, data.get(data.len() / 2..).unwrap_or_default())] {
        let start = (layout.super_at - at) as usize + slot * SUPER_BYTES;
        area[start..start + SUPER_BYTES].copy_from_slice(&superblock(seed, &layout));
    }
    let _ = Superblock::decode(data);
    let Ok(attached) = Attached::decode(layout, &area) else { return };
    let superblock = attached.superblock.clone();
    assert_eq!(Superblock::decode(&superblock.encode()), Ok(superblock));
    let mut out = Vec::new();
    let origin = Origin { seed: 1, unix_seconds: 0, resume: None, contact: None, unmaps: false };
    let mut engine = Engine::new(settings(), attached, origin, 1, &mut out);
    for now in [2 as Millis, 3000] {
        engine.handle(Event::Tick, now, &mut out);
    }
    assert_eq!(engine.status(3000).name, "r0");
}

fn superblock(data: &[u8], layout: &Layout) -> Vec<u8> {
    let mut slot = vec![0; SUPER_BYTES];
    for (place, byte) in slot.iter_mut().zip(data) {
        *place = *byte;
    }
    slot[..8].copy_from_slice(&MAGIC);
    slot[8..12].copy_from_slice(&VERSION.to_le_bytes());
    slot[24..32].copy_from_slice(&layout.data_bytes.to_le_bytes());
    let crc = crc32c::crc32c(&slot[..SUPER_BYTES - 4]);
    slot[SUPER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
    slot
}

fn settings() -> Settings {
    Settings {
        resource: "r0".into(),
        node: "ha-a".into(),
        node_id: 0,
        peer: "ha-b".into(),
        peer_node_id: 1,
        volume: 0,
        minor: 1,
        ping_interval_ms: 1000,
        ping_timeout_ms: 500,
        request_timeout_ms: 42_000,
        connect_interval_ms: 1000,
        disk_timeout_ms: 0,
        al_extents: 67,
        resync_rate_kib: 0,
        managed: false,
        undo: UndoPolicy::Try,
        handlers: Handlers::default(),
    }
}
