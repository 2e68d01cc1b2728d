//! Situations in which other implementations failed, each a test named after what went wrong there.

mod restoring;

use alpenglow_rotor::epochs::Epochs;
use alpenglow_rotor::schedule::EpochSeed;
use alpenglow_rotor::types::{Hash, Stake};

use super::*;
use crate::bls::tests::keys_that_cancel_out;
use crate::bls::{HashedPayload, ProofOfPossession, PublicKeyBytes};
use crate::certificate::{CertificateError, CertificateKind, Signers, Statement};
use crate::checker::{CheckJob, CheckVerdict, Checker};
use crate::voting_keys::VotingKeys;

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
fn defect_6_a_finalization_by_certificate_only_readies_the_next_window_and_runs_its_timers() {
    let mut node = Node::equal(10);
    node.advance_to(milliseconds(1_000)).certificate(Statement::Fast(block(7, 7)));
    assert_eq!(node.consensus.parents_ready(Slot(8)), [block(7, 7)]);
    assert_eq!(node.consensus.next_timeout(), Some(milliseconds(1_000 + 1_600)));
    node.hold(block(8, 8), block(7, 7));
    assert_eq!(node.cast(), [Notar(block(8, 8))]);
}

#[test]
fn defect_6_a_finalization_inside_a_window_runs_the_timers_of_its_rest() {
    let mut node = Node::equal(10);
    node.advance_to(milliseconds(1_000)).certificate(Statement::Fast(block(9, 9)));
    assert_eq!(node.consensus.parents_ready(Slot(8)), []);
    assert_eq!(node.consensus.next_timeout(), Some(milliseconds(1_000 + 1_600)));
    node.hold(block(11, 11), block(10, 10)).hold(block(10, 10), block(9, 9));
    assert_eq!(
        node.cast(),
        [Notar(block(10, 10)), Notar(block(11, 11))],
        "the finalized parent stands in for the own vote"
    );
    let mut late = Node::equal(10);
    late.certificate(Statement::Fast(block(9, 9))).cast();
    late.advance_to(milliseconds(1_600));
    assert_eq!(late.cast(), [Skip(Slot(10)), Skip(Slot(11))], "closed slots are not voted in");
}

/// With the crashed-leader timer, 10 ms for the first shred.
fn impatient() -> Node {
    let mut node = Node::equal(10);
    let config = Node::config(&node.stakes);
    node.consensus =
        Consensus::new(ConsensusConfig { crashed_leader: Some(Duration::from_millis(10)), ..config }, Time(0));
    node
}

#[test]
fn defect_9_a_leader_without_a_shred_loses_its_window_after_an_allowance_for_the_first_slice() {
    let mut node = impatient();
    assert_eq!(node.consensus.next_timeout(), Some(milliseconds(1_210)));
    assert_eq!(node.advance_to(milliseconds(1_209)).cast(), []);
    assert_eq!(node.advance_to(milliseconds(1_210)).cast(), [1, 2, 3].map(|slot| Skip(Slot(slot))));
    for slot in 1..=3 {
        node.certificate(Statement::Skip(Slot(slot)));
    }
    assert_eq!(node.advance_to(milliseconds(2_419)).cast(), []);
    assert_eq!(
        node.advance_to(milliseconds(2_420)).cast(),
        [4, 5, 6, 7].map(|slot| Skip(Slot(slot))),
        "in each window"
    );
}

#[test]
fn a_leader_that_was_heard_of_keeps_its_time() {
    let mut node = impatient();
    node.consensus.leader_seen(Slot(2));
    assert_eq!(node.advance_to(milliseconds(1_000)).cast(), []);
    node.consensus.leader_seen(Slot(1));
    assert_eq!(node.advance_to(milliseconds(1_599)).cast(), []);
    assert_eq!(node.advance_to(milliseconds(1_600)).cast(), [1, 2, 3].map(|slot| Skip(Slot(slot))));
}

#[test]
fn a_leader_heard_of_before_its_window_was_ready_keeps_its_time() {
    let mut node = impatient();
    node.consensus.leader_seen(Slot(4));
    node.advance_to(milliseconds(100)).certificate(Statement::Fast(block(3, 3))).cast();
    assert_eq!(node.advance_to(milliseconds(1_699)).cast(), []);
    assert_eq!(node.advance_to(milliseconds(1_700)).cast().len(), 4);
}

