use std::sync::Arc;

use alpenglow_control::block::Block;
use alpenglow_control::bls::SignatureBytes;
use alpenglow_control::certificate::{Certificate, Signers, Statement};
use alpenglow_control::consensus::Finalization;
use alpenglow_control::output::Decision;
use alpenglow_control::vote::Vote;
use alpenglow_rotor::merkle;
use alpenglow_rotor::slice::{Slice, SliceSignature};
use alpenglow_rotor::types::{SliceIndex, ValidatorIndex};

use super::super::block_log::Record;
use super::*;

const NODES: usize = 5;

/// A block with one slice, whose hash its root decides.
fn block(slot: u64, root: u8, parent: BlockId) -> Block {
    let hash = merkle::block_hash(&[Hash([root; 32])]);
    let id = SliceId { slot: Slot(slot), index: SliceIndex::new(0).expect("a first slice") };
    let slice = Slice {
        id,
        is_last: true,
        root: Hash([root; 32]),
        signature: SliceSignature([0; 64]),
        leader_stamp_ns: 0,
        payload: Vec::new().into(),
    };
    Block {
        id: BlockId { slot: Slot(slot), hash },
        parent,
        slices: vec![slice],
        first_counted: id.index,
        transaction_ids: Vec::new(),
    }
}

/// Block of a window's first slot, on genesis.
fn first(root: u8) -> Block {
    block(4, root, BlockId::GENESIS)
}

struct Watched {
    oracle: Oracle,
    disks: Vec<Disk>,
    now: Time,
}

impl Watched {
    fn new() -> Self {
        let oracle = Oracle::new(StakeTable::endless(vec![1_000; NODES]), [4].into(), [0].into_iter().collect(), true);
        let mut disks: Vec<Disk> = (0..NODES).map(|_| Disk::new(false)).collect();
        disks.iter_mut().for_each(|disk| disk.reserve(Slot(100)));
        Self { oracle, disks, now: Time(0) }
    }

    fn see(&mut self, node: usize, output: Output) {
        self.oracle.see(node, self.now, &output, &self.disks[node]);
    }

    fn holds(&mut self, node: usize, block: Block) {
        self.see(node, Output::Event(Event::BlockComplete { block: Arc::new(block), own: false }));
    }

    fn votes(&mut self, node: usize, payload: VotePayload) {
        self.disks[node].append(Entry::Vote(payload));
        let vote = Vote { payload, signer: ValidatorIndex(node as u16), signature: SignatureBytes([0; 96]) };
        self.see(node, Output::Broadcast(Message::Vote(vote)));
    }

    fn certifies(&mut self, node: usize, statement: Statement, signers: usize) {
        let certificate = Certificate {
            statement,
            signers: Signers::of(NODES, (0..signers as u16).map(ValidatorIndex)),
            fallback_signers: Signers::none(NODES),
            signature: SignatureBytes([0; 96]),
        };
        self.see(node, Output::Broadcast(Message::Certificate(Arc::new(certificate))));
    }

    /// All nodes vote so, as far as the oracle knows.
    fn all_signed(&mut self, payload: VotePayload) {
        (0..NODES).for_each(|node| self.oracle.liar_voted(node, payload));
    }

    /// Node 0 may begin the window of slot 4 on genesis.
    fn ready(&mut self) {
        for slot in 1..4 {
            self.all_signed(VotePayload::Skip(Slot(slot)));
            self.certifies(0, Statement::Skip(Slot(slot)), 3);
        }
    }

    fn is_fine(&self) -> bool {
        self.oracle.violation.is_none()
    }
}

/// Whether node 0 may cast these votes in slot 4, holding the blocks 1 and 2 of it, when others told it theirs.
fn may_vote(told: &[(usize, VotePayload)], votes: &[VotePayload]) -> bool {
    let mut watched = Watched::new();
    watched.ready();
    [first(1), first(2)].into_iter().for_each(|block| watched.holds(0, block));
    watched.all_signed(VotePayload::Notar(first(1).id));
    watched.certifies(0, Statement::Notarization(first(1).id), 3);
    told.iter().for_each(|(voter, vote)| watched.oracle.told(0, *voter, *vote));
    votes.iter().for_each(|vote| watched.votes(0, *vote));
    watched.is_fine()
}

