//! Optimistic handover: the next leader begins on the last block it holds, and goes on from another one if it must.

use std::time::Duration;

use alpenglow_control::block::SliceContent;
use alpenglow_control::bls::SignatureBytes;
use alpenglow_control::certificate::{Certificate, Signers, Statement, UnverifiedCertificate};
use alpenglow_control::control::{Control, ControlConfig};
use alpenglow_control::input::Input;
use alpenglow_control::output::{Event, Output};
use alpenglow_control::production::OutgoingSlice;
use alpenglow_rotor::parameters::{Code, CodingParameters};
use alpenglow_rotor::slice::Slice;
use alpenglow_rotor::types::{BlockId, Hash, Slot, Time, ValidatorIndex};

use crate::clients::{assert_each_once, submit};
use crate::oracle::How;
use crate::seeds;
use crate::world::{MS, Random, START, Setup, World, config};

/// Slot and time of each slice that left, those of `slot` only.
fn sent(world: &World, slot: u64) -> Vec<(bool, Time)> {
    let of_slot = world.slices_sent.iter().filter(|(id, _, _)| id.slot == Slot(slot));
    of_slot.map(|&(_, is_last, at)| (is_last, at)).collect()
}

/// Changes of parent: the leader, from where, to where.
fn changes(world: &World) -> Vec<(usize, BlockId, BlockId)> {
    let change = |(node, _, event): &(usize, Time, Event)| match *event {
        Event::ParentChanged { from, to, .. } => Some((*node, from, to)),
        _ => None,
    };
    world.oracle.events.iter().filter_map(change).collect()
}

/// Node 1 keeps its window's last block from all but the next leader, node 2.
fn with_a_last_block_for_the_next_leader_only(configure: fn(&mut ControlConfig)) -> World {
    let mut world = World::new(Setup { nodes: 6, configure, ..Setup::default() });
    let tamper = |to, slice: OutgoingSlice| {
        if slice.id.slot == Slot(7) && to != 2 { Vec::new() } else { vec![slice] }
    };
    world.tampers.insert(1, tamper);
    world
}

#[test]
fn the_next_leader_begins_as_soon_as_it_holds_the_last_block() {
    let mut world = World::new(Setup::default());
    assert!(world.run_until_decided(20, World::at_ms(10_000)));
    for slot in [4, 8, 12, 16, 20] {
        let (is_last, ended) = sent(&world, slot - 1).pop().expect("every block has a last slice");
        let (_, began) = sent(&world, slot)[0];
        // One message delay and the time to send.
        assert!(is_last && began.0 - ended.0 < 3 * MS, "slot {slot} began {} ns later", began.0 - ended.0);
    }
    assert_eq!(changes(&world), [], "nobody has to change its parent");
}

#[test]
fn a_leader_whose_parent_is_skipped_goes_on_from_the_block_before() {
    let mut world = with_a_last_block_for_the_next_leader_only(|_| {});
    // Until node 2 has changed its block's parent, and some after that.
    submit(&mut world, 1_000, 4, &[0, 1, 2, 3, 4, 5]);
    assert!(world.run_until_decided(19, World::at_ms(14_000)));
    world.run_until(Time(world.now.0 + 1_000 * MS));
    let chain = world.oracle.chain(0);
    let block = |slot| chain.iter().find(|block| block.id.slot == Slot(slot));
    let eight = block(8).expect("slot 8 is not skipped");
    assert_eq!(Some(eight.parent), block(6).map(|block| block.id));
    let changed = changes(&world);
    assert!(matches!(changed[..], [(2, from, to)] if from.slot == Slot(7) && to == eight.parent), "{changed:?}");
    for node in world.alive() {
        assert_eq!(world.oracle.how(node, 4, 8), [How::Fast, How::Fast, How::Fast, How::Skipped, How::Fast]);
        assert_eq!(world.oracle.how(node, 9, 19), [How::Fast; 11]);
        assert_eq!(world.oracle.gaps(node), 0);
    }

    let packed = |slices: &[Slice]| -> Vec<Vec<u8>> {
        let content = |slice: &Slice| {
            let content = SliceContent::parse(slice.id.index, &slice.payload).expect("the block is valid");
            content.transactions().map(<[u8]>::to_vec).collect::<Vec<_>>()
        };
        slices.iter().flat_map(content).collect()
    };
    let (ignored, counted) = eight.slices.split_at(eight.first_counted.get());
    let (ignored, counted) = (packed(ignored), packed(counted));
    assert!(!ignored.is_empty(), "something was packed before the change");
    assert!(ignored.iter().all(|transaction| counted.contains(transaction)), "and is packed again after it");
    assert_each_once(&world, 1_000);
}

