//! Slices through real dataplanes: encoded by their leader, relayed, decoded by everybody else.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::sync::Arc;

use alpenglow_dataplane::auth::PairwiseKeys;
use alpenglow_dataplane::datagram::Kind;
use alpenglow_dataplane::offline::OfflineReceiver;
use alpenglow_dataplane::{Counter, DataplaneConfig, EngineKind, FromShard, Horizon, MessageBytes, Poll, ToShard};
use alpenglow_rotor::epochs::Epochs;
use alpenglow_rotor::parameters::{Code, CodingParameters, DATAGRAM_BYTES_DEFAULT};
use alpenglow_rotor::sampling::RelaySampler;
use alpenglow_rotor::schedule::{EpochSeed, LeaderSchedule, ScheduleKind};
use alpenglow_rotor::slice::SliceId;
use alpenglow_rotor::types::{Slot, Stake, ValidatorIndex};
use common::{CLUSTER, Node, SHREDS_THROUGH, configs, leader, payload, run_until, send_slice, slice_id, start};

for_each_engine! {
    every_slice_of_every_leader_reaches_everybody,
    slices_arrive_however_they_are_cut,
    shreds_go_to_the_members_of_their_epoch_and_of_the_next,
    two_nodes_are_enough,
    a_spinning_shard_does_the_same,
    each_shred_is_relayed_once,
    one_silent_relay_of_five_stops_nothing,
    silent_relays_stop_everything,
    messages_reach_those_they_are_for_in_their_order,
    defect_21_a_full_slice_queue_stops_reading_and_loses_no_slice,
}

const SIZES: [usize; 6] = [0, 1, 500, 5_000, 20_001, usize::MAX];

/// Clusters that cut their slices differently, with the shards of each node.
const CODINGS: [(Code, usize, usize, usize, usize); 9] = [
    (Code::Rs8, 16, 32, 1_232, 1),
    (Code::Rs8, 32, 96, 1_232, 2),
    (Code::Rs8, 32, 64, 1_472, 1),
    (Code::Rs8, 32, 64, 8_972, 2),
    (Code::Rs8, 128, 255, 1_472, 1),
    (Code::Leopard16, 32, 64, 1_232, 1),
    (Code::Leopard16, 32, 320, 1_232, 2),
    (Code::Leopard16, 32, 320, 8_972, 1),
    (Code::Leopard16, 255, 512, 1_472, 1),
];

/// The longest size stands for a full slice.
fn size(index: usize, coding: &CodingParameters) -> usize {
    SIZES[index % SIZES.len()].min(coding.slice_payload_bytes())
}

/// Sends `slices` slices in each of `slots` and waits until everybody but their leader has them.
fn disseminate(nodes: &mut [Node], slots: &[u64], slices: usize) {
    disseminate_coded(&CodingParameters::default(), nodes, slots, slices);
}

fn disseminate_coded(coding: &CodingParameters, nodes: &mut [Node], slots: &[u64], slices: usize) {
    let sent: Vec<SliceId> =
        slots.iter().flat_map(|&slot| (0..slices).map(move |index| slice_id(slot, index))).collect();
    for &id in &sent {
        let leader = leader(id.slot.0, nodes.len());
        send_slice(&nodes[leader], id, id.index.get() + 1 == slices, size(id.index.get(), coding));
    }
    let all = nodes.len();
    let others = |id: SliceId| (0..all).filter(move |&node| node != leader(id.slot.0, all));
    run_until(nodes, "every slice reported by its leader and decoded by everybody", |nodes| {
        let is_reported = |id: SliceId| {
            let is_sent = |report: &FromShard| matches!(report, FromShard::SliceSent { id: sent, .. } if *sent == id);
            nodes[leader(id.slot.0, all)].reports.iter().any(is_sent)
        };
        sent.iter().all(|&id| is_reported(id) && others(id).all(|node| nodes[node].received(id).is_some()))
    });
    for &id in &sent {
        let reports = &nodes[leader(id.slot.0, all)].reports;
        let report = reports.iter().find_map(|report| match report {
            FromShard::SliceSent { id: sent, root, signature, is_last, leader_stamp_ns } if *sent == id => {
                Some((*root, *signature, *is_last, *leader_stamp_ns))
            }
            _ => None,
        });
        for node in others(id) {
            let slice = nodes[node].received(id).unwrap();
            assert_eq!(&slice.payload[..], payload(id, size(id.index.get(), coding)));
            assert_eq!(report, Some((slice.root, slice.signature, slice.is_last, slice.leader_stamp_ns)));
        }
    }
}

