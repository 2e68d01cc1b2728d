//! Every way in which a shred can be wrong, and the reason for which it is dropped.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::collections::BTreeSet;

use alpenglow_dataplane::auth::PairwiseKeys;
use alpenglow_dataplane::datagram::{HEADER_BYTES, Kind};
use alpenglow_dataplane::{Counter, FromShard};
use alpenglow_rotor::merkle;
use alpenglow_rotor::parameters::CodingParameters;
use alpenglow_rotor::shred::{SHRED_HEADER_BYTES, SHRED_SIGNED_BYTES};
use alpenglow_rotor::signature::SignedRoot;
use alpenglow_rotor::signer::SliceSigner;
use alpenglow_rotor::types::{ClusterId, Hash, ValidatorIndex};
use common::scene::{LEADER, NODES, PATH, PAYLOAD_BYTES, Receiver, SCENE, Scene, VICTIM, slice};
use common::{CLUSTER, SHREDS_THROUGH, identity, payload, sealed, slice_id};

/// What the victim has received before.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Before {
    Nothing,
    /// A shred of the slice.
    Slice,
    /// All shreds that suffice.
    Decoded,
    /// A shred of the slice, then one with another signature by the sender of shred 5.
    CheckSpent,
    /// A shred of each of two versions of the slice.
    TwoVersions,
    /// As many other slices of the window as there is memory for, and the slice.
    Crowd,
}

impl Before {
    fn datagrams(self, scene: &Scene) -> Vec<Vec<u8>> {
        let honest = |count| (0..count).map(|index| scene.honest(index)).collect();
        match self {
            Self::Nothing => vec![],
            Self::Slice => honest(1),
            Self::Decoded => honest(32),
            Self::CheckSpent => vec![scene.honest(0), scene.by_insider(|shred| shred[20] ^= 1)],
            Self::TwoVersions => vec![scene.honest(0), scene.other_version(6, true, PAYLOAD_BYTES + 1, LEADER)],
            Self::Crowd => [honest(1), scene.crowd()].concat(),
        }
    }
}

/// Makes bad datagrams, each of them to be dropped for the same reason.
type Make = fn(&Scene) -> Vec<Vec<u8>>;

