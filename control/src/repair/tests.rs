//! A requester among peers that hold a block, lack it, are silent or lie, in virtual time.

mod ancestors;
mod serving;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alpenglow_rotor::merkle;
use alpenglow_rotor::parameters::{Code, CodingParameters};
use alpenglow_rotor::recoder::Recoder;
use alpenglow_rotor::slice::{Slice, SliceId, SliceSignature};
use alpenglow_rotor::types::{BlockId, ClusterId, Hash, ShredIndex, SliceIndex, Slot, Stake, Time, ValidatorIndex};

use super::*;
use crate::assembly::{Assembly, Verdict};
use crate::block::{ParentStatement, SliceBuilder};
use crate::counters::Counters;
use crate::stakes::Stakes;

const CLUSTER: ClusterId = ClusterId([9; 32]);
const MS: u64 = 1_000_000;
const LIMITS: RequestLimits = RequestLimits {
    grace: Duration::from_millis(100),
    answer_timeout: Duration::from_millis(200),
    bytes_max: 64 << 20,
    asking: AskingLimits {
        requests: Allowance { per_second: 512, burst: 512 },
        bytes: Allowance { per_second: 4 << 20, burst: 4 << 20 },
        open_max: 16,
    },
};

/// A block of slot 8 whose slices have real roots.
fn block(coding: CodingParameters, slices: usize) -> Arc<Block> {
    child(coding, slices, Slot(8), BlockId { slot: Slot(7), hash: Hash([7; 32]) })
}

fn child(coding: CodingParameters, slices: usize, slot: Slot, parent: BlockId) -> Arc<Block> {
    let mut recoder = Recoder::new(coding, CLUSTER);
    let mut assembly = Assembly::new(slot, 0);
    for index in 0..slices {
        let parent = if index == 0 { ParentStatement::Parent(parent) } else { ParentStatement::Nothing };
        let mut builder = SliceBuilder::new(parent, coding.slice_payload_bytes());
        for number in 0..=index % 5 {
            assert!(builder.push(&[number as u8; 300]));
        }
        let payload = builder.finish();
        let id = SliceId { slot, index: SliceIndex::new(index).unwrap() };
        let root = recoder.root(index as u64, &payload);
        let signature = SliceSignature([1; 64]);
        let is_last = index + 1 == slices;
        assembly.insert(Slice { id, is_last, root, signature, leader_stamp_ns: index as u64, payload: payload.into() });
    }
    match assembly.verdict() {
        Some(Verdict::Complete(block)) => Arc::new(block),
        other => panic!("{other:?}"),
    }
}

#[derive(Clone, Copy)]
enum Behaviour {
    Honest,
    Silent,
    Lacking,
    /// Changes each answer before it leaves.
    Liar(fn(&mut RepairAnswer)),
}

struct Held(Vec<Arc<Block>>);

impl BlockSource for Held {
    fn block(&self, id: BlockId) -> Option<Arc<Block>> {
        self.0.iter().find(|block| block.id == id).cloned()
    }
}

/// Slices that came through Rotor.
#[derive(Default)]
struct FromRotor(Vec<Slice>);

impl SliceSource for FromRotor {
    fn slice(&self, id: SliceId, root: Hash) -> Option<Slice> {
        self.0.iter().find(|slice| slice.id == id && slice.root == root).cloned()
    }

    fn is_settled(&self, block: BlockId) -> bool {
        block.slot <= Slot(2)
    }
}

/// What happens to a datagram.
#[derive(Clone, Copy, Default)]
struct Network {
    lost_percent: u64,
    twice_percent: u64,
    jitter_ms: u64,
}

fn requester(limits: RequestLimits, coding: CodingParameters, validators: usize) -> Requester {
    let stakes = Stakes::new(vec![Stake(1_000); validators]);
    Requester::new(limits, coding, Recoder::new(coding, CLUSTER), ValidatorIndex(0), &stakes, [5; 32])
}

struct Net {
    now: Time,
    requester: Requester,
    counters: Counters,
    peers: Vec<(Behaviour, Responder)>,
    held: Held,
    from_rotor: FromRotor,
    network: Network,
    seed: u64,
    random: u64,
    queue: BTreeMap<(Time, u64), (ValidatorIndex, RepairMessage)>,
    queued: u64,
    asked: Vec<(ValidatorIndex, RepairRequest)>,
}