fn cluster(engine: EngineKind, nodes: usize, shards: usize) -> Vec<Node> {
    configs(engine, nodes, shards).into_iter().map(start).collect()
}

fn every_slice_of_every_leader_reaches_everybody(engine: EngineKind) {
    let mut nodes = cluster(engine, 5, 2);
    disseminate(&mut nodes, &[1, 2, 4, 8, 12, 16, 17], 12);
    for node in &nodes {
        for counter in
            [Counter::BadMac, Counter::HandedOver, Counter::WrongRelay, Counter::Misdirected, Counter::ShredWrongPath]
        {
            assert_eq!(node.counter(counter), 0, "{}\n{}", counter.name(), common::describe(&nodes));
        }
    }
}

/// Every code, number of shreds and datagram limit, with slices from empty to full, and nothing dropped.
fn slices_arrive_however_they_are_cut(engine: EngineKind) {
    for (code, data, total, datagram_bytes, shards) in CODINGS {
        let coding = CodingParameters::fitting(code, data, total, datagram_bytes).unwrap();
        let roomy = |config| start(DataplaneConfig { slice_memory_bytes: 128 << 20, ..config });
        let mut nodes: Vec<Node> = common::configs_with(engine, coding, 3, shards).into_iter().map(roomy).collect();
        [1, 4].iter().for_each(|&slot| disseminate_coded(&coding, &mut nodes, &[slot], SIZES.len()));
        for counter in Counter::ALL.iter().copied().filter(|counter| counter.is_drop()) {
            let count: u64 = nodes.iter().map(|node| node.counter(counter)).sum();
            assert_eq!(count, 0, "{} with {coding:?}", counter.name());
        }
    }
}

/// Epochs of 8 slots; in slot 16 node 0 goes and node 3 comes. Both are there all the time.
fn shreds_go_to_the_members_of_their_epoch_and_of_the_next(engine: EngineKind) {
    let stakes = |stakes: [u64; 4]| stakes.map(Stake).to_vec();
    let later = vec![(2, stakes([0, 20, 10, 30]))];
    let epochs = Arc::new(Epochs::new(8, stakes([10, 10, 10, 0]), later, EpochSeed([7; 32])).unwrap());
    let schedule = Arc::new(LeaderSchedule::of_epochs(ScheduleKind::RoundRobin, Arc::clone(&epochs)));
    let sampler = Arc::new(RelaySampler::of_epochs(epochs, 64));
    let of_epochs =
        |config| start(DataplaneConfig { schedule: Arc::clone(&schedule), sampler: Arc::clone(&sampler), ..config });
    let mut nodes: Vec<Node> = configs(engine, 4, 1).into_iter().map(of_epochs).collect();
    for (slot, leader, receivers) in [
        (4, 1, &[0, 2][..]),
        (12, 0, &[1, 2, 3]),
        (15, 0, &[1, 2, 3]),
        // Of 3 members the leader of window w is number w mod 3.
        (16, 2, &[1, 3]),
        (20, 3, &[1, 2]),
    ] {
        let id = slice_id(slot, 0);
        send_slice(&nodes[leader], id, true, 20_000);
        run_until(&mut nodes, "the slice decoded by all it is for, and nothing on the way", |nodes| {
            let taken: u64 = nodes.iter().map(|node| node.counter(Counter::DatagramsReceived)).sum();
            let sent: u64 = nodes.iter().map(|node| node.counter(Counter::DatagramsSent)).sum();
            taken == sent && receivers.iter().all(|&node| nodes[node].received(id).is_some())
        });
        for node in (0..4).filter(|node| !receivers.contains(node)) {
            assert!(nodes[node].received(id).is_none(), "slot {slot}, node {node}");
        }
    }
    for counter in Counter::ALL.iter().copied().filter(|counter| counter.is_drop()) {
        let count: u64 = nodes.iter().map(|node| node.counter(counter)).sum();
        assert_eq!(count, 0, "{}", counter.name());
    }
}

