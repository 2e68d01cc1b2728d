//! Every way in which a leader or a voter can contradict itself, in every order that the network makes of it: all
//! correct nodes come to the same end, the chain goes on, and who saw the contradiction can prove it.

use std::collections::BTreeSet;
use std::time::Duration;

use alpenglow_control::block::{ParentStatement, SliceBuilder, SliceContent};
use alpenglow_control::evidence::{Offence, OffenceKind, Proof, Standing};
use alpenglow_control::output::Event;
use alpenglow_control::production::OutgoingSlice;
use alpenglow_rotor::assembler::{Assembler, Decoded, Inserted, MalformedSlice};
use alpenglow_rotor::merkle;
use alpenglow_rotor::parameters::CodingParameters;
use alpenglow_rotor::shred::ShredView;
use alpenglow_rotor::signature::SignedRoot;
use alpenglow_rotor::signer::SliceSigner;
use alpenglow_rotor::slice::SliceId;
use alpenglow_rotor::types::{Hash, SliceIndex, Slot, Time, ValidatorIndex};

use crate::oracle::How;
use crate::seeds;
use crate::world::{CLUSTER, Network, Setup, World, identity, recoder};

const NODES: usize = 6;
/// Leads slots 4..=7, and less than a fifth of the stake.
const LIAR: usize = 1;
const LAST: u64 = 19;

/// Runs clusters that `lie` was told how to lie in, with messages in any order, until all windows after the liar's are
/// decided.
fn run(lie: impl Fn(&mut World), mut check: impl FnMut(&World)) {
    for seed in seeds(4) {
        let jitter = Duration::from_millis(if seed == 1 { 0 } else { 4 });
        let network = Network { jitter, checking_jitter: 2 * jitter, ..Network::default() };
        let mut world = World::new(Setup { nodes: NODES, seed, network, ..Setup::default() });
        lie(&mut world);
        assert!(world.run_until_decided(LAST, World::at_ms(30_000)), "{}", world.oracle.replay());
        for node in 0..NODES {
            let after = world.oracle.how(node, 8, LAST);
            assert!(!after.contains(&How::Skipped), "the chain goes on, {after:?}, {}", world.oracle.replay());
        }
        check_proofs(&world);
        check(&world);
    }
}

/// Nobody is accused but the liar, no proof is kept twice, and all of them hold for somebody who saw nothing.
fn check_proofs(world: &World) {
    let authority = world.authority();
    let mut kept = BTreeSet::new();
    for (node, proof) in &world.proofs {
        let bytes = proof.encode();
        let checked = Proof::decode(&bytes).expect("what is encoded can be decoded").check(&authority);
        assert_eq!(checked, Ok(Standing::Proven), "{proof:?}, {}", world.oracle.replay());
        assert_eq!(proof.validator.get(), LIAR, "{}", world.oracle.replay());
        assert!(kept.insert((*node, proof.slot(), proof.kind())), "{proof:?} twice, {}", world.oracle.replay());
    }
}

fn honest() -> impl Iterator<Item = usize> {
    (0..NODES).filter(|&node| node != LIAR)
}

/// Honest nodes that hold a proof of this kind for `slot`.
fn provers(world: &World, kind: OffenceKind, slot: u64) -> Vec<usize> {
    let held = |node: &usize| {
        world.proofs.iter().any(|(by, proof)| by == node && proof.kind() == kind && proof.slot() == Slot(slot))
    };
    honest().filter(held).collect()
}

/// All honest nodes decided the liar's window alike. That they decided the same blocks is for the oracle.
fn alike(world: &World) -> Vec<How> {
    let skipped = |node| world.oracle.how(node, 4, 7).into_iter().map(|how| how == How::Skipped).collect::<Vec<_>>();
    honest().for_each(|node| assert_eq!(skipped(node), skipped(0), "{}", world.oracle.replay()));
    world.oracle.how(0, 4, 7)
}

fn other_version(slice: &OutgoingSlice) -> OutgoingSlice {
    let stated = SliceContent::parse(slice.id.index, &slice.payload).expect("a leader packs well").parent;
    let mut builder = SliceBuilder::new(stated, 4_096);
    assert!(builder.push(b"another version"));
    OutgoingSlice { payload: builder.finish().into(), ..slice.clone() }
}

fn is_first_of_slot_4(slice: &OutgoingSlice) -> bool {
    (slice.id.slot, slice.id.index.get()) == (Slot(4), 0)
}

#[test]
fn two_roots_of_a_slice_seen_by_all_are_proven_by_all() {
    let lie = |world: &mut World| {
        world.tampers.insert(LIAR, |_, slice| {
            if is_first_of_slot_4(&slice) { vec![slice.clone(), other_version(&slice)] } else { vec![slice] }
        });
    };
    run(lie, |world| {
        alike(world);
        assert_eq!(provers(world, OffenceKind::Slices, 4), honest().collect::<Vec<_>>());
    });
}

#[test]
fn two_last_flags_of_a_slice_are_proven() {
    let lie = |world: &mut World| {
        world.tampers.insert(LIAR, |_, slice| {
            let flipped = OutgoingSlice { is_last: !slice.is_last, ..slice.clone() };
            if is_first_of_slot_4(&slice) { vec![slice, flipped] } else { vec![slice] }
        });
    };
    run(lie, |world| {
        alike(world);
        assert_eq!(provers(world, OffenceKind::Slices, 4), honest().collect::<Vec<_>>());
    });
}

