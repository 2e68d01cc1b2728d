//! Datagrams that must not get in, each dropped for its reason, and a node that goes on.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::net::UdpSocket;
use std::time::Instant;

use alpenglow_dataplane::auth::PairwiseKeys;
use alpenglow_dataplane::datagram::{Header, Kind};
use alpenglow_dataplane::{Counter, DataplaneConfig, EngineKind};
use alpenglow_rotor::slice::SliceId;
use alpenglow_rotor::types::{ClusterId, ValidatorIndex};
use common::{CLUSTER, Node, SHREDS_THROUGH, configs, identity, run_until, slice_id, start};

for_each_engine! {
    datagrams_are_dropped_by_the_first_reason_that_applies,
    a_mac_for_another_receiver_or_another_cluster_is_void,
    shreds_outside_of_the_horizon_are_dropped_before_their_mac_is_checked,
    shreds_are_taken_only_from_their_relay_or_leader,
    a_shred_is_relayed_once_however_often_it_comes,
    shreds_that_their_leader_did_not_sign_or_that_were_spoilt_are_dropped_and_not_relayed,
    transactions_do_not_crowd_out_votes,
    defect_18_votes_that_nobody_takes_keep_no_shred_from_being_relayed,
    a_client_that_sends_too_much_loses_what_is_over_its_rate_and_no_other_does,
    an_equivocating_leader_is_reported,
}

const NODES: usize = 5;
/// The node under attack.
const VICTIM: ValidatorIndex = ValidatorIndex(1);

/// Whoever holds a validator's keys, and a plain socket.
struct Attacker {
    socket: UdpSocket,
    config: DataplaneConfig,
    sender: ValidatorIndex,
    keys: PairwiseKeys,
}

impl Attacker {
    fn new(config: &DataplaneConfig, sender: usize) -> Self {
        let socket = UdpSocket::bind((common::own_loopback_address(), 0)).unwrap();
        let index = ValidatorIndex(sender as u16);
        let keys = PairwiseKeys::derive(&identity(sender), &config.validators, CLUSTER, index).unwrap();
        Self { socket, config: config.clone(), sender: index, keys }
    }

    /// A datagram as it should be.
    fn sealed(&self, kind: Kind, lane: u8, body: &[u8]) -> Vec<u8> {
        common::sealed(&self.keys, CLUSTER, VICTIM, kind, lane, body)
    }

    fn send(&self, datagram: &[u8]) {
        self.socket.send_to(datagram, self.config.bind).unwrap();
    }

    /// The shreds of a slice by validator `leader`, sealed as this attacker's.
    fn shreds(&self, id: SliceId, leader: usize, bytes: usize) -> Vec<Vec<u8>> {
        let shreds = common::shreds(self.config.coding, id, true, bytes, leader);
        shreds.iter().map(|shred| self.sealed(Kind::Shred, id.lane(), shred)).collect()
    }

    /// Who relays which shred.
    fn relays(&self, id: SliceId) -> Vec<ValidatorIndex> {
        let mut relays = vec![ValidatorIndex(0); self.config.coding.total_shreds()];
        self.config.sampler.sample(id, &mut relays);
        relays
    }
}

fn victim(engine: EngineKind) -> (Vec<Node>, DataplaneConfig) {
    let config = configs(engine, NODES, 1).swap_remove(usize::from(VICTIM.0));
    (vec![start(config.clone())], config)
}

/// Waits until every datagram counted in `expected` has been counted, and nothing but that.
fn expect_drops(nodes: &mut [Node], expected: &[(Counter, u64)]) {
    run_until(nodes, "the drops", |nodes| expected.iter().all(|&(counter, count)| nodes[0].counter(counter) >= count));
    for &counter in Counter::ALL.iter().filter(|counter| counter.is_drop()) {
        let count = expected.iter().find(|(expected, _)| *expected == counter).map_or(0, |&(_, count)| count);
        assert_eq!(nodes[0].counter(counter), count, "{}", counter.name());
    }
}