#[test]
fn votes_that_exclude_each_other_are_a_violation() {
    let (notar, skip) = (VotePayload::Notar(first(1).id), VotePayload::Skip(Slot(4)));
    let (other, last) = (VotePayload::Notar(first(2).id), VotePayload::Final(Slot(4)));
    let (skip_fallback, fallback) = (VotePayload::SkipFallback(Slot(4)), VotePayload::NotarFallback(first(2).id));
    let told = [(1, skip), (2, skip), (3, other), (4, other)];
    assert!(may_vote(&told, &[notar, last]) && may_vote(&told, &[notar, skip_fallback, fallback]));
    assert!(may_vote(&told, &[skip, fallback]) && may_vote(&told, &[notar, notar]), "said again");
    let forbidden: [&[_]; 9] = [
        &[notar, skip],
        &[notar, other],
        &[skip, notar],
        &[notar, skip_fallback, last],
        &[notar, last, skip_fallback],
        &[skip, last],
        &[skip, skip_fallback],
        &[last],
        &[fallback],
    ];
    forbidden.iter().for_each(|votes| assert!(!may_vote(&told, votes), "{votes:?}"));
}

#[test]
fn fallback_votes_need_votes_of_others() {
    let (notar, skip) = (VotePayload::Notar(first(1).id), VotePayload::Skip(Slot(4)));
    let other = VotePayload::Notar(first(2).id);
    let fallback = [notar, VotePayload::NotarFallback(first(2).id)];
    assert!(may_vote(&[(1, other), (2, other)], &fallback), "40%");
    assert!(may_vote(&[(1, other), (2, skip), (3, skip)], &fallback), "20%, 60% with those who skip");
    assert!(!may_vote(&[(1, other), (2, skip)], &fallback));
    assert!(!may_vote(&[(1, skip), (2, skip), (3, skip)], &fallback));
    let skip_fallback = [notar, VotePayload::SkipFallback(Slot(4))];
    assert!(may_vote(&[(1, skip), (2, other)], &skip_fallback));
    assert!(!may_vote(&[(1, skip), (2, notar), (3, notar)], &skip_fallback));
    assert!(!may_vote(&[(1, notar), (1, skip), (2, notar)], &skip_fallback), "one liar is 20%");
}

#[test]
fn a_block_is_voted_for_only_if_it_is_held_and_its_parent_allows_it() {
    let vote = |prepare: &dyn Fn(&mut Watched), block: &Block| {
        let mut watched = Watched::new();
        prepare(&mut watched);
        watched.votes(0, VotePayload::Notar(block.id));
        watched.is_fine()
    };
    assert!(vote(&|watched| (watched.ready(), watched.holds(0, first(1))).1, &first(1)));
    assert!(!vote(&Watched::ready, &first(1)), "not held");
    assert!(!vote(&|watched| watched.holds(0, first(1)), &first(1)), "slots 1 to 3 are not skipped");
    let second = || block(5, 3, first(1).id);
    let with_parent = |watched: &mut Watched| {
        watched.ready();
        watched.holds(0, first(1));
        watched.votes(0, VotePayload::Notar(first(1).id));
        watched.holds(0, second());
    };
    assert!(vote(&with_parent, &second()));
    assert!(!vote(&|watched| (watched.ready(), watched.holds(0, second())).1, &second()), "no vote for the parent");
}

#[test]
fn a_vote_leaves_only_when_it_is_written_down_and_reserved() {
    let skip = VotePayload::Skip(Slot(4));
    let mut watched = Watched::new();
    watched.votes(0, skip);
    assert!(watched.is_fine());
    let vote = Vote { payload: skip, signer: ValidatorIndex(1), signature: SignatureBytes([0; 96]) };
    watched.see(1, Output::Broadcast(Message::Vote(vote)));
    assert!(!watched.is_fine(), "not written down");
    let mut watched = Watched::new();
    watched.disks[0] = Disk::new(false);
    watched.votes(0, skip);
    assert!(!watched.is_fine(), "not reserved");
}

#[test]
fn a_window_is_skipped_when_its_time_is_over_or_sooner_without_a_sign_of_its_leader() {
    // When node 0 (which has a crashed-leader timer) or 1 casts its vote, and when it heard of the leader, in
    // milliseconds after the window was ready.
    let may_skip = |node: usize, cast_ms: u64, heard_ms: Option<u64>| {
        let at = |ms: u64| Time(7_000_000_000 + ms * 1_000_000);
        let mut watched = Watched::new();
        watched.now = at(0);
        watched.see(node, Output::Event(Event::ParentReady { slot: Slot(4), parent: BlockId::GENESIS }));
        if let Some(heard_ms) = heard_ms {
            watched.oracle.hears(node, at(heard_ms), &Input::LeaderSeen(Slot(4)));
        }
        watched.now = at(cast_ms);
        watched.see(node, Output::Record(Entry::Vote(VotePayload::Skip(Slot(4)))));
        watched.is_fine().then(|| watched.oracle.happened.times("windows_given_up_early") > 0)
    };
    for node in [0, 1] {
        assert_eq!(may_skip(node, 1_600, Some(1_000)), Some(false));
        assert_eq!(may_skip(node, 1_209, None), None);
    }
    assert_eq!(may_skip(1, 1_210, None), None, "it has no such timer");
    assert_eq!(may_skip(0, 1_210, None), Some(true));
    assert_eq!(may_skip(0, 1_300, Some(1_209)), None, "the leader was seen in time");
    assert_eq!(may_skip(0, 1_300, Some(1_215)), Some(true), "the vote may have waited for its reservation");
    let mut watched = Watched::new();
    watched.see(0, Output::Record(Entry::Vote(VotePayload::Skip(Slot(4)))));
    assert!(!watched.is_fine(), "the window never was ready");
}