#[test]
fn a_leader_without_its_parent_repeats_none_of_its_transactions() {
    let mut world = World::new(Setup { nodes: 6, ..Setup::default() });
    let tamper = |to, slice: OutgoingSlice| {
        if slice.id.slot == Slot(7) && to == 2 { Vec::new() } else { vec![slice] }
    };
    world.tampers.insert(1, tamper);
    submit(&mut world, 1_000, 4, &[0, 1, 2, 3, 4, 5]);
    assert!(world.run_until_decided(15, World::at_ms(9_000)));
    world.run_until(Time(world.now.0 + 1_000 * MS));
    assert_eq!(world.oracle.how(0, 4, 15), [How::Fast; 12]);
    let repaired = |event: &Event| matches!(event, Event::BlockRepaired { block, .. } if block.slot == Slot(7));
    assert!(world.oracle.events.iter().any(|(node, _, event)| *node == 2 && repaired(event)));
    assert_each_once(&world, 1_000);
}

#[test]
fn a_leader_that_waits_long_keeps_half_of_its_block() {
    let mut world = with_a_last_block_for_the_next_leader_only(|config| {
        config.coding = CodingParameters::new(Code::Rs8, 4, 8, 512, 1_232).unwrap();
        config.blokstor.slice_memory_bytes = 4 * 512;
        config.blokstor.bytes_max = 2 << 20;
        assert_eq!(config.blokstor.block_slices_max(), 256);
    });
    // Slot 7 ends after 2.8 s, and the others wait for it until 4 s have passed.
    world.run_until(World::at_ms(2_900));
    // Some 380 slices.
    submit(&mut world, 1_500, 0, &[2]);
    world.run_until(World::at_ms(3_300));
    assert_eq!(sent(&world, 8).len(), 128, "slices before the parent is ready");
    assert!(world.run_until_decided(15, World::at_ms(14_000)));
    assert_eq!((changes(&world).len(), sent(&world, 8).len()), (1, 256));
    assert_eq!(world.oracle.how(0, 7, 11), [How::Skipped, How::Fast, How::Fast, How::Fast, How::Fast]);
    assert_each_once(&world, 1_500);
}

#[test]
fn late_and_withheld_last_blocks_harm_nobody() {
    let mut switched = 0;
    for seed in seeds(8) {
        let mut world = World::new(Setup { nodes: 6, seed, real_checks: false, ..Setup::default() });
        world.network.jitter = Duration::from_millis(30);
        let mut random = Random(seed);
        for window in 1..8 {
            // Up to two slots more than the others wait for the last block of a window.
            let late = Duration::from_millis(random.below(2_000));
            world.late_slots.insert(Slot(4 * window + 3), late);
        }
        world.tampers.insert(1, |to, slice| if slice.id.slot == Slot(7) && to > 2 { Vec::new() } else { vec![slice] });
        submit(&mut world, 1_500, 6, &[0, 2, 3, 4, 5]);
        assert!(world.run_until_decided(35, World::at_ms(40_000)), "{}", world.oracle.replay());
        world.run_until(Time(world.now.0 + 2_000 * MS));
        switched += changes(&world).len();
        assert_each_once(&world, 1_500);
    }
    assert!(switched > 0, "no leader had to change its parent");
}

#[test]
fn a_leader_stops_when_its_slot_is_closed() {
    let mut control = Control::new(config(5, 0), START).expect("a valid configuration");
    let slices = |control: &mut Control, at, input| {
        control.handle(at, input);
        let (mut slices, mut checks) = (0, Vec::new());
        while let Some(output) = control.poll_output() {
            match output {
                Output::SendSlice(_) => slices += 1,
                Output::Check { id, job } => checks.push(Input::Checked { id, verdict: job.assume_checked() }),
                _ => {}
            }
        }
        (slices, checks)
    };
    assert_eq!(slices(&mut control, START, Input::Tick).0, 1, "it leads window 0");
    // A block inside the next window, so that no later one is ready.
    let certificate = UnverifiedCertificate(Certificate {
        statement: Statement::Fast(BlockId { slot: Slot(5), hash: Hash([5; 32]) }),
        signers: Signers::of(5, (0..5).map(ValidatorIndex)),
        fallback_signers: Signers::none(5),
        signature: SignatureBytes([0; 96]),
    });
    let input = Input::Certificate { certificate, sender: ValidatorIndex(1) };
    let (_, checks) = slices(&mut control, World::at_ms(100), input);
    for verdict in checks {
        slices(&mut control, World::at_ms(101), verdict);
    }
    assert_eq!(control.highest_finalized().slot, Slot(5));
    assert_eq!(slices(&mut control, World::at_ms(2_000), Input::Tick).0, 0);
}