fn datagrams_are_dropped_by_the_first_reason_that_applies(engine: EngineKind) {
    let (mut nodes, config) = victim(engine);
    let peer = Attacker::new(&config, 2);
    let good = peer.sealed(Kind::Vote, 2, b"a vote");
    let with = |index: usize, byte: u8| {
        let mut bad = good.clone();
        bad[index] = byte;
        bad
    };
    peer.send(b"");
    peer.send(&good[..31]);
    peer.send(&peer.sealed(Kind::Vote, 2, &[0; 1_201]));
    peer.send(&with(0, 9));
    peer.send(&with(1, 77));
    peer.send(&with(3, 1));
    peer.send(&with(8, !CLUSTER.0[0]));
    peer.send(&with(4, NODES as u8));
    peer.send(&with(4, VICTIM.0 as u8));
    peer.send(&with(16, !good[16]));
    peer.send(&with(33, !good[33]));
    peer.send(&with(2, 9));
    peer.send(&peer.sealed(Kind::Vote, 3, b"a vote on another lane than its sender's"));
    expect_drops(
        &mut nodes,
        &[
            (Counter::TooShort, 2),
            (Counter::TooLong, 1),
            (Counter::BadVersion, 1),
            (Counter::BadKind, 1),
            (Counter::BadHeader, 1),
            (Counter::WrongCluster, 1),
            (Counter::UnknownSender, 1),
            (Counter::OwnSender, 1),
            (Counter::WrongLane, 2),
            (Counter::BadMac, 2),
        ],
    );
    peer.send(&good);
    run_until(&mut nodes, "the good one", |nodes| nodes[0].messages.len() == 1);
    assert_eq!(
        (nodes[0].messages[0].sender, &nodes[0].messages[0].body[..]),
        (Some(ValidatorIndex(2)), &b"a vote"[..])
    );
}

fn a_mac_for_another_receiver_or_another_cluster_is_void(engine: EngineKind) {
    let (mut nodes, config) = victim(engine);
    let peer = Attacker::new(&config, 2);
    let prefix = Header::prefix(Kind::Vote, 2, peer.sender, CLUSTER);
    let tag = peer.keys.tag_to(ValidatorIndex(3), (&prefix, b"a vote"));
    peer.send(&[&prefix[..], &tag, b"a vote"].concat());
    let mut near = CLUSTER;
    near.0[31] ^= 1;
    let keys = PairwiseKeys::derive(&identity(2), &config.validators, near, peer.sender).unwrap();
    let prefix = Header::prefix(Kind::Vote, 2, peer.sender, ClusterId(near.0));
    peer.send(&[&prefix[..], &keys.tag_to(VICTIM, (&prefix, b"a vote")), b"a vote"].concat());
    expect_drops(&mut nodes, &[(Counter::BadMac, 2)]);
}

fn shreds_outside_of_the_horizon_are_dropped_before_their_mac_is_checked(engine: EngineKind) {
    let (mut nodes, config) = victim(engine);
    nodes[0].horizon.closed_through.store(8, std::sync::atomic::Ordering::Relaxed);
    let peer = Attacker::new(&config, 2);
    // The horizon moves between two turns of the loop.
    peer.send(&peer.sealed(Kind::Vote, 2, b"turn"));
    run_until(&mut nodes, "a turn", |nodes| !nodes[0].messages.is_empty());
    for (slot, count) in [(8, 2), (SHREDS_THROUGH.0 + 1, 3), (9, 4)] {
        let mut shred = peer.shreds(slice_id(slot, 0), 2, 10).swap_remove(0);
        shred[16] ^= 1;
        (0..count).for_each(|_| peer.send(&shred));
    }
    expect_drops(&mut nodes, &[(Counter::ClosedSlot, 2), (Counter::SlotTooFar, 3), (Counter::BadMac, 4)]);
}

