//! No change of a datagram, whoever makes it, makes a node panic or take another slice for the one that its leader
//! signed.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use alpenglow_dataplane::datagram::{Header, Kind};
use common::scene::{LEADER, NODES, PAYLOAD_BYTES, Receiver, SCENE, VICTIM, next_slice, slice};
use common::{CLUSTER, payload, sealed};
use proptest::prelude::*;

/// A change of a datagram or of a shred.
#[derive(Clone, Debug)]
enum Change {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, Vec<u8>),
    /// A part replaced by what lies there in a shred of another slice.
    Splice(prop::sample::Index, prop::sample::Index, prop::sample::Index),
}

impl Change {
    fn any() -> impl Strategy<Value = Self> {
        let place = any::<prop::sample::Index>;
        prop_oneof![
            4 => (place(), 1..=255_u8).prop_map(|(at, bits)| Self::Flip(at, bits)),
            1 => place().prop_map(Self::Cut),
            1 => (place(), prop::collection::vec(any::<u8>(), 1..70)).prop_map(|(at, more)| Self::Insert(at, more)),
            2 => (place(), place(), place()).prop_map(|(which, from, to)| Self::Splice(which, from, to)),
        ]
    }

    fn apply(&self, bytes: &mut Vec<u8>, others: &[Vec<u8>]) {
        let length = bytes.len() + 1;
        match self {
            Self::Flip(at, bits) => {
                if let Some(byte) = bytes.get_mut(at.index(length)) {
                    *byte ^= bits;
                }
            }
            Self::Cut(at) => bytes.truncate(at.index(length)),
            Self::Insert(at, more) => drop(bytes.splice(at.index(length)..at.index(length), more.iter().copied())),
            Self::Splice(which, from, to) => {
                let other = which.get(others);
                let ends = [from.index(length), to.index(length)].map(|end| end.min(other.len()));
                let range = ends[0].min(ends[1])..ends[0].max(ends[1]);
                bytes[range.clone()].copy_from_slice(&other[range]);
            }
        }
    }
}

/// Which shred, how it is changed, by which validator (none: a stranger changes the datagram), and when it arrives.
fn mutation() -> impl Strategy<Value = (usize, Vec<Change>, Option<usize>, prop::sample::Index)> {
    let insider = prop::option::weighted(0.7, prop::sample::select(vec![0, LEADER, 3, 4, NODES]));
    (0..64_usize, prop::collection::vec(Change::any(), 1..4), insider, any::<prop::sample::Index>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever is done to valid datagrams, between them or before: nothing panics, each slice comes out once and as it
    /// was signed, and no leader is accused.
    #[test]
    fn no_change_of_a_datagram_makes_another_slice(mutations in prop::collection::vec(mutation(), 1..40)) {
        let scene = &*SCENE;
        let mut arrivals: Vec<Vec<u8>> = (0..64).map(|index| scene.honest(index)).collect();
        for (index, changes, insider, position) in mutations {
            let bad = match insider {
                None => {
                    let mut datagram = scene.honest(index);
                    changes.iter().for_each(|change| change.apply(&mut datagram, &scene.next_shreds));
                    datagram
                }
                Some(sender) => {
                    let mut body = scene.shreds[index].clone();
                    changes.iter().for_each(|change| change.apply(&mut body, &scene.next_shreds));
                    // The last number stands for the shred's own sender, who gets furthest.
                    let sender = if sender == NODES { scene.sender_of(slice(), index) } else { sender };
                    scene.seal(sender, slice().lane(), &body)
                }
            };
            arrivals.insert(position.index(arrivals.len() + 1), bad);
        }
        let mut victim = Receiver::new(scene);
        arrivals.iter().for_each(|datagram| victim.receive(datagram));
        prop_assert!(victim.reports.is_empty(), "{:?}", victim.reports);
        prop_assert_eq!(victim.slices.iter().filter(|decoded| decoded.id == slice()).count(), 1);
        for decoded in &victim.slices {
            prop_assert!([slice(), next_slice()].contains(&decoded.id), "{:?}", decoded.id);
            prop_assert_eq!(&*decoded.payload, payload(decoded.id, PAYLOAD_BYTES));
        }
    }

    /// The header of a datagram and anything behind it.
    #[test]
    fn any_bytes_from_anybody_are_dropped(
        kind in 0..8_u8,
        lane: u8,
        sender in 0..NODES as u16 + 1,
        body in prop::collection::vec(any::<u8>(), 0..1_300),
        is_sealed: bool,
    ) {
        let scene = &*SCENE;
        let kind = Kind::from_byte(kind).unwrap_or(Kind::Shred);
        let mut victim = Receiver::new(scene);
        let header = Header { kind, lane, sender, cluster: *CLUSTER.0.first_chunk().unwrap(), tag: [0; 16] };
        match scene.keys.get(usize::from(sender)) {
            Some(keys) if is_sealed && sender != VICTIM.0 => {
                victim.receive(&sealed(keys, CLUSTER, VICTIM, kind, lane, &body));
            }
            _ => victim.receive(&[&header.encode()[..], &body].concat()),
        }
        prop_assert!(victim.slices.is_empty() && victim.reports.is_empty());
    }
}