impl Net {
    fn new(coding: CodingParameters, behaviours: &[Behaviour], held: &[&Arc<Block>]) -> Self {
        let count = behaviours.len() + 1;
        let responder = || Responder::new(ServingLimits::default(), coding, Recoder::new(coding, CLUSTER), count);
        Self {
            now: Time(1_000 * MS),
            requester: requester(LIMITS, coding, count),
            counters: Counters::default(),
            peers: behaviours.iter().map(|&behaviour| (behaviour, responder())).collect(),
            held: Held(held.iter().copied().cloned().collect()),
            from_rotor: FromRotor::default(),
            network: Network::default(),
            seed: 1,
            random: 1,
            queue: BTreeMap::new(),
            queued: 0,
            asked: Vec::new(),
        }
    }

    /// With memory for so many full slices on their way.
    fn limit_memory(&mut self, slices: usize) {
        let limits = RequestLimits { bytes_max: slices * 32 * 896, ..LIMITS };
        self.requester = requester(limits, coding(), self.peers.len() + 1);
    }

    fn replay(&self) -> String {
        format!("seed {0}: replay with ALPENGLOW_SEED={0}", self.seed)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % bound
    }

    fn send(&mut self, peer: ValidatorIndex, message: RepairMessage) {
        let body = message.encode();
        assert!(body.len() <= REPAIR_BODY_BYTES_MAX);
        let copies = 1 + u64::from(self.below(100) < self.network.twice_percent);
        for _ in 0..copies {
            if self.below(100) >= self.network.lost_percent {
                let at = Time(self.now.0 + (5 + self.below(self.network.jitter_ms + 1)) * MS);
                self.queued += 1;
                self.queue.insert((at, self.queued), (peer, message.clone()));
            }
        }
    }

    fn pump(&mut self) {
        self.requester.advance(self.now, &mut self.counters);
        while let Some((peer, request)) = self.requester.poll_request() {
            self.asked.push((peer, request));
            self.send(peer, RepairMessage::Request(request));
        }
    }

    fn need(&mut self, block: BlockId, need: Need) {
        self.requester.need(self.now, block, need, &mut self.counters);
    }

    fn deliver(&mut self, peer: ValidatorIndex, message: RepairMessage) {
        match message {
            RepairMessage::Request(request) => {
                let (behaviour, responder) = &mut self.peers[peer.get() - 1];
                let behaviour = *behaviour;
                let nothing = Held(Vec::new());
                let source = if matches!(behaviour, Behaviour::Lacking) { &nothing } else { &self.held };
                let answers = responder.answer(self.now, &request, ValidatorIndex(0), source);
                let answers = answers.expect("an honest requester stays within every budget");
                for mut answer in answers {
                    match behaviour {
                        Behaviour::Silent => continue,
                        Behaviour::Liar(lie) => lie(&mut answer),
                        Behaviour::Honest | Behaviour::Lacking => {}
                    }
                    self.send(peer, RepairMessage::Answer(answer));
                }
            }
            RepairMessage::Answer(answer) => {
                if let Err(reason) = self.requester.answer(self.now, answer, peer, &self.from_rotor, &mut self.counters)
                {
                    self.counters.count(reason);
                }
            }
        }
    }

    /// Lets time pass until a block ended or so many milliseconds went by.
    fn run(&mut self, most_ms: u64) -> Option<Repaired> {
        let end = Time(self.now.0 + most_ms * MS);
        loop {
            self.pump();
            if let Some(repaired) = self.requester.poll_repaired() {
                return Some(repaired);
            }
            let queued = self.queue.first_key_value().map(|((at, _), _)| *at);
            let next = queued.into_iter().chain(self.requester.next_timeout()).min().filter(|at| *at <= end);
            let Some(next) = next else {
                self.now = end;
                return None;
            };
            assert!(next >= self.now || queued == Some(next), "woken for ever");
            self.now = self.now.max(next);
            while let Some(entry) = self.queue.first_entry()
                && entry.key().0 <= self.now
            {
                let (peer, message) = entry.remove();
                self.deliver(peer, message);
            }
        }
    }