/// Bad datagram, what came before, reason.
const KINDS: &[(&str, Before, Counter, Make)] = {
    use Before::{CheckSpent, Crowd, Decoded, Nothing, TwoVersions};
    use Counter as C;
    const SLICE: Before = Before::Slice;
    &[
        // The datagram's length.
        ("empty", SLICE, C::TooShort, |s| vec![s.by_stranger(Vec::clear)]),
        ("cut in the header", SLICE, C::TooShort, |s| vec![s.by_stranger(|d| d.truncate(HEADER_BYTES - 1))]),
        ("cut in the slot", SLICE, C::TooShort, |s| vec![s.by_stranger(|d| d.truncate(HEADER_BYTES + 7))]),
        ("cut in what the MAC covers", SLICE, C::BadMac, |s| vec![s.by_stranger(|d| d.truncate(HEADER_BYTES + 79))]),
        ("cut there by an insider", SLICE, C::MalformedShred, |s| vec![s.by_insider(|d| d.truncate(79))]),
        ("cut in the path", SLICE, C::MalformedShred, |s| vec![s.by_stranger(|d| d.truncate(HEADER_BYTES + 80 + 191))]),
        ("cut before the data", SLICE, C::MalformedShred, |s| {
            vec![s.by_stranger(|d| d.truncate(HEADER_BYTES + 80 + 192))]
        }),
        ("an odd byte less", SLICE, C::MalformedShred, |s| vec![s.by_stranger(|d| d.truncate(d.len() - 1))]),
        ("an even piece less", SLICE, C::ShredWrongPath, |s| vec![s.by_stranger(|d| d.truncate(d.len() - 2))]),
        ("two bytes more", SLICE, C::ShredWrongPath, |s| vec![s.by_stranger(|d| d.extend([0; 2]))]),
        ("more data than shreds have", SLICE, C::MalformedShred, |s| vec![s.by_stranger(|d| d.resize(1_232, 0))]),
        ("longer than the limit", SLICE, C::TooLong, |s| vec![s.by_stranger(|d| d.resize(1_233, 0))]),
        // The datagram's header, as strangers can change it.
        ("another version", SLICE, C::BadVersion, |s| s.flipped_by_stranger(0..1)),
        ("no kind", SLICE, C::BadKind, |s| {
            let unknown = (0..=255).filter(|byte| Kind::from_byte(*byte).is_none());
            unknown.map(|byte| s.by_stranger(|d| d[1] = byte)).collect()
        }),
        ("another kind", SLICE, C::BadMac, |s| {
            let known = (0..=255)
                .filter(|byte| ![None, Some(Kind::Shred), Some(Kind::Transaction)].contains(&Kind::from_byte(*byte)));
            // On the lane that such a message has.
            known.map(|byte| s.by_stranger(|d| (d[1], d[2]) = (byte, d[4]))).collect()
        }),
        ("a transaction", SLICE, C::BadHeader, |s| vec![s.by_stranger(|d| d[1] = 4)]),
        ("another lane", SLICE, C::BadMac, |s| s.flipped_by_stranger(2..3)),
        ("another lane, by an insider", SLICE, C::WrongLane, |s| {
            vec![s.seal(s.sender_of(slice(), 5), slice().lane() ^ 1, &s.shreds[5])]
        }),
        ("reserved bytes", SLICE, C::BadHeader, |s| [3..4, 6..8].map(|bytes| s.flipped_by_stranger(bytes)).concat()),
        ("in another's name", SLICE, C::BadMac, |s| vec![s.by_stranger(|d| d[4] = if d[4] == 3 { 4 } else { 3 })]),
        ("in the receiver's name", SLICE, C::OwnSender, |s| vec![s.by_stranger(|d| d[4] = VICTIM.0 as u8)]),
        ("in nobody's name", SLICE, C::UnknownSender, |s| {
            vec![s.by_stranger(|d| d[4] = NODES as u8), s.by_stranger(|d| d[5] = 1)]
        }),
        ("another cluster's", SLICE, C::WrongCluster, |s| s.flipped_by_stranger(8..16)),
        ("a MAC bit", SLICE, C::BadMac, |s| s.flipped_by_stranger(16..32)),
        ("no MAC", SLICE, C::BadMac, |s| vec![s.by_stranger(|d| d[16..32].fill(0))]),
        // What the MAC covers of the shred, as strangers can change it.
        ("a header or signature bit", SLICE, C::BadMac, |s| s.flipped_by_stranger(HEADER_BYTES + 8..HEADER_BYTES + 80)),
        ("a path bit", SLICE, C::ShredWrongPath, |s| {
            s.flipped_by_stranger(HEADER_BYTES + PATH.start..HEADER_BYTES + PATH.end)
        }),
        ("a data bit", SLICE, C::ShredWrongPath, |s| s.flipped_by_stranger(HEADER_BYTES + PATH.end..s.honest(5).len())),
        ("a data bit of the first shred", Nothing, C::ShredBadSignature, |s| {
            vec![s.by_stranger(|d| d[HEADER_BYTES + PATH.end] ^= 1)]
        }),
        ("a data bit after decoding", Decoded, C::ShredWrongBytes, |s| {
            vec![s.by_stranger(|d| d[HEADER_BYTES + PATH.end] ^= 1)]
        }),
        ("a path bit after decoding", Decoded, C::ShredWrongBytes, |s| {
            vec![s.by_stranger(|d| d[HEADER_BYTES + PATH.start] ^= 1)]
        }),
        // Sent again, elsewhere, or by others.
        ("sealed for another receiver", SLICE, C::BadMac, |s| {
            vec![sealed(
                &s.keys[s.sender_of(slice(), 5)],
                CLUSTER,
                ValidatorIndex(0),
                Kind::Shred,
                slice().lane(),
                &s.shreds[5],
            )]
        }),
        ("replayed from a like-named cluster", SLICE, C::BadMac, |s| {
            vec![sealed(&near_keys(s), near_cluster(), VICTIM, Kind::Shred, slice().lane(), &s.shreds[5])]
        }),
        ("from a stranger's keys", SLICE, C::BadMac, |s| {
            vec![s.by_stranger(|d| d[16..32].copy_from_slice(&[0x5a; 16]))]
        }),
        ("by a validator that is not its relay", SLICE, C::WrongRelay, |s| {
            (0..64).map(|index| s.seal(other_than(s, index), slice().lane(), &s.shreds[index])).collect()
        }),
        ("by the leader, of another's", SLICE, C::Misdirected, |s| {
            (0..64)
                .filter(|index| ![LEADER, VICTIM.get()].contains(&relay(s, *index)))
                .map(|index| s.seal(LEADER, slice().lane(), &s.shreds[index]))
                .collect()
        }),
        ("of a slot the receiver leads", SLICE, C::OwnSlot, |s| {
            [0, 2, 3].map(|sender| s.seal(sender, slice_id(24, 0).lane(), &s.of_slice(slice_id(24, 0))[5])).into()
        }),
        ("of a closed slot", SLICE, C::ClosedSlot, |s| {
            [0, 3, 7].map(|slot| s.moved_by_insider(slice_id(slot, 0), 5)).into()
        }),
        ("of a far slot", SLICE, C::SlotTooFar, |s| {
            [SHREDS_THROUGH.0 + 1, 1 << 40, u64::MAX].map(|slot| s.moved_by_insider(slice_id(slot, 0), 5)).into()
        }),
        // The shred's fields, as insiders can change them.
        ("the right signature for another slot", SLICE, C::ShredBadSignature, |s| {
            [9, 10, 11, 12].map(|slot| s.moved_by_insider(slice_id(slot, 0), 5)).into()
        }),
        ("the right signature for another slice", SLICE, C::ShredBadSignature, |s| {
            [1, 2, 1_023].map(|index| s.moved_by_insider(slice_id(8, index), 5)).into()
        }),
        ("a slice past the last possible", SLICE, C::MalformedShred, |s| {
            [4, 0x7c].map(|high| s.by_insider(|d| d[9] = high)).into()
        }),
        ("another shred's index", SLICE, C::ShredWrongPath, |s| {
            [4, 6, 63].map(|index| s.moved_by_insider(slice(), index)).into()
        }),
        ("another shred's index, first", Nothing, C::ShredBadSignature, |s| vec![s.moved_by_insider(slice(), 4)]),
        ("an index past the end", SLICE, C::MalformedShred, |s| {
            [64, 255, 256, 65_535].map(|index| s.moved_by_insider(slice(), index)).into()
        }),
        ("reserved shred bytes", SLICE, C::MalformedShred, |s| s.flipped_by_insider(12..16)),
        ("the last flag", SLICE, C::ShredWrongLastFlag, |s| vec![s.by_insider(|d| d[9] ^= 0x80)]),
        ("the last flag, first", Nothing, C::ShredBadSignature, |s| vec![s.by_insider(|d| d[9] ^= 0x80)]),
        ("a signature bit", SLICE, C::ShredBadSignature, |s| {
            s.flipped_by_insider(SHRED_HEADER_BYTES..SHRED_SIGNED_BYTES)
        }),
        ("a signature bit, first", Nothing, C::ShredBadSignature, |s| {
            s.flipped_by_insider(SHRED_HEADER_BYTES..SHRED_SIGNED_BYTES)
        }),
        ("a signature again", CheckSpent, C::ShredSenderSpent, |s| {
            vec![s.by_insider(|d| d[21] ^= 1), s.by_insider(|d| d[20] ^= 1)]
        }),
        ("another validator's signature", SLICE, C::ShredBadSignature, |s| {
            vec![s.other_version(5, true, PAYLOAD_BYTES, 3)]
        }),
        ("a proof one node short", SLICE, C::ShredWrongPath, |s| {
            vec![s.by_insider(|d| drop(d.drain(PATH.start..PATH.start + 32)))]
        }),
        ("a proof one node long", SLICE, C::ShredWrongPath, |s| vec![s.by_insider(|d| insert(d, PATH.end, &[0; 32]))]),
        ("a proof of padding above", SLICE, C::ShredWrongPath, |s| {
            vec![s.by_insider(|d| insert(d, PATH.end, &merkle::empty_subtree(6)))]
        }),
        ("no proof", SLICE, C::MalformedShred, |s| {
            vec![s.by_insider(|d| {
                d.drain(PATH);
                d.truncate(200)
            })]
        }),
        // What the leader itself signs.
        ("two roots for one slice", SLICE, C::ShredEquivocation, |s| {
            vec![s.other_version(5, true, PAYLOAD_BYTES + 1, LEADER)]
        }),
        ("two last flags", SLICE, C::ShredEquivocation, |s| vec![s.other_version(5, false, PAYLOAD_BYTES, LEADER)]),
        ("a third version", TwoVersions, C::ShredAfterEquivocation, |s| {
            vec![s.other_version(5, true, PAYLOAD_BYTES + 2, LEADER)]
        }),
        ("a slice there is no memory for", Crowd, C::ShredBudget, |s| {
            vec![s.sent(slice_id(8, 900), 5, &s.of_slice(slice_id(8, 900))[5])]
        }),
    ]
};