fn two_nodes_are_enough(engine: EngineKind) {
    disseminate(&mut cluster(engine, 2, 1), &[1, 4], 6);
}

fn a_spinning_shard_does_the_same(engine: EngineKind) {
    let spinning =
        configs(engine, 2, 1).into_iter().map(|config| start(DataplaneConfig { poll: Poll::Spin, ..config }));
    disseminate(&mut spinning.collect::<Vec<_>>(), &[1, 4], 6);
}

/// Every shred is sent once by the leader and once to each of the others by its relay, and not more.
fn each_shred_is_relayed_once(engine: EngineKind) {
    let mut nodes = cluster(engine, 5, 1);
    disseminate(&mut nodes, &[1], 8);
    run_until(&mut nodes, "all relayed shreds taken in", |nodes| {
        let taken: u64 = nodes.iter().map(|node| node.counter(Counter::DatagramsReceived)).sum();
        let sent: u64 = nodes.iter().map(|node| node.counter(Counter::DatagramsSent)).sum();
        taken == sent
    });
    let sum = |counter| nodes.iter().map(|node| node.counter(counter)).sum::<u64>();
    let (slices, shreds) = (8, 64);
    let relayed = sum(Counter::ShredsRelayed);
    let by_the_leader = slices * shreds - relayed;
    assert_eq!(sum(Counter::DatagramsSent), relayed + relayed * 3 + by_the_leader * 4);
}

fn one_silent_relay_of_five_stops_nothing(engine: EngineKind) {
    let silence = |mut config: DataplaneConfig| {
        config.silent_relay = config.own == ValidatorIndex(3);
        start(config)
    };
    let mut nodes: Vec<Node> = configs(engine, 5, 1).into_iter().map(silence).collect();
    disseminate(&mut nodes, &[1, 4], 8);
    assert_eq!(nodes[3].counter(Counter::ShredsRelayed), 0);
}

/// With every relay silent a node gets the shreds it relays and those that the leader broadcasts: fewer than gamma.
fn silent_relays_stop_everything(engine: EngineKind) {
    let silent = |config| start(DataplaneConfig { silent_relay: true, ..config });
    let mut nodes: Vec<Node> = configs(engine, 5, 1).into_iter().map(silent).collect();
    send_slice(&nodes[0], slice_id(1, 0), true, 20_000);
    run_until(&mut nodes, "all shreds taken in", |nodes| {
        let taken: u64 = nodes.iter().map(|node| node.counter(Counter::DatagramsReceived)).sum();
        let sent: u64 = nodes.iter().map(|node| node.counter(Counter::DatagramsSent)).sum();
        sent > 0 && taken == sent
    });
    assert!(nodes.iter().all(|node| node.slices.is_empty()));
}

fn messages_reach_those_they_are_for_in_their_order(engine: EngineKind) {
    let mut nodes = cluster(engine, 3, 2);
    let body = |length: usize, fill: u8| MessageBytes::try_from(&vec![fill; length][..]).unwrap();
    let lengths = [100, 100, 40, 1_200, 100, 7, 0, 1_200, 1_200];
    for (index, &length) in lengths.iter().enumerate() {
        nodes[1].order(0, ToShard::Broadcast { kind: Kind::Vote, body: body(length, index as u8) });
    }
    nodes[1].order(1, ToShard::SendTo { to: ValidatorIndex(2), kind: Kind::ForwardedTransaction, body: body(9, 9) });
    nodes[1].order(1, ToShard::SendTo { to: ValidatorIndex(1), kind: Kind::Vote, body: body(9, 9) });
    run_until(&mut nodes, "messages delivered", |nodes| {
        nodes[0].messages.len() == lengths.len() && nodes[2].messages.len() == lengths.len() + 1
    });
    for node in [0, 2] {
        let votes = nodes[node].messages.iter().filter(|message| message.kind == Kind::Vote);
        let got: Vec<(usize, Option<ValidatorIndex>)> = votes.map(|vote| (vote.body.len(), vote.sender)).collect();
        let sent: Vec<_> = lengths.iter().map(|&length| (length, Some(ValidatorIndex(1)))).collect();
        assert_eq!(got, sent);
    }
    run_until(&mut nodes, "the message to itself refused", |nodes| nodes[1].counter(Counter::NoSuchReceiver) == 1);
    assert!(nodes[1].messages.is_empty());
}