    fn repair(&mut self, wanted: &Arc<Block>, most_ms: u64) -> Repaired {
        self.need(wanted.id, Need::Now);
        let repaired = self.run(most_ms).unwrap_or_else(|| panic!("no block, {}", self.replay()));
        let block = repaired.outcome.clone().expect("it is a block");
        assert_eq!((block.id, block.parent, block.slices.len()), (wanted.id, wanted.parent, wanted.slices.len()));
        assert_eq!(block.transaction_ids, wanted.transaction_ids);
        for (got, expected) in block.slices.iter().zip(&wanted.slices) {
            assert_eq!((got.id, got.is_last, got.root), (expected.id, expected.is_last, expected.root));
            assert_eq!((got.leader_stamp_ns, &got.payload[..]), (expected.leader_stamp_ns, &expected.payload[..]));
        }
        repaired
    }

    fn count(&self, reason: &str) -> u64 {
        self.counters.get(reason)
    }
}

fn coding() -> CodingParameters {
    CodingParameters::default()
}

#[test]
fn a_block_is_fetched_with_one_request_for_each_thing() {
    for slices in [1, 2, 15, 16, 17, 40] {
        let block = block(coding(), slices);
        let mut net = Net::new(coding(), &[Behaviour::Honest; 4], &[&block]);
        let repaired = net.repair(&block, 1_000);
        let groups_asked_for = slices.div_ceil(16) - 1;
        assert_eq!(repaired.requests as usize, 1 + groups_asked_for + slices);
        // Number of slices and first roots, then (more roots and) shreds: each takes a round trip of 10 ms.
        let round_trips = if slices > 16 { 3 } else { 2 };
        assert_eq!(repaired.took, Duration::from_millis(10 * round_trips), "{slices} slices");
        assert_eq!(net.counters.iter().count(), 0, "{:?}", net.counters);
    }
}

#[test]
fn defect_16_a_block_needed_for_many_reasons_is_asked_for_once() {
    let block = block(coding(), 3);
    let mut net = Net::new(coding(), &[Behaviour::Honest; 4], &[&block]);
    for _ in 0..1_000 {
        net.need(block.id, Need::Now);
        net.pump();
    }
    assert_eq!(net.asked.len(), 1);
    let repaired = net.run(1_000).unwrap();
    assert_eq!(repaired.requests, 4);
    assert!(net.run(10_000).is_none());
    assert_eq!(net.asked.len(), 4);
}

#[test]
fn defect_16_answers_to_what_is_satisfied_are_dropped_and_counted() {
    let block = block(coding(), 3);
    let mut net = Net::new(coding(), &[Behaviour::Honest; 4], &[&block]);
    net.need(block.id, Need::Now);
    net.pump();
    net.requester.satisfied(block.id);
    assert!(net.run(5_000).is_none());
    assert_eq!((net.asked.len(), net.count("repair_answer_not_awaited")), (1, 2));
    net.need(block.id, Need::Now);
    net.pump();
    let (asked, RepairRequest { id, .. }) = net.asked[1];
    let other = (1..=4).map(ValidatorIndex).find(|peer| *peer != asked).unwrap();
    net.deliver(other, RepairMessage::Answer(RepairAnswer { id, content: AnswerContent::NotHeld }));
    assert_eq!(net.count("repair_answer_not_awaited"), 3);
    assert_eq!(net.requester.statistics().not_held, 0, "nobody answers for who was asked");
}

#[test]
fn slices_that_rotor_brought_are_not_asked_for() {
    let block = block(coding(), 20);
    let mut net = Net::new(coding(), &[Behaviour::Honest; 4], &[&block]);
    let missing = 13;
    net.from_rotor.0 = block.slices.clone();
    net.from_rotor.0.remove(missing);
    // Signed too, but not of this block.
    net.from_rotor.0[4].root = Hash([4; 32]);
    let repaired = net.repair(&block, 1_000);
    assert_eq!(repaired.requests, 1 + 1 + 2);
}

#[test]
fn requests_wait_while_rotor_still_brings_slices() {
    let block = block(coding(), 1);
    let mut net = Net::new(coding(), &[Behaviour::Honest; 4], &[&block]);
    net.need(block.id, Need::Soon);
    for _ in 0..10 {
        assert!(net.run(60).is_none() && net.asked.is_empty());
        net.requester.slice_came(net.now, Slot(8));
    }
    assert!(net.run(99).is_none() && net.asked.is_empty());
    assert!(net.run(50).is_some());

    let hurry: [fn(&mut Net, BlockId); 3] = [
        |net, _| net.requester.hurry(net.now, Slot(8)),
        |net, _| net.requester.close(net.now, Slot(9)),
        |net, block| net.need(block, Need::Now),
    ];
    for hurry in hurry {
        let mut net = Net::new(coding(), &[Behaviour::Honest; 4], &[&block]);
        net.need(block.id, Need::Soon);
        hurry(&mut net, block.id);
        net.pump();
        assert_eq!(net.asked.len(), 1);
    }
}

