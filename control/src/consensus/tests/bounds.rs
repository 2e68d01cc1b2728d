//! What is kept of slots that lie ahead.

use super::*;

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