#[test]
fn a_window_that_was_voted_in_is_not_skipped_by_the_crashed_leader_timer() {
    let mut node = impatient();
    node.hold(block(1, 1), BlockId::GENESIS);
    assert_eq!(node.cast(), [Notar(block(1, 1))]);
    assert_eq!(node.advance_to(milliseconds(1_210)).cast(), []);
}

#[test]
fn no_timer_is_set_for_a_slot_that_closes_while_a_lower_finalization_waits_to_be_handled() {
    let mut node = Node::equal(5);
    node.hold(block(1, 1), BlockId::GENESIS).hold(block(2, 2), block(1, 1)).hold(block(4, 4), block(2, 2));
    node.certificate(Statement::Skip(Slot(3))).vote(Final(Slot(2)), 1..=2).vote(Notar(block(4, 4)), 1..=3);
    // One certificate: the own final vote finalizes slot 2, and the own vote for its child slot 4.
    node.advance_to(milliseconds(1_000)).certificate(Statement::Notarization(block(2, 2)));
    assert_eq!(node.consensus.highest_finalized(), block(4, 4));
    assert_eq!(node.consensus.next_timeout(), Some(milliseconds(1_000 + 1_200 + 800)), "of slot 5");
}

#[test]
fn defect_9_a_window_that_began_in_a_standstill_does_not_keep_its_long_timeout_after_it() {
    let mut node = Node::equal(10);
    node.advance_to(milliseconds(9_999));
    for slot in 1..=3 {
        node.certificate(Statement::Skip(Slot(slot)));
    }
    assert_eq!(node.consensus.next_timeout(), Some(milliseconds(9_999 + 1_600)), "10 s are not over");
    node.advance_to(milliseconds(20_000));
    for slot in 4..=7 {
        node.certificate(Statement::Skip(Slot(slot)));
    }
    assert_eq!(node.consensus.next_timeout(), Some(milliseconds(20_000 + 1_260 + 400)));
    node.advance_to(milliseconds(30_000));
    for slot in 8..=159 {
        node.certificate(Statement::Skip(Slot(slot)));
    }
    node.advance_to(milliseconds(31_000)).certificate(Statement::Fast(block(160, 1)));
    assert_eq!(node.consensus.next_timeout(), Some(milliseconds(31_000 + 1_200 + 400)), "of slot 161, not 8 s later");
    node.hold(block(161, 1), block(160, 1));
    assert_eq!(node.cast().last(), Some(&Notar(block(161, 1))));
}

#[test]
fn defect_7_another_block_of_a_notarized_slot_may_be_finalized_as_an_ancestor() {
    let mut node = Node::equal(10);
    node.certificate(Statement::Notarization(block(1, 1))).certificate(Statement::NotarFallback(block(1, 2)));
    node.hold(block(1, 2), BlockId::GENESIS).hold(block(2, 3), block(1, 2));
    node.certificate(Statement::Fast(block(2, 3)));
    let events = node.events();
    assert!(!events.iter().any(|event| matches!(event, ConsensusEvent::Contradiction { .. })), "{events:?}");
    let ancestor = ConsensusEvent::Finalized { block: block(1, 2), how: Finalization::Ancestor };
    assert!(events.contains(&ancestor), "{events:?}");
    assert_eq!(node.consensus.highest_chained(), block(2, 3));
}

#[test]
fn defect_7_ancestors_are_finalized_though_later_certificates_came_in_between() {
    let mut node = Node::equal(10);
    node.certificate(Statement::Fast(block(2, 2))).certificate(Statement::Fast(block(6, 6)));
    assert_eq!(node.finalized(), [block(2, 2), block(6, 6)]);
    node.hold(block(6, 6), block(5, 5)).hold(block(4, 4), block(2, 2)).hold(block(2, 2), block(1, 1));
    assert_eq!(node.finalized(), [block(5, 5), block(1, 1)]);
    assert_eq!(node.consensus.highest_chained(), BlockId::GENESIS);
    node.hold(block(5, 5), block(4, 4)).hold(block(1, 1), BlockId::GENESIS);
    let events = node.events();
    let chained: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            ConsensusEvent::Chained { block, parent } => Some((*block, *parent)),
            _ => None,
        })
        .collect();
    let chain = [BlockId::GENESIS, block(1, 1), block(2, 2), block(4, 4), block(5, 5), block(6, 6)];
    assert_eq!(chained, chain.windows(2).map(|pair| (pair[1], pair[0])).collect::<Vec<_>>());
    assert!(events.contains(&ConsensusEvent::SkippedForGood { first: Slot(3), last: Slot(3) }));
}