#[test]
fn defect_16_proofs_that_are_empty_or_too_short_and_other_lies_are_refused_and_cost_the_liar() {
    fn of_path(answer: &mut RepairAnswer, change: fn(&mut Vec<Hash>)) {
        if let AnswerContent::LastSlice { path, .. } | AnswerContent::Roots { path, .. } = &mut answer.content {
            change(path);
        }
    }
    fn of_shred(answer: &mut RepairAnswer, change: fn(&mut ShredPart)) {
        if let AnswerContent::Shred(shred) = &mut answer.content {
            change(shred);
        }
    }
    let lies: [fn(&mut RepairAnswer); 12] = [
        |answer| of_path(answer, Vec::clear),
        |answer| of_path(answer, |path| path.truncate(path.len().saturating_sub(1))),
        |answer| of_path(answer, |path| path.push(Hash([1; 32]))),
        |answer| of_path(answer, |path| path.iter_mut().for_each(|hash| hash.0[0] ^= 1)),
        |answer| {
            if let AnswerContent::LastSlice { index, .. } = &mut answer.content {
                *index = SliceIndex::new(index.get() - 1).unwrap();
            }
        },
        |answer| {
            if let AnswerContent::Roots { roots, .. } = &mut answer.content {
                roots[0] = Hash([3; 32]);
            }
        },
        |answer| {
            if let AnswerContent::Roots { group, .. } = &mut answer.content {
                *group += 1;
            }
        },
        |answer| of_shred(answer, |shred| shred.data[0] ^= 1),
        |answer| of_shred(answer, |shred| shred.path.truncate(5)),
        |answer| of_shred(answer, |shred| shred.index = ShredIndex(shred.index.0 ^ 1)),
        |answer| of_shred(answer, |shred| shred.data_bytes = 4),
        |answer| {
            answer.content = AnswerContent::Shred(ShredPart {
                index: ShredIndex(60_000),
                data_bytes: 2,
                part: 0,
                path: Vec::new(),
                data: vec![1, 2],
            })
        },
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        let block = block(coding(), 40);
        let behaviours = [Behaviour::Liar(lie), Behaviour::Liar(lie), Behaviour::Liar(lie), Behaviour::Honest];
        let mut net = Net::new(coding(), &behaviours, &[&block]);
        net.repair(&block, 30_000);
        let wrong = net.count("repair_answer_wrong");
        assert!(wrong > 0, "lie {number} was told");
        let mut honest = 0;
        net.asked.clear();
        net.requester.need(net.now, BlockId { slot: Slot(8), hash: Hash([1; 32]) }, Need::Now, &mut net.counters);
        net.run(3_000);
        for (peer, _) in &net.asked {
            honest += usize::from(peer.get() == 4);
        }
        assert!(wrong <= 60, "lie {number}: liars were asked {wrong} times");
        assert!(honest > 0);
    }
}

#[test]
fn peers_that_are_silent_or_lack_the_block_do_not_stop_repair() {
    let block = block(coding(), 5);
    let behaviours = [Behaviour::Silent, Behaviour::Silent, Behaviour::Lacking, Behaviour::Honest];
    let mut net = Net::new(coding(), &behaviours, &[&block]);
    net.repair(&block, 10_000);
    assert!(net.count("repair_request_timeout") > 0);
    assert_eq!(net.count("repair_answer_wrong"), 0);
    let lacking = net.asked.iter().filter(|(peer, _)| peer.get() == 3).count();
    assert!(lacking <= 5, "asked {lacking} times, at most by what was under way when it said that it lacks the block");
}

#[test]
fn a_block_that_nobody_holds_is_asked_for_at_a_low_rate() {
    let block = block(coding(), 5);
    let mut net = Net::new(coding(), &[Behaviour::Lacking; 20], &[]);
    net.need(block.id, Need::Now);
    assert!(net.run(10_000).is_none());
    // Everybody once, one after the other in 10 ms each; then a pause of 400 ms.
    assert!((20 * 16..=20 * 18).contains(&net.asked.len()), "{}", net.asked.len());
    net.requester.forget_through(Slot(8));
    assert_eq!(net.requester.next_timeout(), None);
}

