//! What is encoded is decoded again; what is damaged is never taken for a message; nothing makes it panic.

use proptest::prelude::*;

use super::*;
use crate::generation::HISTORY;

fn generations() -> impl Strategy<Value = Generations> {
    (any::<u64>(), any::<u64>(), any::<[u64; HISTORY]>(), any::<u64>())
        .prop_map(|(current, bitmap, history, counter)| Generations { current, bitmap, history, counter })
}

fn state() -> impl Strategy<Value = PeerState> {
    let role = prop::sample::select(Role::ALL);
    let disk = prop::sample::select(DiskState::ALL);
    (generations(), role, disk, any::<[bool; 3]>(), any::<[u64; 3]>(), 1..u64::MAX).prop_map(
        |(
            generations,
            role,
            disk,
            [crashed_primary, reconnect, discard_my_data],
            [bytes, dirty_blocks, abilities],
            capacity,
        )| {
            PeerState {
                generations,
                role,
                disk,
                bytes,
                capacity,
                crashed_primary,
                reconnect,
                discard_my_data,
                dirty_blocks,
                abilities: Abilities(abilities),
            }
        },
    )
}

fn message() -> impl Strategy<Value = Message> {
    let name = "[a-z.-]{0,40}";
    let range = (0..1u64 << 20, 1..=MAX_IO_BYTES / 4096)
        .prop_map(|(block, blocks)| Range { offset: block * BLOCK, len: blocks * 4096 });
    prop_oneof![
        (name, name, name).prop_map(|(resource, node, peer)| Message::Hello(Hello { resource, node, peer })),
        state().prop_map(Message::State),
        (any::<u64>(), prop::collection::vec(any::<u64>(), 0..50))
            .prop_map(|(first_word, words)| Message::Bitmap { first_word, words }),
        Just(Message::BitmapEnd),
        (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(base, blocks, as_of)| Message::SyncStart {
            base,
            blocks,
            as_of
        }),
        Just(Message::SyncReady),
        (any::<u64>(), range.clone()).prop_map(|(id, range)| Message::Resync { id, range }),
        any::<u64>().prop_map(|id| Message::ResyncAck { id }),
        generations().prop_map(Message::SyncFinish),
        Just(Message::SyncCommitted),
        (any::<u64>(), range.clone()).prop_map(|(id, range)| Message::Write { id, range }),
        (any::<u64>(), range.clone(), any::<[bool; 2]>())
            .prop_map(|(id, range, [unmap, resync])| Message::Zero { id, range, unmap, resync }),
        (any::<u64>(), range).prop_map(|(id, range)| Message::VerifyAsk { id, range }),
        (any::<u64>(), prop::collection::vec(any::<u128>(), 0..256))
            .prop_map(|(id, digests)| Message::VerifyReply { id, digests }),
        any::<u64>().prop_map(|id| Message::WriteAck { id }),
        any::<u64>().prop_map(|id| Message::Flush { id }),
        any::<u64>().prop_map(|id| Message::FlushAck { id }),
        Just(Message::InvalidateAsk),
        any::<bool>().prop_map(|granted| Message::InvalidateAnswer { granted }),
        generations().prop_map(Message::SkipSync),
        any::<bool>().prop_map(|granted| Message::SkipSyncAnswer { granted }),
        Just(Message::RoleAsk),
        any::<bool>().prop_map(|granted| Message::RoleAnswer { granted }),
        (prop::sample::select(Role::ALL), prop::sample::select(DiskState::ALL))
            .prop_map(|(role, disk)| Message::Changed { role, disk }),
        any::<u64>().prop_map(|id| Message::Ping { id }),
        any::<u64>().prop_map(|id| Message::Pong { id }),
        prop::sample::select(DiskState::ALL).prop_map(|disk| Message::Goodbye { disk }),
        any::<u64>().prop_map(|term| Message::Fenced { term }),
    ]
}

fn on_the_wire(message: &Message) -> Vec<u8> {
    let data = match message {
        Message::Write { range, .. } | Message::Resync { range, .. } => {
            (0..range.len).map(|i| u8::try_from(i % 249).unwrap()).collect()
        }
        _ => Vec::new(),
    };
    let mut bytes = encode(message, 0, &data);
    bytes.extend(data);
    bytes
}

fn read(bytes: &[u8]) -> Result<Message, DecodeError> {
    let (head, body) = bytes.split_first_chunk::<HEADER_BYTES>().unwrap();
    decode(&Header::parse(head)?, body)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_message_comes_back_as_it_was(message in message()) {
        prop_assert_eq!(read(&on_the_wire(&message)), Ok(message));
    }

    #[test]
    fn a_flipped_bit_is_never_taken_for_a_message(message in message(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut bytes = on_the_wire(&message);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(read(&bytes).is_err());
    }

    #[test]
    fn arbitrary_bytes_are_refused_and_never_panic(bytes in prop::collection::vec(any::<u8>(), HEADER_BYTES..200)) {
        prop_assert!(read(&bytes).is_err());
    }

    /// A well-formed header around anything: the body must be refused or read, without a panic.
    #[test]
    fn arbitrary_bodies_never_panic(kind in 0..kind::LAST + 2, body in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(kind.to_le_bytes());
        bytes.extend([0; 26]);
        bytes.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
        let crc = checksum(&bytes, &body);
        bytes.extend(crc.to_le_bytes());
        bytes.extend(body);
        let _ = read(&bytes);
    }
}

#[test]
fn a_length_above_the_bound_is_refused_by_the_header_alone() {
    let mut bytes = encode(&Message::Ping { id: 1 }, 0, &[]);
    bytes[32..36].copy_from_slice(&(MAX_BODY_BYTES + 1).to_le_bytes());
    let head: &[u8; HEADER_BYTES] = bytes.first_chunk().unwrap();
    assert!(matches!(Header::parse(head), Err(DecodeError::Length { .. })));
}

#[test]
fn another_protocol_is_named() {
    let head = b"GET / HTTP/1.1\r\nHost: ha-b.example.com\r\n\r\n";
    let error = Header::parse(head.first_chunk().unwrap()).unwrap_err();
    assert!(error.to_string().starts_with("not a futago replication message"), "{error}");
}
