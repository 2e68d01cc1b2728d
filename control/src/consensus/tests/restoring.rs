//! What a node may say after a restart.

use super::*;
use crate::vote_record::{Durable, Entry, Found, FoundLog, Host};

const HERE: Host = Host { machine: [1; 16], boot: [1; 16] };
const REBOOTED: Host = Host { machine: [1; 16], boot: [2; 16] };
const ELSEWHERE: Host = Host { machine: [2; 16], boot: [3; 16] };

const NOWHERE: Bar = Bar::Through(Slot::GENESIS);

/// One of ten nodes that had reserved slots up to `reservation` and starts again.
fn restarted(reservation: u64, log: Vec<Entry>, host: Host) -> Node {
    let mut node = Node::equal(10);
    let reservation = Slot(reservation);
    let durable = Durable { host: Some(HERE), reservation, bar: NOWHERE, clean: false, synced: false };
    let found = Found { durable: Some(durable), log: FoundLog::Whole(log) };
    node.consensus.restore(node.now, &Restoration::of(found, host, false));
    node
}

/// One whose process has crashed after these votes.
fn after(votes: &[VotePayload]) -> Node {
    let mut node = restarted(1_000, votes.iter().copied().map(Entry::Vote).collect(), HERE);
    assert_eq!(node.cast(), [], "what was said is not said as if it were new");
    let own: Vec<_> = node.consensus.own_votes().map(|vote| vote.payload).collect();
    assert_eq!(own, votes, "and can be repeated");
    node
}

fn finalized(node: &Node, slot: u64) -> Entry {
    let everyone: Vec<u16> = (0..10).collect();
    Entry::Finalized(vec![Arc::new(node.unchecked_certificate(Statement::Fast(block(slot, 1)), &everyone).0)])
}

#[test]
fn a_notarization_vote_of_before_is_the_only_one_of_its_slot_and_its_child_gets_the_next() {
    let mut node = after(&[Notar(block(1, 1))]);
    node.hold(block(1, 2), BlockId::GENESIS);
    assert_eq!(node.cast(), []);
    node.hold(block(2, 2), block(1, 2)).hold(block(1, 1), BlockId::GENESIS);
    assert_eq!(node.cast(), [], "the child of a block that was not voted for");
    node.certificate(Statement::Notarization(block(1, 1)));
    assert_eq!(node.cast(), [Final(Slot(1))]);
    let mut child = after(&[Notar(block(1, 1))]);
    child.hold(block(2, 1), block(1, 1));
    assert_eq!(child.cast(), [Notar(block(2, 1))]);
    assert_eq!(child.advance_to(milliseconds(60_000)).cast(), [Skip(Slot(3))], "of the slots without a vote");
}

#[test]
fn a_skip_vote_of_before_excludes_notarization_and_final_votes() {
    let mut node = after(&[Skip(Slot(1))]);
    node.hold(block(1, 1), BlockId::GENESIS).certificate(Statement::Notarization(block(1, 1)));
    assert_eq!(node.cast(), []);
    node.hold(block(2, 2), block(1, 1));
    assert_eq!(node.cast(), [], "nor is its block one that was voted for");
}

#[test]
fn a_fallback_vote_of_before_excludes_the_final_vote() {
    for fallback in [NotarFallback(block(1, 2)), SkipFallback(Slot(1))] {
        let mut node = after(&[Notar(block(1, 1)), fallback]);
        node.hold(block(1, 1), BlockId::GENESIS).certificate(Statement::Notarization(block(1, 1)));
        assert_eq!(node.cast(), [], "{fallback:?}");
    }
}

#[test]
fn defect_4_no_fourth_notar_fallback_vote_is_cast_whatever_others_vote_after_a_restart() {
    let [one, two, three] = [1, 2, 3].map(|name| NotarFallback(block(1, name)));
    let mut node = after(&[Skip(Slot(1)), one, two, three, Skip(Slot(2)), Skip(Slot(3))]);
    // Those who lie name another block to the node that has forgotten what they named before.
    node.hold(block(1, 4), BlockId::GENESIS).vote(Notar(block(1, 4)), 1..=4);
    assert!(node.events().contains(&ConsensusEvent::Withheld(NotarFallback(block(1, 4)))));
    node.certificate(Statement::NotarFallback(block(1, 4))).hold(block(2, 1), block(1, 4));
    node.vote(Notar(block(2, 1)), 1..=4);
    assert_eq!(node.cast(), [NotarFallback(block(2, 1))], "it votes on in other slots");
}