#[test]
fn shreds_under_a_root_that_are_no_slice_kill_the_block() {
    let coding = coding();
    // Each shred is proven, but they are no code word.
    let shreds: Vec<Vec<u8>> = (0..64).map(|index| vec![index; 4]).collect();
    let mut nodes = vec![[0; 32]; 128];
    for (node, shred) in nodes[64..].iter_mut().zip(&shreds) {
        *node = merkle::leaf(shred).0;
    }
    for at in (1..64).rev() {
        nodes[at] = merkle::node(&nodes[2 * at], &nodes[2 * at + 1]);
    }
    let root = Hash(nodes[1]);
    let id = BlockId { slot: Slot(8), hash: merkle::block_hash(&[root]) };
    let mut net = Net::new(coding, &[Behaviour::Silent; 4], &[]);
    net.need(id, Need::Now);
    net.pump();
    let (peer, request) = net.asked[0];
    let answer = |content| RepairMessage::Answer(RepairAnswer { id: request.id, content });
    net.deliver(peer, answer(AnswerContent::LastSlice { index: SliceIndex::default(), root, path: Vec::new() }));
    net.deliver(peer, answer(AnswerContent::Roots { group: 0, roots: vec![root], path: Vec::new() }));
    net.pump();
    let (peer, request) = net.asked[1];
    for (index, data) in shreds.iter().take(32).enumerate() {
        let path = (0..6).map(|level| nodes[((64 + index) >> level) ^ 1]).collect();
        let part = ShredPart { index: ShredIndex(index as u16), data_bytes: 4, part: 0, path, data: data.clone() };
        net.deliver(peer, RepairMessage::Answer(RepairAnswer { id: request.id, content: AnswerContent::Shred(part) }));
    }
    let repaired = net.requester.poll_repaired().expect("a verdict");
    assert_eq!((repaired.id, repaired.outcome.unwrap_err()), (id, InvalidBlock::MalformedSlice));
    assert_eq!(net.counters.iter().count(), 0);
}

#[test]
fn shreds_longer_than_the_smallest_datagram_come_in_parts() {
    let wide = CodingParameters::new(Code::Rs8, 4, 8, 8_000, 8_972).unwrap();
    let payload = vec![7; wide.slice_payload_bytes() - 400];
    let encoded_parts = wide.shred_bytes().div_ceil(part_bytes(&wide));
    assert_eq!(encoded_parts, 8);
    let mut builder =
        SliceBuilder::new(ParentStatement::Parent(BlockId { slot: Slot(7), hash: Hash([7; 32]) }), 40_000);
    for transaction in payload.chunks(1_000) {
        assert!(builder.push(transaction));
    }
    let payload = builder.finish();
    let root = Recoder::new(wide, CLUSTER).root(3, &payload);
    let id = SliceId { slot: Slot(8), index: SliceIndex::default() };
    let slice = Slice {
        id,
        is_last: true,
        root,
        signature: SliceSignature([0; 64]),
        leader_stamp_ns: 3,
        payload: payload.into(),
    };
    let mut assembly = Assembly::new(Slot(8), 0);
    assembly.insert(slice);
    let Some(Verdict::Complete(block)) = assembly.verdict() else { panic!("a block of one slice") };
    let block = Arc::new(block);
    for twice_percent in [0, 50] {
        let mut net = Net::new(wide, &[Behaviour::Honest; 4], &[&block]);
        net.network = Network { twice_percent, jitter_ms: 20, lost_percent: 0 };
        assert_eq!(net.repair(&block, 1_000).requests, 2);
        assert_eq!(net.count("repair_answer_wrong"), 0);
    }
}

#[test]
fn a_block_longer_than_the_memory_for_repair_is_left() {
    let block = block(coding(), 40);
    let mut net = Net::new(coding(), &[Behaviour::Honest; 4], &[&block]);
    net.limit_memory(39);
    net.need(block.id, Need::Now);
    assert!(net.run(10_000).is_none());
    assert_eq!((net.count("repair_block_too_long"), net.asked.len()), (1, 1));
    assert_eq!(net.requester.next_timeout(), None);
}