/// Reasons that are not those of a single bad shred, with the test that provokes them.
const ELSEWHERE: &[Counter] = &[
    // Below.
    Counter::TooManySegments,
    Counter::ShredMalformedSlice,
    // Shreds of other shards, in the tests of topology.
    Counter::InboxFull,
    // What the two are counted for has been refused by the gate already, unless a slot is closed in between: assembler.
    Counter::ShredLate,
    Counter::ShredEvicted,
    // Rates of messages: the tests of limits, and `hostile.rs`.
    Counter::VoteOverRate,
    Counter::CertificateOverRate,
    Counter::TransactionOverRate,
    Counter::RepairOverRate,
    Counter::ClientOverRate,
    Counter::ClientsOverRate,
    // Messages and sending: `hostile.rs`, `dissemination.rs`, `mtu.rs`, and the tests of link, relay and ring.
    Counter::VoteQueueFull,
    Counter::CertificateQueueFull,
    Counter::TransactionQueueFull,
    Counter::RepairQueueFull,
    Counter::VoteShareFull,
    Counter::CertificateShareFull,
    Counter::TransactionShareFull,
    Counter::RepairShareFull,
    Counter::MessageTooLong,
    Counter::RelayBacklogFull,
    Counter::NoSuchReceiver,
    Counter::SendTooLong,
    Counter::SendFailed,
];