#[test]
fn a_final_vote_of_before_excludes_fallback_votes() {
    let mut node = after(&[Notar(block(1, 1)), Final(Slot(1))]);
    node.hold(block(1, 2), BlockId::GENESIS).vote(Notar(block(1, 2)), 1..=4);
    assert_eq!(node.cast(), [Skip(Slot(2)), Skip(Slot(3))], "the rest of the window only");
    let mut once = after(&[Notar(block(1, 1)), Final(Slot(1))]);
    once.certificate(Statement::Notarization(block(1, 1)));
    assert_eq!(once.cast(), []);
}

#[test]
fn defect_28_after_a_power_loss_no_vote_of_any_kind_is_cast_up_to_the_reservation() {
    // What is left of the log is not believed: the vote for slot 1 need not be the last one that left.
    let mut node = restarted(5, vec![Entry::Vote(Notar(block(1, 1)))], REBOOTED);
    assert_eq!(node.consensus.barred_through(), Slot(5));
    node.hold(block(1, 1), BlockId::GENESIS).hold(block(2, 1), block(1, 1));
    node.certificate(Statement::Notarization(block(1, 1))).vote(Notar(block(1, 2)), 1..=4);
    node.hold(block(1, 2), BlockId::GENESIS).vote(Skip(Slot(2)), 1..=6);
    node.advance_to(milliseconds(60_000));
    assert_eq!(node.cast(), []);
    node.certificate(Statement::Fast(block(3, 1))).hold(block(4, 1), block(3, 1)).hold(block(5, 1), block(4, 1));
    node.advance_to(node.now.after(Duration::from_secs(60)));
    assert_eq!(node.cast(), [], "slots 6 and 7 lie above what is reserved");
    node.consensus.reserved(node.now, Slot(20));
    assert_eq!(node.cast(), [Skip(Slot(6)), Skip(Slot(7))]);
    node.certificate(Statement::Fast(block(7, 1))).hold(block(8, 1), block(7, 1));
    assert_eq!(node.cast(), [Notar(block(8, 1))]);
}

#[test]
fn defect_28_who_knows_nothing_of_its_votes_casts_none_up_to_the_horizon_of_the_first_finalization_seen() {
    let restored = finalized(&Node::equal(10), 7);
    let mut node = restarted(20, vec![restored], ELSEWHERE);
    node.consensus.reserved(node.now, Slot(1_000));
    assert_eq!(node.consensus.highest_finalized(), block(7, 1));
    node.hold(block(8, 1), block(7, 1)).advance_to(milliseconds(60_000));
    assert_eq!((node.cast(), node.consensus.take_found_bar()), (vec![], None), "what it had seen before is no news");
    node.certificate(Statement::Fast(block(11, 1)));
    assert_eq!(node.consensus.take_found_bar(), Some(Slot(51)));
    node.certificate(Statement::Fast(block(47, 1))).hold(block(48, 1), block(47, 1));
    node.advance_to(milliseconds(120_000));
    assert_eq!(node.cast(), [], "a later finalization raises nothing, and slot 51 is barred");
    node.certificate(Statement::Fast(block(51, 1))).hold(block(52, 1), block(51, 1));
    assert_eq!(node.cast(), [Notar(block(52, 1))]);
}

#[test]
fn votes_above_the_reservation_wait_in_their_order() {
    let mut node = restarted(1, Vec::new(), HERE);
    node.hold(block(1, 1), BlockId::GENESIS).hold(block(2, 1), block(1, 1));
    assert_eq!(node.cast(), [Notar(block(1, 1))]);
    assert_eq!(node.consensus.highest_voted(), Slot(2), "so that more is reserved");
    node.advance_to(milliseconds(60_000)).certificate(Statement::Notarization(block(2, 1)));
    assert_eq!(node.cast(), []);
    node.consensus.reserved(node.now, Slot(2));
    assert_eq!(node.cast(), [Notar(block(2, 1))], "the final vote for it was cast after the skip vote for slot 3");
    node.consensus.reserved(node.now, Slot(3));
    assert_eq!(node.cast(), [Skip(Slot(3)), Final(Slot(2))]);
}

#[test]
fn votes_that_waited_until_their_slot_was_closed_are_never_cast() {
    let mut node = restarted(1, Vec::new(), HERE);
    node.hold(block(1, 1), BlockId::GENESIS).hold(block(2, 1), block(1, 1));
    assert_eq!(node.cast(), [Notar(block(1, 1))]);
    node.certificate(Statement::Fast(block(3, 1)));
    node.consensus.reserved(node.now, Slot(100));
    assert_eq!(node.cast(), []);
}
