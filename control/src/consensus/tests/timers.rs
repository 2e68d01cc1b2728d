//! When a window is given up, and when the timers of one that follows begin.

use super::*;

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