#[test]
fn a_block_that_bypasses_a_final_one_is_reported() {
    let mut node = Node::equal(10);
    node.certificate(Statement::Fast(block(3, 3))).certificate(Statement::Fast(block(4, 4))).events();
    node.hold(block(4, 4), block(2, 2));
    let reported = ConsensusEvent::Contradiction { block: block(2, 2), other: block(3, 3) };
    assert_eq!(node.events(), [reported]);
}

#[test]
fn a_final_block_that_never_comes_is_waited_for_while_a_thousand_follow() {
    let mut node = Node::equal(10);
    let fast = |node: &mut Node, slot: u64| {
        node.certificate(Statement::Fast(block(slot, 1)));
        node.events()
    };
    // Slot 1 never comes. All others are held in time.
    fast(&mut node, 1);
    for slot in 2..=1_024 {
        node.hold(block(slot, 1), block(slot - 1, 1));
        fast(&mut node, slot);
    }
    assert_eq!(node.consensus.highest_chained(), BlockId::GENESIS);
    node.hold(block(1_025, 1), block(1_024, 1));
    let events = fast(&mut node, 1_025);
    assert_eq!(node.consensus.highest_chained(), block(1_025, 1));
    let chained = events.iter().filter(|event| matches!(event, ConsensusEvent::Chained { .. }));
    assert_eq!(chained.count(), 1_024, "all but the first");
    node.hold(block(1_026, 1), block(1_025, 1));
    let next = ConsensusEvent::Chained { block: block(1_026, 1), parent: block(1_025, 1) };
    assert!(fast(&mut node, 1_026).contains(&next));
}

#[test]
fn defect_7_a_finalization_certificate_without_a_notarization_decides_nothing() {
    let mut node = Node::equal(10);
    node.certificate(Statement::Finalization(Slot(2))).certificate(Statement::NotarFallback(block(2, 2)));
    assert_eq!(node.finalized(), []);
    assert_eq!(node.consensus.highest_finalized(), BlockId::GENESIS);
    node.certificate(Statement::Notarization(block(2, 2)));
    assert_eq!(node.finalized(), [block(2, 2)]);
    let kinds: Vec<CertificateKind> = node
        .consensus
        .finalization_messages()
        .iter()
        .map(|message| match message {
            Message::Certificate(certificate) => certificate.statement.kind(),
            Message::Vote(_) => panic!("not a certificate"),
        })
        .collect();
    assert_eq!(kinds, [CertificateKind::Finalization, CertificateKind::Notarization]);
}

#[test]
fn defect_7_one_certificate_makes_several_windows_ready() {
    let mut node = Node::equal(10);
    for slot in 8..=11 {
        node.certificate(Statement::Skip(Slot(slot)));
    }
    node.events();
    node.certificate(Statement::Fast(block(7, 7)));
    let ready: Vec<_> = node
        .events()
        .into_iter()
        .filter_map(|event| match event {
            ConsensusEvent::ParentReady { slot, parent } => Some((slot, parent)),
            _ => None,
        })
        .collect();
    assert_eq!(ready, [(Slot(8), block(7, 7)), (Slot(12), block(7, 7))]);
    assert_eq!(node.consensus.highest_parent_ready(), Slot(12));
}

#[test]
fn defect_7_safe_to_skip_after_the_final_vote_still_skips_the_rest_of_the_window() {
    let mut node = Node::equal(10);
    node.hold(block(1, 1), BlockId::GENESIS).certificate(Statement::Notarization(block(1, 1)));
    assert_eq!(node.cast(), [Notar(block(1, 1)), Final(Slot(1))]);
    node.vote(Skip(Slot(1)), 1..=4);
    assert_eq!(node.cast(), [Skip(Slot(2)), Skip(Slot(3))], "and no fallback vote after the final one");
}