#[test]
fn blocks_of_open_slots_come_first_and_memory_bounds_how_many_at_a_time() {
    let wanted = block(coding(), 20);
    let mut net = Net::new(coding(), &[Behaviour::Honest; 4], &[&wanted]);
    net.limit_memory(30);
    let others: Vec<BlockId> = (1..=6).map(|slot| BlockId { slot: Slot(slot), hash: wanted.id.hash }).collect();
    for &other in &others {
        net.need(other, Need::Now);
    }
    net.requester.close(net.now, Slot(7));
    net.need(wanted.id, Need::Now);
    net.pump();
    assert_eq!(net.asked[0].1.block, wanted.id, "of an open slot");
    assert_eq!(net.asked[1].1.block, others[0]);
    assert!(net.run(1_000).unwrap().outcome.is_ok());
}

#[test]
fn what_only_the_log_lacks_leaves_half_of_everything_to_what_votes_wait_for() {
    let lost = block(coding(), 200);
    let wanted = child(coding(), 20, Slot(9), lost.id);
    let mut net = Net::new(coding(), &[Behaviour::Honest; 4], &[&lost, &wanted]);
    net.requester.close(net.now, Slot(8));
    net.requester.need_for_log(net.now, lost.id, &mut net.counters);
    // Its last slice with the first roots, then the slices that these are of, of which some were answered by now.
    assert!(net.run(20).is_none());
    let slices = |net: &Net, of: BlockId| {
        let asked = net.asked.iter().filter(|(_, request)| request.block == of);
        asked.filter(|(_, request)| matches!(request.want, Want::Shreds { .. })).count()
    };
    assert!((32..=50).contains(&slices(&net, lost.id)), "{}", slices(&net, lost.id));
    net.need(wanted.id, Need::Now);
    net.pump();
    assert_eq!(net.asked.last().unwrap().1.block, wanted.id);
    let first = net.run(1_000).unwrap();
    assert_eq!((first.id, first.for_log, slices(&net, wanted.id)), (wanted.id, false, 20));
    let second = net.run(10_000).unwrap();
    assert_eq!((second.id, second.for_log, slices(&net, lost.id)), (lost.id, true, 200));
}

#[test]
fn what_the_log_lacks_and_is_needed_otherwise_too_does_not_wait() {
    let needed = block(coding(), 200);
    let mut net = Net::new(coding(), &[Behaviour::Honest; 4], &[&needed]);
    net.need(needed.id, Need::Now);
    net.requester.need_for_log(net.now, needed.id, &mut net.counters);
    assert!(net.run(20).is_none());
    assert!(net.asked.len() > 60, "{}", net.asked.len());
    assert!(net.run(10_000).unwrap().for_log);
}

/// Any mix of peers and any network: the block comes, and no honest peer is taken for a liar.
#[test]
fn repair_gets_through_losses_duplicates_and_liars() {
    let lie: fn(&mut RepairAnswer) = |answer| {
        if let AnswerContent::Shred(shred) = &mut answer.content {
            shred.data[0] ^= 0x80;
        }
    };
    let seeds = match std::env::var("ALPENGLOW_SEED") {
        Ok(seed) => seed.parse().unwrap()..=seed.parse().unwrap(),
        Err(_) => 1..=60u64,
    };
    for seed in seeds {
        let mut net = Net::new(coding(), &[Behaviour::Honest; 9], &[]);
        (net.seed, net.random) = (seed, seed);
        let slices = 1 + net.below(40) as usize;
        let block = block(coding(), slices);
        net.held.0.push(block.clone());
        let liars = net.below(3) as usize;
        for peer in 0..9 {
            net.peers[peer].0 = match net.below(10) {
                _ if peer < liars => Behaviour::Liar(lie),
                0 | 1 => Behaviour::Silent,
                2 | 3 => Behaviour::Lacking,
                _ => Behaviour::Honest,
            };
        }
        net.peers[8].0 = Behaviour::Honest;
        net.network = Network { lost_percent: net.below(20), twice_percent: net.below(30), jitter_ms: net.below(150) };
        net.repair(&block, 60_000);
        assert!(liars > 0 || net.count("repair_answer_wrong") == 0, "accused without lying, {}", net.replay());
        net.run(5_000);
        assert_eq!(net.requester.next_timeout(), None, "{}", net.replay());
    }
}
