//! Situations in which other implementations failed, each a test named after what went wrong there.

mod bounds;
mod certificates;
mod finality;
mod members;
mod restoring;
mod timers;

use alpenglow_rotor::types::{Hash, Stake};

use super::*;
use crate::bls::HashedPayload;
use crate::certificate::{Signers, Statement};

const CLUSTER: ClusterId = ClusterId([7; 32]);

fn key(validator: u16) -> SecretKey {
    SecretKey::from_entropy(&[validator as u8 + 1; 32])
}

fn block(slot: u64, name: u8) -> BlockId {
    BlockId { slot: Slot(slot), hash: Hash([name; 32]) }
}

fn milliseconds(count: u64) -> Time {
    Time(count * 1_000_000)
}

/// Validator 0 of a set, fed with votes that need no check.
struct Node {
    consensus: Consensus,
    stakes: Arc<Stakes>,
    now: Time,
    any_signature: SignatureBytes,
}

impl Node {
    fn new(stakes: &[u64]) -> Self {
        Self::with_stakes(Stakes::new(stakes.iter().copied().map(Stake).collect()))
    }

    fn with_stakes(stakes: Stakes) -> Self {
        let stakes = Arc::new(stakes);
        let now = Time(0);
        let any_signature = key(0).sign(&HashedPayload::new(b"any")).to_bytes();
        Self { consensus: Consensus::new(Self::config(&stakes), now), stakes, now, any_signature }
    }

    fn config(stakes: &Arc<Stakes>) -> ConsensusConfig {
        ConsensusConfig {
            own: ValidatorIndex(0),
            secret_key: key(0),
            stakes: Arc::clone(stakes),
            cluster: CLUSTER,
            delta_block: Duration::from_millis(400),
            delta_timeout: Duration::from_millis(1_200),
            standstill_interval: Duration::from_secs(10),
            crashed_leader: None,
        }
    }

    fn equal(validators: usize) -> Self {
        Self::new(&vec![1; validators])
    }

    fn events(&mut self) -> Vec<ConsensusEvent> {
        std::iter::from_fn(|| self.consensus.poll()).collect()
    }

    /// Own votes cast since the last look.
    fn cast(&mut self) -> Vec<VotePayload> {
        let votes = self.events().into_iter().filter_map(|event| match event {
            ConsensusEvent::Vote(vote) => Some(vote.payload),
            _ => None,
        });
        votes.collect()
    }

    fn finalized(&mut self) -> Vec<BlockId> {
        let finalized = self.events().into_iter().filter_map(|event| match event {
            ConsensusEvent::Finalized { block, .. } => Some(block),
            _ => None,
        });
        finalized.collect()
    }

    fn hold(&mut self, block: BlockId, parent: BlockId) -> &mut Self {
        self.consensus.block_held(self.now, block, parent);
        self
    }

    fn unverified(&self, payload: VotePayload, signer: u16) -> UnverifiedVote {
        UnverifiedVote { payload, signer: ValidatorIndex(signer), signature: self.any_signature }
    }

    fn vote(&mut self, payload: VotePayload, signers: impl IntoIterator<Item = u16>) -> &mut Self {
        for signer in signers {
            let vote = self.unverified(payload, signer);
            if matches!(self.consensus.admit(&vote), Admission::Check | Admission::Conflict | Admission::ConflictAgain)
            {
                self.consensus.votes(self.now, VerifiedVotes::assume_checked(vec![vote]));
            }
        }
        self
    }

    fn unchecked_certificate(&self, statement: Statement, signers: &[u16]) -> UnverifiedCertificate {
        let validators = self.stakes.len();
        UnverifiedCertificate(Certificate {
            statement,
            signers: Signers::of(validators, signers.iter().map(|signer| ValidatorIndex(*signer))),
            fallback_signers: Signers::none(validators),
            signature: self.any_signature,
        })
    }

    /// A certificate signed by everybody.
    fn certificate(&mut self, statement: Statement) -> &mut Self {
        let everyone: Vec<u16> = (0..self.stakes.len() as u16).collect();
        let certificate = self.unchecked_certificate(statement, &everyone);
        self.consensus.certificate(self.now, VerifiedCertificate::assume_checked(certificate.0));
        self
    }

