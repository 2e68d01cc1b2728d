//! `encode` and `receive`: what a shard computes, from memory, beside the kernels that it is made of.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use alpenglow_dataplane::auth::TAGS_AT_ONCE;
use alpenglow_dataplane::datagram::{Header, PREFIX_BYTES, SHRED_COVERED_BYTES};
use alpenglow_dataplane::offline::{OfflineEncoder, OfflineReceiver};
use alpenglow_dataplane::{Counter, FromShard, Horizon};
use alpenglow_rotor::slice::SlicePayload;
use alpenglow_rotor::types::{Slot, ValidatorIndex};

use super::kernels::{Bare, Work};
use crate::fixture::{Cluster, LEADER, NODE, Senders, noise, pairwise_keys, shuffled, slice_id};
use crate::report::Row;
use crate::rounds::{Sampler, median, median_ratio, medians, repeated};

/// Most datagrams in one receive buffer: what a relay sends at once, about. The kernel joins those of one sender only.
const JOINED: usize = 16;
/// Slices in each sample of receiving, and how many come before that do not count, as with every kernel beside it.
const SLICES: usize = 3;
const SLICES_BEFORE: usize = 1;
/// One datagram of garbage to so many good ones: a fifth of all is.
const GOOD_PER_GARBAGE: usize = 4;
/// Slots from one window of [`LEADER`]'s to its next.
const SLOTS_BETWEEN_WINDOWS: u64 = 20;
/// The order in which the shreds of all slices come.
const ORDER_SEED: u64 = 1;

/// What comes besides or instead of the 64 datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// All of them, in no order.
    All,
    /// 32 of them, in no order.
    HalfLost,
    /// All of them, and a fifth of everything is garbage.
    Garbage,
}

/// What is wrong with a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Garbage {
    /// Bytes without meaning.
    Noise,
    /// A stranger's: the header is right, the MAC is not.
    ForgedMac,
    /// A lying validator's: the MAC is right, the data is not under the leader's root.
    WrongPath,
}

impl Garbage {
    pub(crate) const ALL: [Self; 3] = [Self::Noise, Self::ForgedMac, Self::WrongPath];

    const fn name(self) -> &'static str {
        match self {
            Self::Noise => "reject_noise",
            Self::ForgedMac => "reject_forged_mac",
            Self::WrongPath => "reject_wrong_path",
        }
    }
}

/// The leader's part.
pub(crate) fn encode(rounds: usize) -> Row {
    let cluster = Cluster::of_five();
    let mut encoder = OfflineEncoder::new(&cluster.offline_config(LEADER)).expect("a sound configuration");
    let payload = SlicePayload::from(noise(cluster.coding.slice_payload_bytes()));
    let mut index = 0;
    let ours = repeated(move || {
        index = (index + 1) % 1_000;
        encoder.encode(slice_id(1, index), false, payload.clone());
    });
    let works = [Work::Leaves, Work::InnerNodes, Work::Sign, Work::Encode].map(|work| (work, 1.0));
    compare("encode", ours, &cluster, &works, 1.15, rounds)
}

/// The receiver's part.
pub(crate) fn receive(arrival: Arrival, rounds: usize) -> Row {
    let name = match arrival {
        Arrival::All => "receive",
        Arrival::HalfLost => "receive_32_lost",
        Arrival::Garbage => "receive_20%_garbage",
    };
    let cluster = Cluster::of_five();
    // Of garbage as well a MAC has to be checked, and if that is right, a leaf.
    let (sealed, hashed) = match arrival {
        Arrival::All => (64, 64),
        Arrival::HalfLost => (32, 64),
        Arrival::Garbage => {
            let count = |kind| (0..64 / GOOD_PER_GARBAGE).filter(|nth| garbage_kind(*nth) == kind).count();
            (64 + count(Garbage::ForgedMac) + count(Garbage::WrongPath), 64 + count(Garbage::WrongPath))
        }
    };
    let works = [
        (Work::Leaves, hashed as f64 / 64.0),
        (Work::InnerNodes, 1.0),
        (Work::Verify, 1.0),
        (Work::Rebuild, 1.0),
        (Work::Macs, sealed as f64 / TAGS_AT_ONCE as f64),
    ];
    compare(name, receiver(&cluster, arrival), &cluster, &works, 1.25, rounds)
}

