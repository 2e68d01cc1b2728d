//! Nodes that start while the others have been running for long.

use alpenglow_control::output::{Decision, Event};
use alpenglow_control::vote::VotePayload;
use alpenglow_rotor::types::{BlockId, Slot, WINDOW_SLOTS};

use crate::world::{Setup, World};

const LATE: usize = 4;

/// A cluster of five without the last, after slot `slot`; then the last one joins.
fn joined_at(slot: u64) -> World {
    let mut world = World::new(Setup { real_checks: slot < 50, ..Setup::default() });
    world.kill(LATE);
    world.oracle.events.retain(|(node, ..)| *node != LATE);
    assert!(world.run_until_decided(slot, World::at_ms(slot * 1_000 + 5_000)));
    world.join(LATE);
    world
}

fn tip(world: &World, node: usize) -> Option<BlockId> {
    world.oracle.chain(node).last().map(|block| block.id)
}

/// The first slot that the node learned to be final, and the first one after it that it voted for a block in.
fn first_final_and_voted(world: &World) -> (Slot, Slot) {
    let mut events = world.oracle.events.iter().filter(|(node, ..)| *node == LATE).map(|(_, _, event)| event);
    let first_final = events.find_map(|event| match event {
        Event::Decided { slot, decision: Decision::Finalized { .. } } => Some(*slot),
        _ => None,
    });
    let first_final = first_final.expect("it learns of a finalization");
    let voted = events.find_map(|event| match event {
        Event::VoteCast(VotePayload::Notar(block)) if block.slot > first_final => Some(block.slot),
        _ => None,
    });
    (first_final, voted.expect("it votes"))
}

#[test]
fn a_node_that_joins_late_fetches_the_chain_from_its_beginning_and_votes() {
    let mut world = joined_at(12);
    let now = world.now;
    world.run_until(now.after(std::time::Duration::from_secs(12)));
    assert_eq!(world.oracle.gaps(LATE), 0);
    assert_eq!(tip(&world, LATE), tip(&world, 0));
    assert_eq!(world.oracle.chain(LATE).len(), world.oracle.chain(0).len(), "from genesis on");
    let (first_final, voted) = first_final_and_voted(&world);
    assert!(first_final >= Slot(12), "the certificates of new slots tell where the chain is: {first_final}");
    assert!(voted.window() <= first_final.window() + 2, "first final {first_final}, first vote in {voted}");
}

#[test]
fn a_node_that_joins_after_more_slots_than_others_keep_goes_on_after_a_gap_and_votes() {
    let mut world = joined_at(200);
    let now = world.now;
    world.run_until(now.after(std::time::Duration::from_secs(40)));
    assert_eq!(world.oracle.gaps(LATE), 1);
    assert_eq!(tip(&world, LATE), tip(&world, 0));
    let (first_final, voted) = first_final_and_voted(&world);
    assert!(voted.0 <= first_final.0 + 3 * WINDOW_SLOTS, "first final {first_final}, first vote in {voted}");
    let lowest = world.oracle.chain(LATE).first().map(|block| block.id.slot);
    assert!(lowest.is_some_and(|slot| slot.0 + 64 + WINDOW_SLOTS >= first_final.0), "{lowest:?} of {first_final}");
}