    fn advance_to(&mut self, now: Time) -> &mut Self {
        self.now = now;
        self.consensus.advance(now);
        self
    }
}

use VotePayload::{Final, Notar, NotarFallback, Skip, SkipFallback};

#[test]
fn defect_2_one_validator_with_most_of_the_stake_does_not_stop_the_pool() {
    let mut node = Node::new(&[5, 90, 5]);
    node.vote(Notar(block(1, 1)), [1]);
    assert_eq!(node.finalized(), [block(1, 1)]);
    let mut alone = Node::new(&[1]);
    alone.hold(block(1, 1), BlockId::GENESIS).hold(block(2, 2), block(1, 1));
    assert_eq!(alone.finalized(), [block(1, 1), block(2, 2)]);
}

#[test]
fn defect_3_safe_to_skip_is_found_when_the_own_notarization_vote_comes_last() {
    let mut node = Node::equal(10);
    node.vote(Skip(Slot(1)), 1..=4);
    assert_eq!(node.cast(), []);
    node.hold(block(1, 1), BlockId::GENESIS);
    let skips = [Skip(Slot(2)), Skip(Slot(3))];
    assert_eq!(node.cast(), [&[Notar(block(1, 1))], &skips[..], &[SkipFallback(Slot(1))]].concat());
}

#[test]
fn defect_3_children_of_genesis_can_be_safe_to_notarize() {
    let mut node = Node::equal(10);
    node.advance_to(milliseconds(1_600)).hold(block(1, 1), BlockId::GENESIS);
    node.vote(Notar(block(1, 1)), 1..=4);
    assert!(node.cast().contains(&NotarFallback(block(1, 1))));
}

#[test]
fn defect_3_all_children_waiting_for_one_parent_are_woken() {
    let mut node = Node::equal(10);
    node.advance_to(milliseconds(1_600));
    node.hold(block(2, 1), block(1, 9)).hold(block(2, 2), block(1, 9));
    node.vote(Notar(block(2, 1)), 1..=4).vote(Notar(block(2, 2)), 5..=8);
    assert!(!node.cast().iter().any(|vote| matches!(vote, NotarFallback(_))), "the parent has no certificate yet");
    node.certificate(Statement::NotarFallback(block(1, 9)));
    assert_eq!(node.cast(), [NotarFallback(block(2, 1)), NotarFallback(block(2, 2))]);
}

#[test]
fn defect_3_a_certified_parent_is_not_demanded_in_the_first_slot_of_a_window() {
    let mut node = Node::equal(10);
    node.certificate(Statement::NotarFallback(block(3, 3)));
    let ready_at = node.now;
    node.advance_to(ready_at.after(Duration::from_millis(1_600)));
    node.cast();
    node.hold(block(4, 4), block(2, 2)).vote(Notar(block(4, 4)), 1..=4);
    assert_eq!(node.cast(), [NotarFallback(block(4, 4))], "its parent in slot 2 is not certified");
}

#[test]
fn defect_3_children_are_woken_by_a_fast_finalization_of_their_parent() {
    let mut node = Node::equal(10);
    node.advance_to(milliseconds(1_600));
    node.hold(block(2, 2), block(1, 1)).vote(Notar(block(2, 2)), 1..=4);
    node.cast();
    node.certificate(Statement::Fast(block(1, 1)));
    assert_eq!(node.cast(), [NotarFallback(block(2, 2))]);
}

#[test]
fn defect_4_a_fourth_notar_fallback_vote_is_dropped() {
    let mut node = Node::equal(10);
    node.vote(NotarFallback(block(1, 1)), [1]).vote(NotarFallback(block(1, 2)), [1]);
    node.vote(NotarFallback(block(1, 3)), [1]);
    let fourth = node.unverified(NotarFallback(block(1, 4)), 1);
    assert_eq!(node.consensus.admit(&fourth), Admission::Redundant);
    assert_eq!(node.events(), []);
}