/// Slots 8 to 11 are led by validator 2, slots 4 to 7 by the victim.
fn shreds_are_taken_only_from_their_relay_or_leader(engine: EngineKind) {
    let (mut nodes, config) = victim(engine);
    let id = slice_id(8, 0);
    let (leader, other) = (Attacker::new(&config, 2), Attacker::new(&config, 3));
    let relays = leader.relays(id);
    let count = |wanted: &dyn Fn(ValidatorIndex) -> bool| relays.iter().filter(|&&relay| wanted(relay)).count() as u64;
    leader.shreds(id, 2, 100).iter().for_each(|shred| leader.send(shred));
    other.shreds(id, 2, 100).iter().for_each(|shred| other.send(shred));
    other.shreds(slice_id(4, 0), 1, 100).iter().for_each(|shred| other.send(shred));
    let misdirected = count(&|relay| relay != VICTIM && relay != leader.sender);
    let wrong = count(&|relay| relay != other.sender);
    expect_drops(
        &mut nodes,
        &[(Counter::Misdirected, misdirected), (Counter::WrongRelay, wrong), (Counter::OwnSlot, 64)],
    );
    assert_eq!(nodes[0].counter(Counter::ShredsFromLeader), 64 - misdirected);
    assert_eq!(nodes[0].counter(Counter::ShredsFromRelays), 64 - wrong);
}

/// A leader that repeats its shreds does not make its relays repeat them.
fn a_shred_is_relayed_once_however_often_it_comes(engine: EngineKind) {
    let (mut nodes, config) = victim(engine);
    let leader = Attacker::new(&config, 2);
    let id = slice_id(8, 0);
    let ours: Vec<usize> = (0..64).filter(|&index| leader.relays(id)[index] == VICTIM).collect();
    let shreds = leader.shreds(id, 2, 100);
    for _ in 0..3 {
        ours.iter().for_each(|&index| leader.send(&shreds[index]));
    }
    let all = 3 * ours.len() as u64;
    run_until(&mut nodes, "all taken in", |nodes| nodes[0].counter(Counter::ShredsFromLeader) == all);
    run_until(&mut nodes, "the copies sent", |nodes| nodes[0].counter(Counter::DatagramsSent) == 3 * ours.len() as u64);
    assert_eq!(nodes[0].counter(Counter::ShredsRelayed), ours.len() as u64);
}

fn shreds_that_their_leader_did_not_sign_or_that_were_spoilt_are_dropped_and_not_relayed(engine: EngineKind) {
    let (mut nodes, config) = victim(engine);
    let leader = Attacker::new(&config, 2);
    let id = slice_id(8, 0);
    let ours: Vec<usize> = (0..64).filter(|&index| leader.relays(id)[index] == VICTIM).collect();
    let forged = leader.shreds(id, 3, 100);
    leader.send(&forged[ours[0]]);
    let mut spoilt = leader.shreds(id, 2, 100).swap_remove(ours[1]);
    let last = spoilt.len() - 1;
    spoilt[last] ^= 1;
    leader.send(&spoilt);
    leader.send(&leader.sealed(Kind::Shred, id.lane(), &forged[0][32..132]));
    leader.send(&leader.sealed(Kind::Shred, id.lane() ^ 1, &forged[ours[0]][32..]));
    run_until(&mut nodes, "the drops", |nodes| {
        let dropped =
            [Counter::ShredBadSignature, Counter::ShredSenderSpent, Counter::MalformedShred, Counter::WrongLane];
        dropped.iter().map(|&counter| nodes[0].counter(counter)).sum::<u64>() == 4
    });
    assert_eq!(nodes[0].counter(Counter::ShredsRelayed), 0);
    assert_eq!(nodes[0].counter(Counter::WrongLane), 1);
    assert_eq!(nodes[0].counter(Counter::MalformedShred), 1);
}

/// A flood of transactions, which anyone may send, leaves room for votes.
fn transactions_do_not_crowd_out_votes(engine: EngineKind) {
    let (mut nodes, config) = victim(engine);
    let peer = Attacker::new(&config, 2);
    let transaction = [&Header::of_transaction(0, CLUSTER).encode()[..], b"spam"].concat();
    // Control takes nothing meanwhile. In portions, for the socket's buffer is not what is tested.
    let counter = |nodes: &[Node], counter| nodes[0].counter(counter);
    for sent in 1..=5_000_u64 {
        peer.send(&transaction);
        while sent.is_multiple_of(100)
            && counter(&nodes, Counter::MessagesReceived) + counter(&nodes, Counter::TransactionQueueFull) < sent
        {
            std::thread::yield_now();
        }
    }
    assert!(counter(&nodes, Counter::TransactionQueueFull) > 0);
    peer.send(&peer.sealed(Kind::Vote, 2, b"a vote"));
    run_until(&mut nodes, "the vote", |nodes| nodes[0].messages.iter().any(|message| message.kind == Kind::Vote));
}