#[test]
fn a_block_is_written_down_before_the_vote_for_it() {
    let block = first(1);
    for vote in [VotePayload::Notar(block.id), VotePayload::NotarFallback(block.id)] {
        let mut watched = Watched::new();
        watched.see(0, Output::Record(Entry::Vote(vote)));
        assert!(!watched.is_fine());
        let mut watched = Watched::new();
        watched.disks[0].blocks.write(Record::block(&block));
        watched.see(0, Output::Record(Entry::Vote(vote)));
        assert!(watched.is_fine());
    }
}

#[test]
fn what_votes_that_left_make_final_is_not_lost_nor_decided_otherwise() {
    let block = first(1);
    let ends_well = |voters: usize, is_kept: bool, decision: Option<Decision>| {
        let mut watched = Watched::new();
        watched.holds(0, first(1));
        (0..voters).for_each(|node| watched.oracle.liar_voted(node, VotePayload::Notar(block.id)));
        if is_kept {
            watched.disks[0].blocks.write(Record::block(&block));
        }
        if let Some(decision) = decision {
            watched.see(1, Output::Event(Event::Decided { slot: Slot(4), decision }));
        }
        watched.oracle.check_availability(Some(&watched.disks));
        watched.is_fine()
    };
    assert!(ends_well(4, true, None) && ends_well(3, false, None));
    assert!(!ends_well(4, false, None), "lost");
    assert!(!ends_well(4, true, Some(Decision::Skipped)) && ends_well(3, true, Some(Decision::Skipped)));
}

#[test]
fn a_certificate_needs_votes_that_were_cast_and_enough_of_them() {
    let check = |signers, voters: usize| {
        let mut watched = Watched::new();
        (0..voters).for_each(|node| watched.oracle.liar_voted(node, VotePayload::Notar(first(1).id)));
        watched.certifies(0, Statement::Notarization(first(1).id), signers);
        watched.is_fine()
    };
    assert!(check(3, 3));
    assert!(!check(2, 3), "too few");
    assert!(!check(4, 3), "one never voted");
}

#[test]
fn two_final_blocks_in_a_slot_are_a_violation_and_a_liars_word_is_none() {
    let check = |decisions: &[(usize, u8)], holders: usize| {
        let mut watched = Watched::new();
        for root in [1, 2] {
            (0..holders).for_each(|node| watched.holds(node, first(root)));
            watched.all_signed(VotePayload::Notar(first(root).id));
        }
        for (node, root) in decisions {
            let block = first(*root).id;
            watched.certifies(*node, Statement::Fast(block), 4);
            let decision = Decision::Finalized { block, how: Finalization::Fast };
            watched.see(*node, Output::Event(Event::Decided { slot: block.slot, decision }));
        }
        watched.is_fine()
    };
    assert!(check(&[(0, 1), (1, 1), (4, 2)], 3));
    assert!(!check(&[(0, 1), (1, 2)], 3));
    assert!(!check(&[(0, 1)], 1), "one node alone held it");
}

#[test]
fn a_block_that_is_not_what_its_hash_says_is_a_violation() {
    let mut watched = Watched::new();
    watched.holds(0, Block { id: first(2).id, ..first(1) });
    assert!(!watched.is_fine());
}

#[test]
fn a_block_dead_for_one_and_complete_for_another_is_a_violation() {
    let dead = || {
        let reason = alpenglow_control::block::InvalidBlock::MalformedSlice;
        Output::Event(Event::BlockDead { slot: Slot(4), block: Some(first(1).id), reason })
    };
    let mut watched = Watched::new();
    watched.see(1, dead());
    watched.holds(0, first(2));
    assert!(watched.is_fine());
    watched.holds(0, first(1));
    assert!(!watched.is_fine());
    let mut watched = Watched::new();
    watched.holds(0, first(1));
    watched.see(1, dead());
    assert!(!watched.is_fine());
}