/// What it takes to reject one datagram, when a receive buffer is full of them.
pub(crate) fn reject(kind: Garbage, rounds: usize) -> Row {
    let cluster = Cluster::of_five();
    let mut senders = Senders::new(&cluster, &others(&cluster));
    let shreds = senders.slice(slice_id(1, 1));
    let horizon = Arc::new(Horizon::new(Slot::GENESIS, Slot(u64::MAX)));
    let mut receiver = OfflineReceiver::new(&cluster.offline_config(NODE), horizon).expect("a sound configuration");
    let segment_bytes = cluster.datagram_bytes();
    // The slice is known: its signature is not checked again.
    receiver.receive(&shreds[0], segment_bytes, |event| panic!("{event:?}"));
    let buffers: Vec<_> = by_sender(shreds[1..].to_vec())
        .iter()
        .flat_map(|of_sender| of_sender.chunks(JOINED))
        .map(|joined| joined.iter().flat_map(|datagram| spoilt(datagram, kind)).collect::<Vec<u8>>())
        .collect();
    let datagrams = shreds.len() - 1;
    let mut pass = move || {
        let before = garbage(&receiver);
        buffers.iter().for_each(|buffer| receiver.receive(buffer, segment_bytes, |event| panic!("{event:?}")));
        assert_eq!(garbage(&receiver) - before, datagrams as u64, "all of it is dropped");
    };
    pass();
    let mut sampler = repeated(pass);
    let ours_us = medians(&mut [Box::new(move || sampler() / datagrams as f64)], rounds)[0];
    Row { name: kind.name().into(), ours_us, ..Row::default() }
}

/// The tag of a shred's datagram: AES-CMAC over the 96 bytes that it covers.
pub(crate) fn mac(rounds: usize) -> Row {
    let cluster = Cluster::of_five();
    let keys = pairwise_keys(&cluster);
    let (prefix, covered) = ([1; PREFIX_BYTES], [2; SHRED_COVERED_BYTES]);
    let ours = repeated(move || {
        black_box(keys.tag_to(LEADER, black_box((&prefix, &covered[..]))));
    });
    Row { goal_us: Some(0.1), ..compare("mac", ours, &cluster, &[(Work::Mac, 1.0)], 1.25, rounds) }
}

/// The tags of [`TAGS_AT_ONCE`] shreds' datagrams to one peer, beside as many made one after the other.
pub(crate) fn macs(rounds: usize) -> Row {
    let cluster = Cluster::of_five();
    let keys = pairwise_keys(&cluster);
    let (prefix, covered) = ([1; PREFIX_BYTES], [2; SHRED_COVERED_BYTES]);
    let ours = repeated(move || {
        let messages = [black_box((&prefix, &covered[..])); TAGS_AT_ONCE];
        black_box(keys.tags_to(LEADER, &messages));
    });
    compare("macs", ours, &cluster, &[(Work::Mac, TAGS_AT_ONCE as f64)], 0.5, rounds)
}

/// Measures our code and all candidates for each kind of work in turns; the floor is the sum of the fastest ones, each
/// as many times as is said.
fn compare(
    name: &str,
    mut ours: Sampler<'_>,
    cluster: &Cluster,
    works: &[(Work, f64)],
    ratio_goal: f64,
    rounds: usize,
) -> Row {
    // The first gamma to come are what is decoded from.
    let lost = &shuffled(cluster.coding.total_shreds(), ORDER_SEED)[cluster.coding.data_shreds()..];
    let mut bare = Bare::new(cluster.coding, lost, &works.iter().map(|(work, _)| *work).collect::<Vec<_>>());
    ours();
    let mut samples_us = Vec::new();
    for _ in 0..rounds {
        samples_us.push(ours());
        bare.round();
    }
    let fastest = bare.fastest();
    let sum = |works: &[(Work, f64)]| -> Vec<f64> {
        (0..rounds).map(|round| works.iter().map(|(work, count)| count * fastest[work][round]).sum()).collect()
    };
    let floors_us = sum(works);
    let mut details: BTreeMap<String, f64> =
        works.iter().map(|(work, count)| (work.name().into(), count * median(fastest[work].clone()))).collect();
    if let [others @ .., (Work::Macs, _)] = works {
        details.insert("ratio_without_macs".into(), median_ratio(&samples_us, &sum(others)));
    }
    Row {
        name: name.into(),
        details,
        rounds_ratio: Some(median_ratio(&samples_us, &floors_us)),
        ours_us: median(samples_us),
        floor_us: Some(median(floors_us)),
        ratio_goal: Some(ratio_goal),
        goal_us: None,
    }
}