#[test]
fn defect_7_skip_votes_go_before_the_fallback_vote_that_the_same_event_causes() {
    let mut node = Node::equal(10);
    node.hold(block(1, 1), BlockId::GENESIS).cast();
    node.hold(block(1, 2), BlockId::GENESIS).vote(Notar(block(1, 2)), 1..=4);
    assert_eq!(node.cast(), [Skip(Slot(2)), Skip(Slot(3)), NotarFallback(block(1, 2))]);
}

#[test]
fn defect_7_nothing_is_safe_to_notarize_in_a_decided_slot() {
    let mut node = Node::equal(10);
    node.hold(block(1, 1), BlockId::GENESIS).hold(block(1, 2), BlockId::GENESIS);
    node.certificate(Statement::Fast(block(1, 1))).cast();
    node.vote(Notar(block(1, 2)), 1..=4);
    assert_eq!(node.events(), []);
}

#[test]
fn defect_10_votes_far_ahead_are_refused() {
    let mut node = Node::equal(10);
    let admission = |node: &mut Node, slot| {
        let vote = node.unverified(Notar(block(slot, 1)), 1);
        node.consensus.admit(&vote)
    };
    assert_eq!(admission(&mut node, 41), Admission::Check);
    assert_eq!(admission(&mut node, 42), Admission::Ahead);
    assert_eq!(admission(&mut node, 36_000), Admission::Ahead);
    node.certificate(Statement::Fast(block(10, 1)));
    assert_eq!(admission(&mut node, 50), Admission::Check);
    assert_eq!(admission(&mut node, 52), Admission::Ahead, "slot 10 does not end its window");
    assert_eq!(admission(&mut node, 10), Admission::Closed);
}

#[test]
fn votes_are_kept_of_the_highest_slots_only_when_a_certificate_opens_a_long_row() {
    let mut node = Node::equal(2_000);
    node.certificate(Statement::Notarization(block(1_000_003, 1)));
    let through = node.consensus.horizon().votes_through.0;
    assert_eq!(through, 1_000_044);
    let admission = |node: &mut Node, slot| {
        let vote = node.unverified(Skip(Slot(slot)), 1);
        node.consensus.admit(&vote)
    };
    let first = through - 48;
    for slot in first..=through {
        assert_eq!(admission(&mut node, slot), Admission::Check);
    }
    assert_eq!(admission(&mut node, 5), Admission::Closed, "too far behind");
    assert_eq!(admission(&mut node, first), Admission::Closed, "its places were given to the highest slot");
    assert_eq!(admission(&mut node, first + 1), Admission::Redundant);
}

#[test]
fn certificates_far_ahead_are_bounded() {
    let mut node = Node::equal(10);
    let wants = |node: &Node, statement| {
        let certificate = node.unchecked_certificate(statement, &[0, 1, 2, 3, 4, 5, 6, 7]);
        node.consensus.wants(&certificate)
    };
    assert!(wants(&node, Statement::Skip(Slot(41 + 1_024))) && !wants(&node, Statement::Skip(Slot(42 + 1_024))));
    for slot in 1..=8 {
        node.certificate(Statement::Finalization(Slot(1_000_000 * slot)));
    }
    assert!(!wants(&node, Statement::Finalization(Slot(999_999))), "there are eight higher ones");
    assert!(wants(&node, Statement::Notarization(block(1_000_000, 1))), "the other half of one that is kept");
    assert!(wants(&node, Statement::Finalization(Slot(41))), "within the horizon");
    node.certificate(Statement::Notarization(block(9_000_000, 1)));
    assert!(!wants(&node, Statement::Notarization(block(1_000_000, 1))), "the lowest gave way");
    assert_eq!(node.consensus.next_open_slot(Slot(0)), Some(Slot(2_000_000)));
    node.certificate(Statement::Finalization(Slot(9_000_000)));
    assert_eq!(node.consensus.highest_finalized(), block(9_000_000, 1), "a node that joins meets both halves");
}