#[test]
fn defect_5_the_final_vote_follows_a_notarization_vote_that_comes_after_its_certificate() {
    let mut node = Node::equal(10);
    node.certificate(Statement::Notarization(block(1, 1)));
    assert_eq!(node.cast(), []);
    node.hold(block(1, 1), BlockId::GENESIS);
    assert_eq!(node.cast(), [Notar(block(1, 1)), Final(Slot(1))]);
}

#[test]
fn of_conflicting_votes_the_first_to_arrive_wins_though_its_check_ends_last() {
    let mut node = Node::equal(10);
    let (first, second) = (node.unverified(Notar(block(1, 1)), 1), node.unverified(Skip(Slot(1)), 1));
    assert_eq!(node.consensus.admit(&first), Admission::Check);
    assert_eq!(node.consensus.admit(&first), Admission::Redundant, "a validator enters a batch once");
    assert_eq!(node.consensus.admit(&second), Admission::Conflict);
    node.consensus.votes(node.now, VerifiedVotes::assume_checked(vec![second]));
    assert_eq!(node.events(), [], "no evidence before both are checked");
    node.consensus.votes(node.now, VerifiedVotes::assume_checked(vec![first]));
    node.consensus.votes(node.now, VerifiedVotes::assume_checked(vec![second]));
    let expected = Evidence {
        validator: ValidatorIndex(1),
        stored: Notar(block(1, 1)),
        conflicting: Skip(Slot(1)),
        signature: second.signature,
    };
    assert_eq!(node.events(), [ConsensusEvent::Evidence(expected)]);
    assert_eq!(node.consensus.admit(&second), Admission::ConflictAgain);
}

#[test]
fn a_validator_whose_two_votes_are_checked_in_the_other_order_counts_once() {
    let orders = [
        (NotarFallback(block(1, 1)), Notar(block(1, 1)), [NotarFallback(block(1, 1)), Notar(block(1, 1))]),
        (SkipFallback(Slot(1)), Skip(Slot(1)), [SkipFallback(Slot(1)), Skip(Slot(1))]),
    ];
    for (fallback, first, in_both_orders) in orders {
        for checked_first in in_both_orders {
            let mut node = Node::equal(10);
            let votes = [node.unverified(fallback, 1), node.unverified(first, 1)];
            for vote in &votes {
                assert_eq!(node.consensus.admit(vote), Admission::Check);
            }
            for vote in votes.iter().filter(|vote| vote.payload == checked_first) {
                node.consensus.votes(node.now, VerifiedVotes::assume_checked(vec![*vote]));
            }
            for vote in votes.iter().filter(|vote| vote.payload != checked_first) {
                node.consensus.votes(node.now, VerifiedVotes::assume_checked(vec![*vote]));
            }
            node.vote(first, 2..=3).vote(fallback, 4..=5);
            assert_eq!(node.events(), [], "five of ten");
            node.vote(fallback, [6]);
            assert!(matches!(&node.events()[..], [ConsensusEvent::Certificate(_), ..]), "six of ten");
        }
    }
}

#[test]
fn there_is_no_final_vote_after_a_fallback_vote() {
    let mut node = Node::equal(10);
    node.hold(block(1, 1), BlockId::GENESIS).vote(Skip(Slot(1)), 1..=4).cast();
    node.certificate(Statement::Notarization(block(1, 1)));
    assert_eq!(node.cast(), []);
}

#[test]
fn a_vote_found_wrong_gives_its_place_back() {
    let mut node = Node::equal(10);
    for name in 0..=255 {
        let wrong = node.unverified(Notar(block(1, name)), 1);
        assert_eq!(node.consensus.admit(&wrong), Admission::Check);
        node.consensus.vote_rejected(&wrong);
    }
    for payload in [NotarFallback(block(1, 1)), SkipFallback(Slot(1)), Final(Slot(1)), Skip(Slot(1))] {
        let wrong = node.unverified(payload, 1);
        assert_eq!(node.consensus.admit(&wrong), Admission::Check);
        node.consensus.vote_rejected(&wrong);
    }
    node.vote(Skip(Slot(1)), [1]);
    let stored = node.unverified(Skip(Slot(1)), 1);
    node.consensus.vote_rejected(&stored);
    assert_eq!(node.consensus.admit(&stored), Admission::Redundant, "what is stored stays");
}