/// Receives [`SLICES`] slices in each sample. Slots only ever close, so every sample has slices of its own, made before
/// its time begins.
fn receiver(cluster: &Cluster, arrival: Arrival) -> Sampler<'static> {
    let mut senders = Senders::new(cluster, &others(cluster));
    let horizon = Arc::new(Horizon::new(Slot::GENESIS, Slot(u64::MAX)));
    let mut receiver =
        OfflineReceiver::new(&cluster.offline_config(NODE), Arc::clone(&horizon)).expect("a sound configuration");
    let segment_bytes = cluster.datagram_bytes();
    let mut slots = (1_u64..).map(|window| window * SLOTS_BETWEEN_WINDOWS);
    Box::new(move || {
        let first_slot = slots.next().expect("slots do not end");
        let slices: Vec<_> =
            (first_slot..).take(SLICES_BEFORE + SLICES).map(|slot| arriving(&mut senders, slot, arrival)).collect();
        let garbage_before = garbage(&receiver);
        let mut receive = |slices: &[Vec<Vec<u8>>]| {
            let mut decoded = 0;
            for buffer in slices.iter().flatten() {
                receiver.receive(buffer, segment_bytes, |event| {
                    assert!(matches!(event, FromShard::Slice { .. }), "an honest leader's slice");
                    decoded += 1;
                });
            }
            assert_eq!(decoded, slices.len(), "every slice is decoded once");
        };
        let (before, measured) = slices.split_at(SLICES_BEFORE);
        receive(before);
        let start = Instant::now();
        receive(measured);
        let elapsed_us = start.elapsed().as_secs_f64() * 1e6;
        let expected = if arrival == Arrival::Garbage { 64 / GOOD_PER_GARBAGE * slices.len() } else { 0 };
        assert_eq!(garbage(&receiver) - garbage_before, expected as u64, "garbage is dropped, and nothing else");
        horizon.closed_through.store(first_slot + slices.len() as u64 - 1, Ordering::Relaxed);
        elapsed_us / SLICES as f64
    })
}

fn others(cluster: &Cluster) -> Vec<ValidatorIndex> {
    cluster.validators.indices().filter(|validator| *validator != NODE).collect()
}

fn garbage(receiver: &OfflineReceiver) -> u64 {
    let drops = Counter::ALL.iter().filter(|counter| counter.is_drop());
    drops.map(|counter| receiver.counters().get(*counter)).sum()
}

/// The receive buffers that a slice of `slot` comes in.
fn arriving(senders: &mut Senders, slot: u64, arrival: Arrival) -> Vec<Vec<u8>> {
    let id = slice_id(slot, 1);
    let shreds = senders.slice(id);
    let order = shuffled(shreds.len(), ORDER_SEED);
    let kept = if arrival == Arrival::HalfLost { shreds.len() / 2 } else { shreds.len() };
    let mut buffers = Vec::new();
    let mut position = 0;
    for of_sender in by_sender(order[..kept].iter().map(|index| shreds[*index].clone()).collect()) {
        for joined in of_sender.chunks(JOINED) {
            let mut buffer = Vec::new();
            for datagram in joined {
                if arrival == Arrival::Garbage && position % GOOD_PER_GARBAGE == 0 {
                    buffer.extend(spoilt(datagram, garbage_kind(position / GOOD_PER_GARBAGE)));
                }
                buffer.extend(datagram);
                position += 1;
            }
            buffers.push(buffer);
        }
    }
    buffers
}

/// The datagrams of each sender together, otherwise in their order.
fn by_sender(datagrams: Vec<Vec<u8>>) -> Vec<Vec<Vec<u8>>> {
    let mut groups: Vec<(u16, Vec<Vec<u8>>)> = Vec::new();
    for datagram in datagrams {
        let sender = Header::parse(&datagram).expect("a header").0.sender;
        match groups.iter_mut().find(|(of, _)| *of == sender) {
            Some((_, group)) => group.push(datagram),
            None => groups.push((sender, vec![datagram])),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

/// All kinds in turns.
const fn garbage_kind(nth: usize) -> Garbage {
    Garbage::ALL[nth % Garbage::ALL.len()]
}

fn spoilt(datagram: &[u8], kind: Garbage) -> Vec<u8> {
    let mut spoilt = datagram.to_vec();
    match kind {
        Garbage::Noise => spoilt = noise(datagram.len()),
        Garbage::ForgedMac => spoilt[20] ^= 1,
        Garbage::WrongPath => *spoilt.last_mut().expect("a datagram has bytes") ^= 1,
    }
    spoilt
}
