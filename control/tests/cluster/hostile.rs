//! Leaders that lie. One of five is less than the fifth of the stake that the protocol bears only if it is less than
//! a whole fifth, so these clusters have six nodes.

use alpenglow_control::block::{ParentStatement, SliceBuilder, SliceContent};
use alpenglow_control::output::Event;
use alpenglow_control::production::OutgoingSlice;
use alpenglow_control::vote::VotePayload;
use alpenglow_rotor::slice::SliceId;
use alpenglow_rotor::types::{BlockId, Hash, SliceIndex, Slot};

use crate::oracle::How;
use crate::world::{Setup, Tamper, World};

const LIAR: usize = 1;

/// Runs a cluster whose node 1, leader of slots 4..=7, sends what `tamper` makes of its slices.
fn with_liar(tamper: Tamper, last: u64) -> World {
    let mut world = World::new(Setup { nodes: 6, ..Setup::default() });
    world.tampers.insert(LIAR, tamper);
    assert!(world.run_until_decided(last, World::at_ms(last * 400 + 12_000)));
    for node in 0..6 {
        assert!(world.oracle.how(node, 8, last).iter().all(|how| *how == How::Fast), "the others are not harmed");
    }
    world
}

fn honest_nodes() -> impl Iterator<Item = usize> {
    (0..6).filter(|&node| node != LIAR)
}

fn with_payload(slice: OutgoingSlice, payload: Vec<u8>) -> Vec<OutgoingSlice> {
    vec![OutgoingSlice { payload: payload.into(), ..slice }]
}

fn stating(slice: OutgoingSlice, parent: ParentStatement) -> Vec<OutgoingSlice> {
    let payload = SliceBuilder::new(parent, 4_096).finish();
    with_payload(slice, payload)
}

fn id(slot: u64) -> BlockId {
    BlockId { slot: Slot(slot), hash: Hash([3; 32]) }
}

fn assert_dead_and_skipped(world: &World) {
    for node in honest_nodes() {
        assert_eq!(world.oracle.how(node, 4, 7), [How::Skipped; 4]);
        let dead = |event: &Event| matches!(event, Event::BlockDead { slot, .. } if *slot == Slot(4));
        let seen = world.oracle.events.iter().filter(|(seen_by, _, event)| *seen_by == node && dead(event)).count();
        assert_eq!(seen, 1, "node {node}");
    }
}

#[test]
fn defect_12_a_parent_that_is_not_before_its_child_harms_only_its_leader() {
    let world = with_liar(
        |_, slice| match slice.id.index.get() {
            0 => {
                let parent = id(slice.id.slot.0 + 3);
                stating(slice, ParentStatement::Parent(parent))
            }
            _ => vec![slice],
        },
        15,
    );
    assert_dead_and_skipped(&world);
}

#[test]
fn defect_13_a_parent_change_in_the_wrong_place_kills_the_block() {
    let world = with_liar(
        |_, slice| match (slice.id.slot.0, slice.id.index.get()) {
            // Two changes in the window's first slot.
            (4, 0) => vec![slice],
            (4, _) => {
                let change = stating(slice.clone(), ParentStatement::Changed(id(2)));
                let index = SliceIndex::new(slice.id.index.get() + 1).unwrap();
                let next = OutgoingSlice { id: SliceId { index, ..slice.id }, ..slice };
                let first = OutgoingSlice { is_last: false, ..change[0].clone() };
                let mut second = stating(next, ParentStatement::Changed(id(1)));
                second.insert(0, first);
                second
            }
            _ => vec![slice],
        },
        15,
    );
    assert_dead_and_skipped(&world);
}

#[test]
fn a_malformed_payload_is_dead_on_every_node() {
    let world = with_liar(
        |_, slice| {
            let is_last = slice.is_last;
            if is_last { with_payload(slice, vec![0, 255, 255, 1]) } else { vec![slice] }
        },
        15,
    );
    assert_dead_and_skipped(&world);
}

#[test]
fn defect_17_a_block_that_never_ends_is_skipped_and_let_go() {
    let world = with_liar(|_, slice| vec![OutgoingSlice { is_last: false, ..slice }], 23);
    for node in honest_nodes() {
        assert_eq!(world.oracle.how(node, 4, 7), [How::Skipped; 4]);
        // What is held are the latest finalized blocks, none of slots that were skipped.
        assert!(world.control(node).held_bytes() < 4 << 20);
    }
}

#[test]
fn two_versions_of_a_block_split_nobody() {
    let world = with_liar(
        |to, slice| {
            if to < 3 || slice.id.index.get() == 0 {
                return vec![slice];
            }
            let mut builder = SliceBuilder::new(ParentStatement::Nothing, 4_096);
            assert!(builder.push(b"only some are told"));
            with_payload(slice, builder.finish())
        },
        15,
    );
    for node in honest_nodes() {
        assert_eq!(world.oracle.how(node, 4, 7), world.oracle.how(0, 4, 7));
    }
}

#[test]
fn a_leader_that_is_seen_to_contradict_itself_gets_no_notarization_votes() {
    let world = with_liar(
        |_, slice| {
            if slice.id.index.get() > 0 {
                return vec![slice];
            }
            let stated = SliceContent::parse(slice.id.index, &slice.payload).expect("a leader packs well").parent;
            let mut builder = SliceBuilder::new(stated, 4_096);
            assert!(builder.push(b"another version"));
            let other = OutgoingSlice { payload: builder.finish().into(), ..slice.clone() };
            vec![other, slice]
        },
        15,
    );
    for node in honest_nodes() {
        let count = |wanted: &dyn Fn(&Event) -> bool| {
            world.oracle.events.iter().filter(|(seen_by, _, event)| *seen_by == node && wanted(event)).count()
        };
        assert_eq!(count(&|event| matches!(event, Event::Equivocation(proof) if proof.first.id.slot == Slot(4))), 1);
        let notarizes = |event: &Event| matches!(event, Event::VoteCast(VotePayload::Notar(id)) if id.slot == Slot(4));
        assert_eq!(count(&notarizes), 0);
        assert_eq!(world.oracle.how(node, 4, 7), [How::Skipped; 4]);
    }
}

#[test]
fn a_leader_that_sends_to_some_only_costs_its_own_window_at_most() {
    let world = with_liar(|to, slice| if to == 0 { vec![slice] } else { Vec::new() }, 15);
    for node in honest_nodes() {
        assert_eq!(world.oracle.how(node, 4, 7), [How::Skipped; 4]);
    }
}

#[test]
fn only_the_one_that_signs_wrongly_is_barred() {
    let mut world = World::new(Setup { nodes: 6, ..Setup::default() });
    world.forgers.insert(LIAR, None);
    assert!(world.run_until_decided(15, World::at_ms(12_000)));
    let mut barred = 0;
    for (node, _, event) in &world.oracle.events {
        if let Event::Barred { validator, .. } = event {
            assert_eq!((validator.get(), *node == LIAR), (LIAR, false));
            barred += 1;
        }
    }
    assert_eq!(barred, 5, "once by each, for longer than this run");
    for node in 0..6 {
        assert_eq!(world.oracle.how(node, 8, 15), [How::Fast; 8], "the other five are enough");
    }
}