#[test]
fn defect_11_certificates_that_are_implied_are_not_wanted() {
    let mut node = Node::equal(10);
    let wants = |node: &Node, statement| {
        let certificate = node.unchecked_certificate(statement, &[0, 1, 2, 3, 4, 5, 6, 7]);
        node.consensus.wants(&certificate)
    };
    let named = block(5, 1);
    assert!(wants(&node, Statement::NotarFallback(named)));
    node.certificate(Statement::NotarFallback(named));
    assert!(!wants(&node, Statement::NotarFallback(named)) && wants(&node, Statement::Notarization(named)));
    node.certificate(Statement::Notarization(named));
    assert!(!wants(&node, Statement::Notarization(named)) && wants(&node, Statement::Fast(named)));
    assert!(!wants(&node, Statement::NotarFallback(named)) && wants(&node, Statement::NotarFallback(block(5, 2))));
    node.certificate(Statement::Fast(named));
    for statement in [Statement::Fast(named), Statement::Skip(Slot(5)), Statement::Finalization(Slot(4))] {
        assert!(!wants(&node, statement), "{statement:?}");
    }
}

#[test]
fn a_certificate_below_its_quorum_is_not_wanted_and_not_stored() {
    let mut node = Node::equal(10);
    let certificate = node.unchecked_certificate(Statement::Skip(Slot(1)), &[1, 2, 3, 4, 5]);
    assert!(!node.consensus.wants(&certificate));
    node.consensus.certificate(node.now, VerifiedCertificate::assume_checked(certificate.0));
    assert_eq!(node.events(), []);
}

/// Five validators in epochs of 8 slots: from slot 8 on, validator 4 is a member, and validators 0 and 1 are none.
fn changing_members() -> Node {
    let stakes = |stakes: [u64; 5]| stakes.map(Stake).to_vec();
    let epochs = Epochs::new(8, stakes([1, 1, 1, 1, 0]), vec![(1, stakes([0, 0, 2, 3, 5]))], EpochSeed([1; 32]));
    Node::with_stakes(Stakes::of_epochs(Arc::new(epochs.unwrap())))
}

#[test]
fn votes_of_who_is_no_member_in_their_slot_are_refused() {
    let mut node = changing_members();
    let mut admission = |slot, signer| {
        let vote = node.unverified(Skip(Slot(slot)), signer);
        node.consensus.admit(&vote)
    };
    assert_eq!((admission(7, 1), admission(7, 4)), (Admission::Check, Admission::NotMember));
    assert_eq!((admission(8, 1), admission(8, 4)), (Admission::NotMember, Admission::Check));
    assert_eq!(admission(8, 5), Admission::Signer);
}

#[test]
fn certificates_count_the_stakes_of_their_own_slot_and_name_members_only() {
    let node = changing_members();
    let outcome = |slot, signers: &[u16]| {
        let certificate = node.unchecked_certificate(Statement::Skip(Slot(slot)), signers);
        assert_eq!(node.consensus.wants(&certificate), certificate.0.check_quorum(&node.stakes).is_ok());
        certificate.0.check_quorum(&node.stakes)
    };
    assert_eq!(outcome(7, &[1, 2, 3]), Ok(()));
    assert_eq!(outcome(7, &[1, 2, 3, 4]), Err(CertificateError::NotMember(4)));
    assert_eq!(outcome(8, &[2, 3]), Err(CertificateError::Stake { signed: 5, total: 10 }));
    assert_eq!(outcome(8, &[3, 4]), Ok(()));
    assert_eq!(outcome(8, &[1, 3, 4]), Err(CertificateError::NotMember(1)));
}