/// While control is at votes, or at nothing, shards relay.
fn defect_18_votes_that_nobody_takes_keep_no_shred_from_being_relayed(engine: EngineKind) {
    let (nodes, config) = victim(engine);
    let (peer, leader) = (Attacker::new(&config, 3), Attacker::new(&config, 2));
    let vote = peer.sealed(Kind::Vote, 3, b"a vote");
    let counter = |counter| nodes[0].counter(counter);
    let wait_for = |what: &str, done: &dyn Fn() -> bool| {
        let deadline = Instant::now() + common::PATIENCE;
        while !done() {
            assert!(Instant::now() < deadline, "{what}: {}", common::describe(&nodes));
            std::thread::yield_now();
        }
    };
    for sent in 1..=3_000_u64 {
        peer.send(&vote);
        // In portions, for the socket's buffer is not what is tested.
        if sent.is_multiple_of(100) {
            wait_for("the votes", &|| counter(Counter::DatagramsReceived) == sent);
        }
    }
    let id = slice_id(8, 0);
    let ours = (0..64).find(|&index| leader.relays(id)[index] == VICTIM).unwrap();
    leader.send(&leader.shreds(id, 2, 100)[ours]);
    wait_for("the shred", &|| counter(Counter::ShredsRelayed) == 1);
    let left = counter(Counter::MessagesReceived);
    assert!(left > 0 && counter(Counter::DatagramsReceived) == 3_001, "{left}");
    wait_for("the copies", &|| counter(Counter::DatagramsSent) == NODES as u64 - 2);
}

fn a_client_that_sends_too_much_loses_what_is_over_its_rate_and_no_other_does(engine: EngineKind) {
    let config = configs(engine, NODES, 1).swap_remove(usize::from(VICTIM.0));
    let config = DataplaneConfig { clients: common::clients(5, 1_000), ..config };
    let mut nodes = vec![start(config.clone())];
    let send = |from: &UdpSocket, body: &[u8]| {
        let transaction = [&Header::of_transaction(0, CLUSTER).encode()[..], body].concat();
        from.send_to(&transaction, config.bind).unwrap();
    };
    let client = || UdpSocket::bind((common::own_loopback_address(), 0)).unwrap();
    let (greedy, modest, began) = (client(), client(), Instant::now());
    (0..50).for_each(|_| send(&greedy, b"spam"));
    (0..3).for_each(|_| send(&modest, b"a transaction"));
    let taken = |node: &Node, body: &[u8]| node.messages.iter().filter(|message| *message.body == *body).count() as u64;
    run_until(&mut nodes, "all of them", |nodes| {
        let over = nodes[0].counter(Counter::ClientOverRate);
        taken(&nodes[0], b"a transaction") == 3 && taken(&nodes[0], b"spam") + over == 50
    });
    let most = 6 + 5 * began.elapsed().as_millis() as u64 / 1_000;
    assert!((5..=most).contains(&taken(&nodes[0], b"spam")), "{} of {most}", taken(&nodes[0], b"spam"));
}

/// Two versions of a slice, both signed: control is told, once.
fn an_equivocating_leader_is_reported(engine: EngineKind) {
    let (mut nodes, config) = victim(engine);
    let leader = Attacker::new(&config, 2);
    let id = slice_id(8, 0);
    let ours: Vec<usize> = (0..64).filter(|&index| leader.relays(id)[index] == VICTIM).collect();
    leader.send(&leader.shreds(id, 2, 100)[ours[0]]);
    leader.send(&leader.shreds(id, 2, 99)[ours[1]]);
    leader.send(&leader.shreds(id, 2, 98)[ours[2]]);
    run_until(&mut nodes, "the report", |nodes| !nodes[0].reports.is_empty());
    run_until(&mut nodes, "all three", |nodes| {
        [Counter::ShredsFromLeader, Counter::ShredEquivocation, Counter::ShredAfterEquivocation]
            .iter()
            .all(|&counter| nodes[0].counter(counter) == 1)
    });
    assert!(
        matches!(nodes[0].reports[..], [alpenglow_dataplane::FromShard::Equivocation(proof)] if proof.first.id == id)
    );
}