#[test]
fn a_batch_with_a_misfit_is_never_used_in_part() {
    let mut node = Node::equal(10);
    node.vote(Skip(Slot(1)), [1]);
    let batch: Vec<_> = (1..=6).map(|signer| node.unverified(Notar(block(1, 1)), signer)).collect();
    node.consensus.votes(node.now, VerifiedVotes::assume_checked(batch.clone()));
    assert_eq!(node.events(), [ConsensusEvent::Recheck(batch[1..].to_vec())]);
    node.hold(block(1, 1), BlockId::GENESIS).cast();
    node.consensus.votes(node.now, VerifiedVotes::assume_checked(batch[1..].to_vec()));
    let certificates: Vec<_> =
        node.events().into_iter().filter(|event| matches!(event, ConsensusEvent::Certificate(_))).collect();
    assert_eq!(certificates.len(), 1, "looked at once, when all of the batch is stored");
}

#[test]
fn an_equivocating_leader_gets_no_notarization_vote_but_fallback_and_final_votes() {
    let mut node = Node::equal(10);
    node.consensus.equivocation(Slot(1));
    node.hold(block(1, 1), BlockId::GENESIS);
    assert_eq!(node.cast(), []);
    node.advance_to(milliseconds(1_600)).cast();
    node.vote(Notar(block(1, 1)), 1..=4);
    assert_eq!(node.cast(), [NotarFallback(block(1, 1))]);
    let mut voted = Node::equal(10);
    voted.hold(block(1, 1), BlockId::GENESIS);
    voted.consensus.equivocation(Slot(1));
    voted.vote(Notar(block(1, 1)), 1..=5);
    assert_eq!(voted.cast(), [Notar(block(1, 1)), Final(Slot(1))]);
}

#[test]
fn a_dead_block_is_neither_asked_for_nor_voted_for() {
    let mut node = Node::equal(10);
    node.consensus.block_dead(block(1, 1));
    node.hold(block(1, 1), BlockId::GENESIS);
    node.vote(Notar(block(1, 1)), 1..=6);
    let events = node.events();
    assert!(!events.iter().any(|event| matches!(event, ConsensusEvent::Vote(_) | ConsensusEvent::RepairNeeded(_))));
}

#[test]
fn a_standstill_at_genesis_has_nothing_finalized_to_say_and_own_votes_to_repeat() {
    let mut node = Node::equal(10);
    assert_eq!(node.consensus.finalization_messages(), []);
    assert_eq!(node.consensus.next_open_slot(Slot(0)), None);
    node.advance_to(milliseconds(1_600)).certificate(Statement::Skip(Slot(2)));
    let slots: Vec<u64> =
        std::iter::successors(node.consensus.next_open_slot(Slot(0)), |slot| node.consensus.next_open_slot(*slot))
            .map(|slot| slot.0)
            .collect();
    assert_eq!(slots, [1, 2, 3]);
    let messages = node.consensus.messages_of(Slot(2));
    assert!(matches!(&messages[..], [Message::Certificate(_), Message::Vote(vote)] if vote.payload == Skip(Slot(2))));
}

#[test]
fn the_horizon_follows_finalization_and_readiness() {
    let mut node = Node::equal(10);
    let at = |closed, votes, shreds| Horizon {
        closed_through: Slot(closed),
        votes_through: Slot(votes),
        shreds_through: Slot(shreds),
    };
    assert_eq!(node.consensus.horizon(), at(0, 41, 11));
    node.certificate(Statement::Notarization(block(3, 3)));
    assert_eq!(node.events().last(), Some(&ConsensusEvent::Horizon(at(0, 44, 15))));
    node.certificate(Statement::Fast(block(9, 9)));
    assert_eq!(node.events().last(), Some(&ConsensusEvent::Horizon(at(9, 49, 19))), "slots 10 and 11 are in play");
}