#[test]
fn slices_beyond_the_last_one_are_proven_and_neither_help_nor_harm() {
    let lie = |world: &mut World| {
        world.tampers.insert(LIAR, |_, slice| {
            if slice.id.slot != Slot(4) || !slice.is_last {
                return vec![slice];
            }
            let index = SliceIndex::new(slice.id.index.get() + 1).expect("far from the bound");
            let payload = SliceBuilder::new(ParentStatement::Nothing, 4_096).finish().into();
            let beyond = OutgoingSlice { id: SliceId { index, ..slice.id }, is_last: false, payload };
            vec![beyond, slice]
        });
    };
    run(lie, |world| {
        alike(world);
        assert_eq!(provers(world, OffenceKind::Slices, 4), honest().collect::<Vec<_>>());
    });
}

#[test]
fn two_blocks_for_two_halves_are_decided_alike_and_proven_by_who_got_both() {
    let lie = |world: &mut World| {
        world.tampers.insert(LIAR, |to, slice| match to {
            _ if !is_first_of_slot_4(&slice) => vec![slice],
            0 | 2 => vec![slice],
            3 | 4 => vec![other_version(&slice)],
            _ => vec![other_version(&slice), slice],
        });
    };
    run(lie, |world| {
        alike(world);
        assert_eq!(provers(world, OffenceKind::Slices, 4), [5]);
    });
}

#[test]
fn two_blocks_for_two_halves_leave_no_proof_where_nobody_gets_both() {
    let lie = |world: &mut World| {
        world.tampers.insert(LIAR, |to, slice| {
            if is_first_of_slot_4(&slice) && to > 2 { vec![other_version(&slice)] } else { vec![slice] }
        });
    };
    run(lie, |world| {
        alike(world);
        assert!(world.proofs.is_empty());
    });
}

#[test]
fn a_block_without_an_end_is_skipped_and_leaves_no_proof() {
    let lie = |world: &mut World| {
        world.tampers.insert(LIAR, |_, slice| vec![OutgoingSlice { is_last: false, ..slice }]);
    };
    run(lie, |world| {
        assert_eq!(alike(world), [How::Skipped; 4]);
        assert!(world.proofs.is_empty());
    });
}

/// Shreds of the slice with one of them changed, under a root that the leader signs, and what a node makes of them.
fn malformed(slice: &OutgoingSlice) -> MalformedSlice {
    let parameters = CodingParameters::default();
    let encoded = recoder().encode(0, &slice.payload);
    let mut pieces: Vec<Vec<u8>> = (0..parameters.total_shreds()).map(|at| encoded.data(at).to_vec()).collect();
    pieces[40][0] ^= 1;
    let mut levels = vec![pieces.iter().map(|piece| merkle::leaf(piece).0).collect::<Vec<_>>()];
    while let Some(below) = levels.last().filter(|below| below.len() > 1) {
        levels.push(below.chunks_exact(2).map(|pair| merkle::node(&pair[0], &pair[1])).collect());
    }
    let root = Hash(levels.pop().expect("a root")[0]);
    let leader = identity(LIAR);
    let signed = SignedRoot::sign(&SliceSigner::new(&leader), CLUSTER, slice.id, slice.is_last, root);
    let mut assembler = Assembler::new(parameters, CLUSTER, 1 << 20);
    for at in 0..pieces.len() {
        let mut shred = slice.id.slot.0.to_le_bytes().to_vec();
        let last_flag = if slice.is_last { 1 << 15 } else { 0 };
        shred.extend((slice.id.index.get() as u16 | last_flag).to_le_bytes());
        shred.extend((at as u16).to_le_bytes());
        shred.extend([0; 4]);
        shred.extend(signed.signature.0);
        levels.iter().enumerate().for_each(|(level, nodes)| shred.extend(nodes[(at >> level) ^ 1]));
        shred.extend(&pieces[at]);
        let shred = ShredView::parse(&shred, &parameters).expect("a shred");
        let verified = assembler.verify(&shred, None, ValidatorIndex(0), &leader.verifying_key()).expect("signed");
        if assembler.insert(&shred, verified, Time(0)) == Inserted::Complete {
            break;
        }
    }
    match assembler.decode(slice.id) {
        Some(Decoded::Malformed(malformed)) => malformed,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_slice_that_is_none_kills_its_block_everywhere_and_its_shreds_prove_it() {
    let lie = |world: &mut World| {
        world.malformers.insert(LIAR, |slice| is_first_of_slot_4(slice).then(|| malformed(slice)));
    };
    run(lie, |world| {
        assert_eq!(alike(world), [How::Skipped; 4]);
        assert_eq!(provers(world, OffenceKind::MalformedSlice, 4), honest().collect::<Vec<_>>());
        for node in honest() {
            let dead = |event: &Event| matches!(event, Event::BlockDead { slot, .. } if *slot == Slot(4));
            let seen = world.oracle.events.iter().filter(|(by, _, event)| *by == node && dead(event)).count();
            assert_eq!(seen, 1, "node {node}, {}", world.oracle.replay());
        }
    });
}

#[test]
fn two_votes_that_exclude_each_other_are_proven_with_both_signatures() {
    let lie = |world: &mut World| {
        world.double_voters.insert(LIAR);
    };
    run(lie, |world| {
        for node in honest() {
            let of_votes = |proof: &Proof| matches!(proof.offence, Offence::Votes { .. });
            let held = world.proofs.iter().any(|(by, proof)| *by == node && of_votes(proof));
            assert!(held, "node {node}, {}", world.oracle.replay());
        }
        let (authority, bytes) = (world.authority(), world.proofs[0].1.encode());
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            let holds = Proof::decode(&flipped).is_ok_and(|proof| proof.check(&authority).is_ok());
            assert!(!holds, "byte {at} of {:?}", world.proofs[0]);
        }
    });
}