fn insert(bytes: &mut Vec<u8>, at: usize, more: &[u8]) {
    bytes.splice(at..at, more.iter().copied());
}

fn relay(scene: &Scene, index: usize) -> usize {
    let mut relays = vec![ValidatorIndex(0); scene.config.coding.total_shreds()];
    scene.config.sampler.sample(slice(), &mut relays);
    relays[index].get()
}

/// A validator that is neither the shred's relay nor its leader nor the victim.
fn other_than(scene: &Scene, index: usize) -> usize {
    let relay = relay(scene, index);
    [0, 3, 4].into_iter().find(|other| *other != relay).unwrap()
}

/// A cluster whose id differs in bytes that headers do not carry.
fn near_cluster() -> ClusterId {
    let mut near = CLUSTER;
    near.0[31] ^= 1;
    near
}

fn near_keys(scene: &Scene) -> PairwiseKeys {
    let sender = scene.sender_of(slice(), 5);
    let own = ValidatorIndex(sender as u16);
    PairwiseKeys::derive(&identity(sender), &scene.config.validators, near_cluster(), own).unwrap()
}

/// Each bad datagram is counted once, for its reason and no other; the slice comes out all the same.
#[test]
fn every_kind_of_bad_shred_is_dropped_for_its_reason() {
    let scene = &*SCENE;
    for &(what, before, reason, make) in KINDS {
        let bad = make(scene);
        assert!(!bad.is_empty(), "{what}");
        for (nth, datagram) in bad.iter().enumerate() {
            let mut victim = Receiver::new(scene);
            before.datagrams(scene).iter().for_each(|datagram| victim.receive(datagram));
            let (counted, seen) = (victim.drops(), victim.leaders_seen.clone());
            victim.receive(datagram);
            assert_eq!(victim.leaders_seen, seen, "{what}, number {nth}: it shows no leader alive");
            for ((counter, now), (_, earlier)) in victim.drops().into_iter().zip(counted) {
                assert_eq!(now - earlier, u64::from(counter == reason), "{what}, number {nth}: {}", counter.name());
            }
            (0..64).for_each(|index| victim.receive(&scene.honest(index)));
            assert_eq!(victim.slices.len(), 1, "{what}, number {nth}");
            assert_eq!(victim.leaders_seen, [slice().slot], "{what}, number {nth}");
            assert_eq!(&*victim.slices[0].payload, payload(slice(), PAYLOAD_BYTES), "{what}, number {nth}");
            let two_versions = before == Before::TwoVersions || reason == Counter::ShredEquivocation;
            assert_eq!(victim.reports.len(), usize::from(two_versions), "{what}, number {nth}: {:?}", victim.reports);
        }
    }
}