/// While control takes nothing a shard stops reading, and goes on when there is room, without having lost a slice. What
/// it leaves unread meanwhile fits its receive buffers.
fn defect_21_a_full_slice_queue_stops_reading_and_loses_no_slice(engine: EngineKind) {
    let roomy = |config| start(DataplaneConfig { slice_memory_bytes: 64 << 20, ..config });
    let mut nodes: Vec<Node> = configs(engine, 2, 1).into_iter().map(roomy).collect();
    // That the leader is alive takes a place too.
    let (slices, stops_at) = (440, 384);
    let decoded = |node: &Node| node.counter(Counter::SlicesDecoded);
    let deadline = std::time::Instant::now() + common::PATIENCE;
    for sent in 1..=slices {
        send_slice(&nodes[0], slice_id(1, sent - 1), false, 10);
        // One at a time while they are read, for a socket's buffer is not what is tested.
        while nodes[0].counter(Counter::SlicesSent) < sent as u64 || decoded(&nodes[1]) < stops_at.min(sent as u64) {
            assert!(std::time::Instant::now() < deadline, "{}", common::describe(&nodes));
            nodes[0].take();
        }
    }
    assert_eq!(decoded(&nodes[1]), stops_at);
    run_until(&mut nodes, "everything decoded", |nodes| nodes[1].slices.len() == slices);
}

/// With a single data shred a slice's first datagram is all of it: control gets twice as many reports as datagrams, and
/// a shard must have had room for all of them before it looked at the first.
#[test]
fn each_datagram_of_a_buffer_can_yield_a_slice_and_a_sign_of_its_leader() {
    let coding = CodingParameters::fitting(Code::Rs8, 1, 2, DATAGRAM_BYTES_DEFAULT).unwrap();
    let config = common::configs_with(EngineKind::IoUring, coding, 3, 1).swap_remove(0);
    let mut receiver = OfflineReceiver::new(&config, Arc::new(Horizon::new(Slot(0), SHREDS_THROUGH))).unwrap();
    let slices: Vec<SliceId> = (0..8).map(|number| slice_id([4, 8][number % 2], number / 2)).collect();
    let datagrams: Vec<Vec<u8>> = slices.iter().map(|&id| first_shred(&config, id)).collect();
    let mut reports = 0;
    receiver.receive(&datagrams.concat(), datagrams[0].len(), |_| reports += 1);
    reports += std::iter::from_fn(|| receiver.link().pop_slice()).count();
    assert_eq!(reports, 2 * slices.len());
}

/// Shred 0 of a slice, from whomever validator 0 gets it.
fn first_shred(config: &DataplaneConfig, id: SliceId) -> Vec<u8> {
    let leader = config.schedule.leader(id.slot);
    let mut relays = vec![ValidatorIndex(0); config.coding.total_shreds()];
    config.sampler.sample(id, &mut relays);
    let sender = if relays[0] == config.own { leader } else { relays[0] };
    let keys = PairwiseKeys::derive(&common::identity(sender.get()), &config.validators, CLUSTER, sender).unwrap();
    let shred = common::shreds(config.coding, id, false, 10, leader.get()).swap_remove(0);
    common::sealed(&keys, CLUSTER, config.own, Kind::Shred, id.lane(), &shred)
}
