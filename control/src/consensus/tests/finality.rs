//! What becomes final, in which order, and what that closes.

use super::*;
use crate::certificate::CertificateKind;

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