#[test]
fn every_reason_to_drop_a_shred_is_among_the_kinds() {
    let name = |counter: &Counter| counter.name();
    let known: BTreeSet<_> = KINDS.iter().map(|(_, _, reason, _)| reason).chain(ELSEWHERE).map(name).collect();
    let all: BTreeSet<_> = Counter::ALL.iter().filter(|counter| counter.is_drop()).map(name).collect();
    assert_eq!(known, all);
}

/// A replayed shred is no drop: half of all shreds are surplus. It is not taken for another one.
#[test]
fn a_replayed_shred_brings_nothing_new() {
    let scene = &*SCENE;
    let mut victim = Receiver::new(scene);
    for index in [0, 0, 5, 5, 5] {
        victim.receive(&scene.honest(index));
    }
    assert_eq!(victim.receiver.counters().get(Counter::ShredsSurplus), 3);
    (0..31).for_each(|index| victim.receive(&scene.honest(index)));
    assert!(victim.slices.is_empty());
    victim.receive(&scene.honest(40));
    assert_eq!(victim.slices.len(), 1);
}

#[test]
fn more_datagrams_than_the_kernel_joins_are_dropped() {
    let mut victim = Receiver::new(&SCENE);
    victim.receiver.receive(&SCENE.honest(5).repeat(130), SCENE.honest(5).len(), drop);
    let counters = victim.receiver.counters();
    assert_eq!([Counter::TooManySegments, Counter::ShredsSurplus].map(|counter| counters.get(counter)), [2, 127]);
    assert!(victim.slices.is_empty() && victim.reports.is_empty());
}

/// The leader signs a tree over shreds that are no code word: reported once, and nothing of it is kept.
#[test]
fn a_slice_that_is_none_is_reported_and_its_shreds_are_dropped() {
    let scene = &*SCENE;
    let mut bodies = scene.shreds.clone();
    bodies[63][PATH.end] ^= 1;
    let mut nodes = vec![[0; 32]; 64];
    nodes.extend(bodies.iter().map(|body| merkle::leaf(&body[PATH.end..]).0));
    (1..64).rev().for_each(|parent| nodes[parent] = merkle::node(&nodes[2 * parent], &nodes[2 * parent + 1]));
    let signed = SignedRoot::sign(&SliceSigner::new(&identity(LEADER)), CLUSTER, slice(), true, Hash(nodes[1]));
    let mut victim = Receiver::new(scene);
    for (index, body) in bodies.iter_mut().enumerate() {
        body[SHRED_HEADER_BYTES..SHRED_SIGNED_BYTES].copy_from_slice(&signed.signature.0);
        for (level, sibling) in body[PATH].chunks_exact_mut(32).enumerate() {
            sibling.copy_from_slice(&nodes[(64 + index) >> level ^ 1]);
        }
        victim.receive(&scene.sent(slice(), index, body));
    }
    let [FromShard::MalformedSlice(malformed)] = &victim.reports[..] else { panic!("{:?}", victim.reports) };
    assert_eq!(malformed.signed, signed);
    let proven = malformed.check(&identity(LEADER).verifying_key(), CLUSTER, &CodingParameters::default());
    assert_eq!(proven, Ok(()), "it comes with the shreds that show it");
    assert!(victim.slices.is_empty());
    assert_eq!(victim.receiver.counters().get(Counter::ShredMalformedSlice), 32);
}