#[test]
fn a_node_keeps_silent_in_epochs_that_it_is_no_member_of() {
    let mut node = changing_members();
    node.hold(block(1, 1), BlockId::GENESIS);
    assert_eq!(node.cast(), [Notar(block(1, 1))]);
    // The last block before the boundary becomes final, and the first one after it follows.
    node.consensus.certificate(
        node.now,
        VerifiedCertificate::assume_checked(node.unchecked_certificate(Statement::Fast(block(7, 1)), &[0, 1, 2, 3]).0),
    );
    node.hold(block(8, 1), block(7, 1));
    assert_eq!(node.cast(), []);
    node.vote(Notar(block(8, 1)), [2, 4]);
    assert_eq!((node.finalized(), node.consensus.has_voted(Slot(8))), (vec![], false));
    node.vote(Notar(block(8, 1)), [3]);
    assert_eq!(node.finalized(), [block(8, 1)], "by the stakes of the new epoch");
    node.consensus.advance(milliseconds(60_000));
    assert_eq!(node.cast(), [], "no timeout makes it vote either");
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

/// A set of validators with real keys, whose votes are really signed and checked.
struct Signing {
    checker: Checker,
    node: Node,
    keys: Vec<SecretKey>,
}

impl Signing {
    fn new(stakes: &[u64]) -> Self {
        Self::with_keys(stakes, (0..stakes.len() as u16).map(key).collect())
    }

    fn with_keys(stakes: &[u64], keys: Vec<SecretKey>) -> Self {
        let entries: Vec<(PublicKeyBytes, ProofOfPossession)> =
            keys.iter().map(|key| (key.public_key().to_bytes(), key.prove_possession())).collect();
        let public_keys = Arc::new(VotingKeys::new(&entries).unwrap());
        let node = Node::new(stakes);
        Self { checker: Checker::new(CLUSTER, public_keys, Arc::clone(&node.stakes)), node, keys }
    }

    /// A batch of really signed votes, admitted, checked as a whole and stored.
    fn vote(&mut self, payload: VotePayload, signers: &[u16]) {
        let hashed = payload.hashed(CLUSTER);
        let votes = signers.iter().map(|signer| UnverifiedVote {
            payload,
            signer: ValidatorIndex(*signer),
            signature: self.keys[usize::from(*signer)].sign(&hashed).to_bytes(),
        });
        let consensus = &mut self.node.consensus;
        let admitted: Vec<_> = votes.filter(|vote| consensus.admit(vote) == Admission::Check).collect();
        if admitted.is_empty() {
            return;
        }
        let CheckVerdict::Votes { verified, rejected } = self.checker.check(CheckJob::votes(admitted)) else {
            panic!("votes were asked for")
        };
        assert_eq!(rejected, []);
        for batch in verified {
            self.node.consensus.votes(self.node.now, batch);
        }
    }

    /// The certificates made since the last look, as another node finds them.
    fn made(&mut self) -> Vec<(CertificateKind, Result<(), CertificateError>)> {
        let events = self.node.events();
        let certificates = events.into_iter().filter_map(|event| match event {
            ConsensusEvent::Certificate(certificate) => Some(certificate),
            _ => None,
        });
        let mut made = Vec::new();
        for certificate in certificates {
            let body = crate::message::encode_certificate(&certificate);
            let received = crate::message::decode_certificate(&body, self.node.stakes.len()).unwrap();
            let job = CheckJob::certificate(received, ValidatorIndex(0));
            let verdict = match self.checker.check(job) {
                CheckVerdict::Certificate { .. } => Ok(()),
                CheckVerdict::CertificateRejected { reason, .. } => Err(reason),
                CheckVerdict::Votes { .. } => panic!("a certificate was asked for"),
            };
            made.push((certificate.statement.kind(), verdict));
        }
        made
    }
}

#[test]
fn defect_1_every_certificate_holds_the_vote_that_decided_and_is_accepted_by_others() {
    let mut set = Signing::new(&[1; 10]);
    // The vote that crosses the threshold comes alone, in a batch, and from the node itself.
    set.vote(Notar(block(1, 1)), &[1, 2, 3, 4, 5]);
    assert_eq!(set.made(), []);
    set.node.hold(block(1, 1), BlockId::GENESIS);
    assert_eq!(set.made(), [(CertificateKind::Notarization, Ok(()))]);
    set.vote(Final(Slot(1)), &[1, 2]);
    set.vote(Final(Slot(1)), &[3, 4, 5, 6]);
    assert_eq!(set.made(), [(CertificateKind::Finalization, Ok(()))]);

    // Both bitmaps; validator 3 is in both, its fallback vote first.
    set.vote(NotarFallback(block(2, 2)), &[3, 4, 5]);
    set.vote(Notar(block(2, 2)), &[1, 2, 3]);
    assert_eq!(set.made(), []);
    set.vote(NotarFallback(block(2, 2)), &[6]);
    assert_eq!(set.made(), [(CertificateKind::NotarFallback, Ok(()))]);
    set.vote(Notar(block(2, 2)), &[4, 5, 7]);
    assert_eq!(set.made(), [(CertificateKind::Notarization, Ok(()))]);
    set.vote(Notar(block(2, 2)), &[8, 9]);
    assert_eq!(set.made(), [(CertificateKind::Fast, Ok(()))]);

    set.vote(SkipFallback(Slot(3)), &[1, 2, 3]);
    set.vote(Skip(Slot(3)), &[3, 4]);
    set.node.advance_to(milliseconds(60_000));
    assert_eq!(set.made(), []);
    set.vote(Skip(Slot(3)), &[5]);
    assert_eq!(set.made(), [(CertificateKind::Skip, Ok(()))]);
}

#[test]
fn only_one_of_the_two_finalization_certificates_goes_out_and_once() {
    let mut slow = Signing::new(&[1; 10]);
    slow.vote(Notar(block(1, 1)), &[1, 2, 3, 4, 5, 6]);
    slow.vote(Final(Slot(1)), &[1, 2, 3, 4, 5, 6]);
    slow.vote(Notar(block(1, 1)), &[7, 8, 9]);
    assert_eq!(slow.made(), [(CertificateKind::Notarization, Ok(())), (CertificateKind::Finalization, Ok(()))]);
    let mut fast = Signing::new(&[1; 10]);
    fast.vote(Notar(block(1, 1)), &[1, 2, 3, 4, 5]);
    fast.vote(Final(Slot(1)), &[1, 2, 3, 4, 5]);
    fast.vote(Notar(block(1, 1)), &[6, 7, 8]);
    fast.vote(Final(Slot(1)), &[6, 7]);
    fast.node.certificate(Statement::Fast(block(1, 1))).certificate(Statement::Finalization(Slot(1)));
    assert_eq!(fast.made(), [(CertificateKind::Fast, Ok(()))], "one batch crosses both thresholds");
}

#[test]
fn defect_2_a_certificate_of_one_heavy_vote_is_accepted_by_others() {
    let mut set = Signing::new(&[10, 60, 30]);
    set.vote(Notar(block(1, 1)), &[1]);
    set.vote(Notar(block(1, 1)), &[2]);
    assert_eq!(set.made(), [(CertificateKind::Notarization, Ok(())), (CertificateKind::Fast, Ok(()))]);
}

#[test]
fn defect_23_a_certificate_with_a_batch_of_cancelling_errors_is_accepted_by_others() {
    let mut set = Signing::new(&[1; 10]);
    let payload = Notar(block(1, 1));
    let hashed = payload.hashed(CLUSTER);
    let swapped = [(1, 2), (2, 1)].map(|(signer, signed_by)| UnverifiedVote {
        payload,
        signer: ValidatorIndex(signer),
        signature: key(signed_by).sign(&hashed).to_bytes(),
    });
    for vote in &swapped {
        assert_eq!(set.node.consensus.admit(vote), Admission::Check);
    }
    let CheckVerdict::Votes { verified, .. } = set.checker.check(CheckJob::votes(swapped.to_vec())) else {
        panic!("votes were asked for")
    };
    assert_eq!(verified.len(), 1, "wrong each by itself, right in sum");
    for batch in verified {
        set.node.consensus.votes(set.node.now, batch);
    }
    set.vote(payload, &[3, 4, 5, 6]);
    set.vote(payload, &[7, 8]);
    assert_eq!(set.made(), [(CertificateKind::Notarization, Ok(())), (CertificateKind::Fast, Ok(()))]);
}

#[test]
fn defect_24_fallback_votes_whose_keys_cancel_out_spoil_no_certificate() {
    let mut set = Signing::with_keys(&[1; 10], (0..7).map(key).chain(keys_that_cancel_out()).collect());

    set.vote(SkipFallback(Slot(1)), &[7, 8, 9]);
    set.vote(Skip(Slot(1)), &[1, 2, 3]);
    assert_eq!(set.made(), [], "nobody would accept it");
    set.vote(Skip(Slot(1)), &[4, 5, 6]);
    assert_eq!(set.made(), [(CertificateKind::Skip, Ok(()))]);

    set.vote(NotarFallback(block(2, 2)), &[7, 8, 9]);
    set.vote(Notar(block(2, 2)), &[1, 2, 3]);
    assert_eq!(set.made(), []);
    set.vote(NotarFallback(block(2, 2)), &[4]);
    assert_eq!(set.made(), [(CertificateKind::NotarFallback, Ok(()))], "with one more key they do not cancel out");
}
