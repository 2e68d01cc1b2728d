use ed25519_dalek::SigningKey;
use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign};
use sha2::Sha512;

use super::*;
use crate::merkle;
use crate::parameters::Code;
use crate::shred::{self, SHRED_HEADER_BYTES, SHRED_SIGNED_BYTES};
use crate::shredder::{Shredder, frame};
use crate::signer::SliceSigner;
use crate::slice::{FRAME_BYTES, SliceSignature};
use crate::types::{Hash, SLICES_MAX, SliceIndex};

const CLUSTER: ClusterId = ClusterId([3; 32]);
const SENDER: ValidatorIndex = ValidatorIndex(1);
const OTHER: ValidatorIndex = ValidatorIndex(2);
const TIME: Time = Time(5);
const DATA: usize = 4;
const TOTAL: usize = 10;
const PIECE_BYTES: usize = 64;

fn parameters() -> CodingParameters {
    CodingParameters::new(Code::Rs8, DATA, TOTAL, PIECE_BYTES, 1_232).unwrap()
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[4; 32])
}

fn id(slot: u64, index: usize) -> SliceId {
    SliceId { slot: Slot(slot), index: SliceIndex::new(index).unwrap() }
}

fn payload(seed: u8) -> Vec<u8> {
    (0..DATA * PIECE_BYTES - FRAME_BYTES).map(|byte| (byte as u8).wrapping_mul(7) ^ seed).collect()
}

fn assembler() -> Assembler {
    Assembler::new(parameters(), CLUSTER, 1 << 20)
}

/// Fixed costs and exactly `slices` slices.
fn assembler_for(slices: usize) -> Assembler {
    let fixed = fixed_bytes(&parameters(), &ErasureCode::new(&parameters()));
    let assembler = Assembler::new(parameters(), CLUSTER, fixed + slices * Pool::bytes_per_slice(&parameters()));
    assert_eq!(assembler.capacity(), slices);
    assembler
}

/// The shreds of an honest leader's slice.
fn shreds(id: SliceId, is_last: bool, payload: &[u8]) -> Vec<Vec<u8>> {
    let mut shredder = Shredder::new(parameters(), CLUSTER);
    let length = shred::wire_bytes(&parameters(), shredder.shred_len(payload.len()));
    let offsets: Vec<_> = (0..TOTAL).map(|index| index * length).collect();
    let mut out = vec![0; TOTAL * length];
    shredder.shred(id, is_last, 9, payload, &SliceSigner::new(&key()), &mut out, &offsets);
    out.chunks_exact(length).map(<[u8]>::to_vec).collect()
}

/// Shreds with whatever data, correctly signed: those of a leader that lies about the rest.
fn forged(id: SliceId, is_last: bool, pieces: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut nodes = vec![[0; 32]; 2 << parameters().path_nodes()];
    let width = nodes.len() / 2;
    for (node, piece) in nodes[width..].iter_mut().zip(pieces) {
        *node = merkle::leaf(piece).0;
    }
    let root = merkle::build(&mut nodes, pieces.len());
    let signed = SignedRoot::sign(&SliceSigner::new(&key()), CLUSTER, id, is_last, root);
    let shred = |(index, piece): (usize, &Vec<u8>)| {
        let mut bytes = shred::header(id, is_last, ShredIndex(index as u16)).to_vec();
        bytes.extend(signed.signature.0);
        merkle::path(&nodes, index).for_each(|node| bytes.extend(node));
        bytes.extend(piece);
        bytes
    };
    pieces.iter().enumerate().map(shred).collect()
}

/// All pieces of the code word with the given coded data.
fn encoded(coded: &[u8]) -> Vec<Vec<u8>> {
    let mut pieces: Vec<_> = coded.chunks_exact(PIECE_BYTES).map(<[u8]>::to_vec).collect();
    pieces.resize(TOTAL, vec![0; PIECE_BYTES]);
    reed_solomon_erasure::galois_8::ReedSolomon::new(DATA, TOTAL - DATA).unwrap().encode(&mut pieces).unwrap();
    pieces
}

fn view(bytes: &[u8]) -> ShredView<'_> {
    ShredView::parse(bytes, &parameters()).unwrap()
}

fn verify(assembler: &mut Assembler, bytes: &[u8], sender: ValidatorIndex) -> Result<Verified, Reject> {
    let [leaf, ..] = assembler.hash_leaves([(&view(bytes), sender)]);
    assembler.verify(&view(bytes), leaf, sender, &key().verifying_key())
}

fn refused(assembler: &mut Assembler, bytes: &[u8], sender: ValidatorIndex) -> Reject {
    verify(assembler, bytes, sender).unwrap_err()
}

fn insert(assembler: &mut Assembler, bytes: &[u8]) -> Inserted {
    let verified = verify(assembler, bytes, SENDER).unwrap();
    assembler.insert(&view(bytes), verified, TIME)
}

/// Inserts until the slice can be decided, and decides.
fn decide<'a>(assembler: &mut Assembler, shreds: impl IntoIterator<Item = &'a Vec<u8>>) -> Decoded {
    for bytes in shreds {
        if insert(assembler, bytes) == Inserted::Complete {
            return assembler.decode(view(bytes).slice()).unwrap();
        }
    }
    panic!("not complete");
}

fn decoded<'a>(assembler: &mut Assembler, shreds: impl IntoIterator<Item = &'a Vec<u8>>) -> Slice {
    match decide(assembler, shreds) {
        Decoded::Slice(slice) => slice,
        Decoded::Malformed(malformed) => panic!("{malformed:?}"),
    }
}

/// What somebody says who knows no more than the leader's key.
fn checked(malformed: &MalformedSlice) -> Result<(), Unproven> {
    malformed.check(&key().verifying_key(), CLUSTER, &parameters())
}

fn defect<'a>(assembler: &mut Assembler, shreds: impl IntoIterator<Item = &'a Vec<u8>>) -> Defect {
    match decide(assembler, shreds) {
        Decoded::Slice(slice) => panic!("{slice:?}"),
        Decoded::Malformed(malformed) => {
            assert!(malformed.signed.verify(&key().verifying_key(), CLUSTER));
            assert_eq!(checked(&malformed), Ok(()), "{malformed:?}");
            malformed.defect
        }
    }
}

#[test]
fn a_slice_is_complete_with_gamma_shreds_and_decided_once() {
    let mut assembler = assembler();
    let shreds = shreds(id(7, 2), true, &payload(1));
    for bytes in &shreds[6..9] {
        assert_eq!(insert(&mut assembler, bytes), Inserted::Stored);
    }
    assert_eq!(insert(&mut assembler, &shreds[7]), Inserted::Duplicate);
    assert!(assembler.decode(id(7, 2)).is_none());
    assert_eq!(insert(&mut assembler, &shreds[0]), Inserted::Complete);
    assert_eq!(assembler.first_received(id(7, 2)), Some(TIME));
    let Some(Decoded::Slice(slice)) = assembler.decode(id(7, 2)) else { panic!("not decoded") };
    assert_eq!((&*slice.payload, slice.is_last, slice.leader_stamp_ns), (payload(1).as_slice(), true, 9));
    assert!(assembler.decode(id(7, 2)).is_none());
    assert_eq!(insert(&mut assembler, &shreds[5]), Inserted::Duplicate);
}

#[test]
fn shreds_that_come_before_decoding_are_used() {
    let mut assembler = assembler();
    let shreds = shreds(id(7, 2), false, &payload(1));
    let outcomes: Vec<_> = shreds.iter().map(|bytes| insert(&mut assembler, bytes)).collect();
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Inserted::Complete).count(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Inserted::Stored).count(), TOTAL - 1);
    assert!(matches!(assembler.decode(id(7, 2)), Some(Decoded::Slice(_))));
}

#[test]
fn an_unsigned_shred_takes_no_memory() {
    let mut assembler = assembler();
    let shreds = shreds(id(7, 2), false, &payload(1));
    for place in [0, 8, 9, SHRED_HEADER_BYTES, SHRED_SIGNED_BYTES, shreds[0].len() - 1] {
        let mut bytes = shreds[0].clone();
        bytes[place] ^= 0x80;
        if let Ok(shred) = ShredView::parse(&bytes, &parameters()) {
            let sender = ValidatorIndex(place as u16);
            assert_eq!(
                assembler.verify(&shred, None, sender, &key().verifying_key()).unwrap_err(),
                Reject::BadSignature
            );
        }
    }
    assert_eq!(assembler.held(), 0);
}

#[test]
fn a_signature_is_checked_once_for_each_sender_and_slice_not_held() {
    let mut assembler = assembler();
    let good = shreds(id(7, 2), false, &payload(1));
    let mut bad = good[0].clone();
    bad[SHRED_HEADER_BYTES] ^= 1;
    assert_eq!(refused(&mut assembler, &bad, SENDER), Reject::BadSignature);
    assert_eq!(refused(&mut assembler, &bad, SENDER), Reject::SenderSpent);
    assert_eq!(refused(&mut assembler, &bad, OTHER), Reject::BadSignature);
    // Others introduce the slice; then the sender's shreds count again, unless they carry another signature.
    assert!(verify(&mut assembler, &good[1], ValidatorIndex(3)).is_ok());
    assert!(verify(&mut assembler, &good[0], SENDER).is_ok());
    assert_eq!(refused(&mut assembler, &bad, SENDER), Reject::SenderSpent);
}

#[test]
fn failed_checks_of_a_sender_are_bounded_in_a_slot() {
    let mut assembler = assembler();
    let spoilt = |slot, index| {
        let mut bytes = shreds(id(slot, index), false, &payload(1)).swap_remove(0);
        bytes[SHRED_SIGNED_BYTES] ^= 1;
        bytes
    };
    let checks = (0..100).filter(|index| refused(&mut assembler, &spoilt(7, *index), SENDER) == Reject::BadSignature);
    assert_eq!(checks.count(), 8);
    assert_eq!(refused(&mut assembler, &spoilt(8, 0), SENDER), Reject::BadSignature);
    assert_eq!(refused(&mut assembler, &spoilt(7, 200), SENDER), Reject::SenderSpent);
    let good = shreds(id(8, 1), false, &payload(1));
    assert!(verify(&mut assembler, &good[0], SENDER).is_ok());
}

/// Lesson: deduplication before authentication let an attacker burn a victim's entry.
#[test]
fn defect_22_a_spoilt_shred_does_not_burn_the_good_ones_place() {
    let mut assembler = assembler();
    let shreds = shreds(id(7, 2), false, &payload(1));
    let mut spoilt = shreds[3].clone();
    *spoilt.last_mut().unwrap() ^= 1;
    assert_eq!(refused(&mut assembler, &spoilt, OTHER), Reject::BadSignature);
    assert_eq!(insert(&mut assembler, &shreds[0]), Inserted::Stored);
    assert_eq!(refused(&mut assembler, &spoilt, OTHER), Reject::WrongPath);
    let good = verify(&mut assembler, &shreds[3], SENDER).unwrap();
    assert!(assembler.claim_relay(&good), "it is still to be relayed");
    assert_eq!(assembler.insert(&view(&shreds[3]), good, TIME), Inserted::Stored);
    assert_eq!(refused(&mut assembler, &spoilt, OTHER), Reject::WrongBytes);
}

#[test]
fn the_stored_signature_with_another_root_or_flag_is_dropped_unchecked() {
    let mut assembler = assembler();
    let (first, second) = (shreds(id(7, 2), false, &payload(1)), shreds(id(7, 2), false, &payload(2)));
    assert_eq!(insert(&mut assembler, &first[0]), Inserted::Stored);
    let mut other_root = second[1].clone();
    other_root[SHRED_HEADER_BYTES..SHRED_SIGNED_BYTES]
        .copy_from_slice(&first[0][SHRED_HEADER_BYTES..SHRED_SIGNED_BYTES]);
    let mut other_flag = first[1].clone();
    other_flag[9] ^= 0x80;
    for _ in 0..3 {
        assert_eq!(refused(&mut assembler, &other_root, OTHER), Reject::WrongPath);
        assert_eq!(refused(&mut assembler, &other_flag, OTHER), Reject::WrongLastFlag);
    }
    // The sender's one check is not spent by them.
    assert_eq!(refused(&mut assembler, &second[1], OTHER), Reject::Equivocation);
}

#[test]
fn another_signature_is_checked_once_for_each_sender() {
    let mut assembler = assembler();
    let shreds = shreds(id(7, 2), false, &payload(1));
    assert_eq!(insert(&mut assembler, &shreds[0]), Inserted::Stored);
    let mut bad = shreds[1].clone();
    bad[SHRED_HEADER_BYTES + 9] ^= 1;
    assert_eq!(refused(&mut assembler, &bad, SENDER), Reject::BadSignature);
    assert_eq!(refused(&mut assembler, &bad, SENDER), Reject::SenderSpent);
    assert_eq!(refused(&mut assembler, &bad, OTHER), Reject::BadSignature);
    assert_eq!(insert(&mut assembler, &shreds[1]), Inserted::Stored);
}

#[test]
fn the_same_root_signed_twice_is_no_equivocation() {
    let mut assembler = assembler();
    let shreds = shreds(id(7, 2), false, &payload(1));
    assert_eq!(insert(&mut assembler, &shreds[0]), Inserted::Stored);
    let mut expanded = ExpandedSecretKey::from(&key().to_bytes());
    expanded.hash_prefix[0] ^= 1;
    let message = crate::signature::message(CLUSTER, id(7, 2), false, view(&shreds[0]).claimed_root());
    let again = raw_sign::<Sha512>(&expanded, &message, &key().verifying_key()).to_bytes();
    let mut bytes = shreds[1].clone();
    bytes[SHRED_HEADER_BYTES..SHRED_SIGNED_BYTES].copy_from_slice(&again);
    assert_ne!(bytes, shreds[1]);
    assert_eq!(insert(&mut assembler, &bytes), Inserted::Stored);
    assert_eq!(assembler.equivocation(id(7, 2)), None);
}

#[test]
fn two_signed_versions_are_reported_once_and_the_first_goes_on() {
    let versions = [
        (shreds(id(7, 2), false, &payload(1)), shreds(id(7, 2), false, &payload(2))),
        (shreds(id(7, 2), false, &payload(1)), shreds(id(7, 2), true, &payload(1))),
    ];
    for (first, second) in versions {
        let mut assembler = assembler();
        assert_eq!(insert(&mut assembler, &first[0]), Inserted::Stored);
        assert_eq!(refused(&mut assembler, &second[1], SENDER), Reject::Equivocation);
        let proof = assembler.equivocation(id(7, 2)).unwrap();
        assert_eq!((proof.first, proof.second), (claim(&view(&first[0]), None), claim(&view(&second[0]), None)));
        for signed in [proof.first, proof.second] {
            assert!(signed.verify(&key().verifying_key(), CLUSTER));
        }
        assert_ne!((proof.first.root, proof.first.is_last), (proof.second.root, proof.second.is_last));
        for (bytes, sender) in second.iter().zip(1..) {
            assert_eq!(refused(&mut assembler, bytes, ValidatorIndex(sender)), Reject::AfterEquivocation);
        }
        let slice = decoded(&mut assembler, &first[1..]);
        assert_eq!(&*slice.payload, payload(1).as_slice());
    }
}

#[test]
fn shreds_of_different_length_under_one_root_are_malformed() {
    let mut pieces = encoded(&[1; DATA * PIECE_BYTES]);
    pieces[6].truncate(32);
    let shreds = forged(id(7, 2), false, &pieces);
    let mut assembler = assembler();
    assert_eq!(insert(&mut assembler, &shreds[0]), Inserted::Stored);
    assert_eq!(insert(&mut assembler, &shreds[6]), Inserted::Complete);
    let Some(Decoded::Malformed(malformed)) = assembler.decode(id(7, 2)) else { panic!("not malformed") };
    assert_eq!((malformed.signed, malformed.defect), (claim(&view(&shreds[0]), None), Defect::Lengths));
    assert_eq!(checked(&malformed), Ok(()));
    // Others are to find out too: the shreds are still good to relay, and nothing is said twice.
    for bytes in &shreds {
        assert_eq!(insert(&mut assembler, bytes), Inserted::Malformed);
    }
    assert!(assembler.decode(id(7, 2)).is_none());
}

#[test]
fn what_is_no_code_word_is_malformed_whichever_shreds_come_first() {
    let mut frame_and_payload = frame(DATA * PIECE_BYTES - FRAME_BYTES, 9).to_vec();
    frame_and_payload.resize(DATA * PIECE_BYTES, 0);
    for wrong in 0..TOTAL {
        let mut pieces = encoded(&frame_and_payload);
        pieces[wrong][5] ^= 1;
        let shreds = forged(id(7, 2), false, &pieces);
        for start in 0..TOTAL {
            let rotated = (0..TOTAL).map(|offset| &shreds[(start + offset) % TOTAL]);
            assert_eq!(defect(&mut assembler(), rotated), Defect::Code, "piece {wrong} wrong, from {start}");
        }
        let mut assembler = assembler();
        shreds.iter().for_each(|bytes| {
            insert(&mut assembler, bytes);
        });
        assert!(matches!(assembler.decode(id(7, 2)), Some(Decoded::Malformed(_))), "all shreds before decoding");
        // What comes later is checked against the root, not against what was computed in vain.
        assert_eq!(insert(&mut assembler, &shreds[wrong]), Inserted::Malformed);
    }
}

#[test]
fn padding_leaves_that_are_not_empty_are_malformed() {
    let mut pieces = encoded(&[0; DATA * PIECE_BYTES]);
    pieces.push(vec![1; PIECE_BYTES]);
    let shreds = forged(id(7, 2), false, &pieces);
    assert_eq!(defect(&mut assembler(), &shreds[..TOTAL]), Defect::Code);
}

#[test]
fn a_frame_that_claims_more_than_there_is_is_malformed() {
    let room = DATA * PIECE_BYTES - FRAME_BYTES;
    for length in [room + 1, 1 << 20, u32::MAX as usize] {
        let mut coded = frame(length, 9).to_vec();
        coded.resize(DATA * PIECE_BYTES, 0);
        assert_eq!(defect(&mut assembler(), &forged(id(7, 2), false, &encoded(&coded))), Defect::Frame);
    }
}

#[test]
fn padding_that_is_not_zero_is_malformed() {
    let length = DATA * PIECE_BYTES - FRAME_BYTES - 3;
    let mut coded = frame(length, 9).to_vec();
    coded.resize(DATA * PIECE_BYTES, 0);
    let shreds = forged(id(7, 2), false, &encoded(&coded));
    assert_eq!(&*decoded(&mut assembler(), &shreds).payload, vec![0; length]);
    for place in 1..=3 {
        let mut coded = coded.clone();
        coded[DATA * PIECE_BYTES - place] = 1;
        assert_eq!(defect(&mut assembler(), &forged(id(7, 2), false, &encoded(&coded))), Defect::Padding);
    }
}

/// A payload and its leader's stamp have one root, so that who holds a block can check its hash.
#[test]
fn shreds_longer_than_the_payload_needs_are_malformed() {
    let room = DATA * PIECE_BYTES - FRAME_BYTES;
    for (length, outcome) in [(0, false), (room - 8, false), (room - 7, true), (room, true)] {
        let mut coded = frame(length, 9).to_vec();
        coded.resize(DATA * PIECE_BYTES, 0);
        let shreds = forged(id(7, 2), false, &encoded(&coded));
        if outcome {
            assert_eq!(decoded(&mut assembler(), &shreds).payload.len(), length);
        } else {
            assert_eq!(defect(&mut assembler(), &shreds), Defect::Overlong);
        }
    }
}

/// Lesson: a block of which no shred is ever the last one never ended and never died.
#[test]
fn the_last_possible_slice_without_the_flag_is_malformed() {
    let last = id(7, SLICES_MAX - 1);
    assert_eq!(defect(&mut assembler(), &shreds(last, false, &payload(1))), Defect::Endless);
    assert!(decoded(&mut assembler(), &shreds(last, true, &payload(1))).is_last);
}

#[test]
fn after_decoding_shreds_are_compared_by_bytes() {
    let mut assembler = assembler();
    let shreds = shreds(id(7, 2), false, &payload(1));
    let slice = decoded(&mut assembler, &shreds[2..]);
    for bytes in &shreds {
        assert_eq!(insert(&mut assembler, bytes), Inserted::Duplicate);
        for place in [SHRED_SIGNED_BYTES, SHRED_SIGNED_BYTES + 127, bytes.len() - 1] {
            let mut spoilt = bytes.clone();
            spoilt[place] ^= 1;
            assert_eq!(refused(&mut assembler, &spoilt, SENDER), Reject::WrongBytes);
        }
    }
    assert_eq!(&*slice.payload, payload(1).as_slice());
}

#[test]
fn a_shred_is_relayed_once_whoever_sent_it_before() {
    let mut assembler = assembler();
    let shreds = shreds(id(7, 2), false, &payload(1));
    // An echo comes first and is inserted; the leader's copy must still be relayed, but not its replay.
    assert_eq!(insert(&mut assembler, &shreds[0]), Inserted::Stored);
    let verified = verify(&mut assembler, &shreds[0], OTHER).unwrap();
    assert!(assembler.claim_relay(&verified));
    assert!(!assembler.claim_relay(&verified));
    let replayed = verify(&mut assembler, &shreds[0], OTHER).unwrap();
    assert!(!assembler.claim_relay(&replayed));
    // The slice may be decoded before the leader's shred for this relay comes.
    decoded(&mut assembler, &shreds[1..]);
    let late = verify(&mut assembler, &shreds[9], OTHER).unwrap();
    assert!(assembler.claim_relay(&late));
    assert_eq!(assembler.insert(&view(&shreds[9]), late, TIME), Inserted::Duplicate);
}

#[test]
fn closed_slots_are_forgotten_and_late() {
    let mut assembler = assembler();
    let (near, far) = (shreds(id(7, 2), false, &payload(1)), shreds(id(8, 0), false, &payload(1)));
    let verified = verify(&mut assembler, &near[0], SENDER).unwrap();
    assert_eq!(insert(&mut assembler, &far[0]), Inserted::Stored);
    assembler.close(Slot(7));
    assert!(!assembler.claim_relay(&verified));
    assert_eq!(assembler.insert(&view(&near[0]), verified, TIME), Inserted::Evicted);
    assert_eq!(refused(&mut assembler, &near[0], SENDER), Reject::Late);
    assert_eq!((assembler.held(), assembler.first_received(id(7, 2))), (1, None));
    assembler.close(Slot(3));
    assert_eq!(refused(&mut assembler, &near[0], SENDER), Reject::Late);
    assert_eq!(&*decoded(&mut assembler, &far[1..]).payload, payload(1).as_slice());
}

#[test]
fn genesis_has_no_shreds() {
    assert_eq!(refused(&mut assembler(), &shreds(id(0, 0), false, &payload(1))[0], SENDER), Reject::Late);
}

#[test]
fn the_farthest_slice_makes_room_for_nearer_ones_only() {
    let mut assembler = assembler_for(3);
    let of = |slot, index| shreds(id(slot, index), false, &payload(slot as u8));
    for slot in [20, 10, 30] {
        assert_eq!(insert(&mut assembler, &of(slot, 1)[0]), Inserted::Stored);
    }
    for farther in [of(31, 0), of(30, 2)] {
        assert_eq!(refused(&mut assembler, &farther[0], SENDER), Reject::Budget);
    }
    let verified = verify(&mut assembler, &of(30, 1)[1], SENDER).unwrap();
    assert_eq!(insert(&mut assembler, &of(15, 1)[0]), Inserted::Stored);
    assert_eq!((assembler.held(), assembler.evictions()), (3, 1));
    assert_eq!(assembler.insert(&view(&of(30, 1)[1]), verified, TIME), Inserted::Evicted);
    assert_eq!(refused(&mut assembler, &of(30, 1)[2], SENDER), Reject::Budget);
    // What is held is complete and intact.
    for slot in [10, 15, 20] {
        assert_eq!(&*decoded(&mut assembler, &of(slot, 1)[1..]).payload, payload(slot as u8).as_slice());
    }
}

/// A leader whose window is never finalized must not hold the memory that the leaders after it need.
#[test]
fn a_leader_that_fills_the_memory_does_not_keep_others_out() {
    let stored = |assembler: &mut Assembler, slot: u64, slices: usize| {
        let offered = (0..slices).map(|index| shreds(id(slot, index), false, &payload(1)).swap_remove(0));
        offered.filter(|shred| verify(assembler, shred, SENDER).is_ok()).count()
    };
    for (first, second) in [(4, 8), (8, 4)] {
        let mut assembler = assembler_for(12);
        assert_eq!(stored(&mut assembler, first, 40), 12, "slot {first} takes all there is");
        assert_eq!(stored(&mut assembler, second, 5), 5, "slot {second} after slot {first}");
        assert_eq!(stored(&mut assembler, 12, 3), 3, "a third one after slots {first} and {second}");
        assert_eq!(assembler.held(), 12);
    }
}

#[test]
fn a_slice_without_room_is_refused_before_its_signature_is_checked() {
    let mut assembler = assembler_for(1);
    assert_eq!(insert(&mut assembler, &shreds(id(6, 0), false, &payload(1))[0]), Inserted::Stored);
    let mut bad = shreds(id(7, 0), false, &payload(1)).swap_remove(0);
    bad[SHRED_HEADER_BYTES] ^= 1;
    assert_eq!(refused(&mut assembler, &bad, SENDER), Reject::Budget);
}

#[test]
fn a_payload_that_is_still_read_is_not_written_over() {
    let mut assembler = assembler_for(2);
    let kept = decoded(&mut assembler, &shreds(id(7, 0), false, &payload(7)));
    assembler.close(Slot(7));
    for slot in 8..40 {
        let slice = decoded(&mut assembler, &shreds(id(slot, 0), false, &payload(slot as u8)));
        assert_eq!(&*slice.payload, payload(slot as u8).as_slice());
        assembler.close(Slot(slot));
    }
    assert_eq!(&*kept.payload, payload(7).as_slice());
    // With both memories lent there is none to be had, until one comes back.
    let other = decoded(&mut assembler, &shreds(id(50, 0), false, &payload(50)));
    let waiting = shreds(id(49, 0), false, &payload(49));
    assert_eq!(refused(&mut assembler, &waiting[0], SENDER), Reject::Budget);
    drop(kept);
    assert_eq!(&*decoded(&mut assembler, &waiting).payload, payload(49).as_slice());
    assert_eq!(&*other.payload, payload(50).as_slice());
}

/// Lesson: a store that was never pruned grew by a gigabyte in 20 seconds.
#[test]
fn memory_is_bounded_though_no_slot_is_ever_closed() {
    let budget = 64 << 20;
    let parameters = CodingParameters::default();
    let full = Assembler::new(parameters, CLUSTER, budget);
    assert!(full.capacity() * Pool::bytes_per_slice(&parameters) <= budget);
    assert!(full.capacity() >= 900, "the default budget holds {} slices", full.capacity());

    let mut assembler = assembler_for(16);
    for slot in (1..200).rev() {
        assert_eq!(insert(&mut assembler, &shreds(id(slot, 0), false, &payload(1))[0]), Inserted::Stored);
        assert!(assembler.held() <= 16);
    }
    assert_eq!(assembler.evictions(), 199 - 16);
}

#[test]
fn reasons_have_distinct_names() {
    let names: std::collections::BTreeSet<_> = Reject::ALL.iter().map(|reason| reason.name()).collect();
    assert_eq!(names.len(), Reject::ALL.len());
    assert!(names.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')));
}

#[test]
fn a_shred_of_another_cluster_is_refused() {
    let shreds = shreds(id(7, 0), false, &payload(1));
    let mut elsewhere = Assembler::new(parameters(), ClusterId([4; 32]), 1 << 20);
    assert_eq!(refused(&mut elsewhere, &shreds[0], SENDER), Reject::BadSignature);
}

#[test]
#[should_panic(expected = "verified was another shred")]
fn a_permission_is_for_one_shred() {
    let mut assembler = assembler();
    let shreds = shreds(id(7, 0), false, &payload(1));
    let verified = verify(&mut assembler, &shreds[0], SENDER).unwrap();
    assembler.insert(&view(&shreds[1]), verified, TIME);
}

#[test]
fn the_signature_of_the_first_shred_stays_that_of_the_slice() {
    let mut assembler = assembler();
    let shreds = shreds(id(7, 0), false, &payload(1));
    let slice = decoded(&mut assembler, &shreds);
    let signature: [u8; 64] = shreds[0][SHRED_HEADER_BYTES..SHRED_SIGNED_BYTES].try_into().unwrap();
    assert_eq!((slice.signature, slice.root), (SliceSignature(signature), view(&shreds[0]).claimed_root()));
    assert_ne!(slice.root, Hash::default());
}

#[test]
fn payload_bytes_are_copied_once_and_stay_there() {
    let mut assembler = assembler();
    let shreds = shreds(id(7, 2), true, &payload(1));
    for bytes in &shreds[1..DATA] {
        insert(&mut assembler, bytes);
    }
    let memory = |assembler: &Assembler| {
        let bytes = assembler.pool.entry(assembler.pool.find(id(7, 2)).unwrap()).memory.bytes();
        (bytes.as_ptr(), bytes[PIECE_BYTES..DATA * PIECE_BYTES].to_vec())
    };
    let (place, inserted) = memory(&assembler);
    assert_eq!(inserted, payload(1)[PIECE_BYTES - FRAME_BYTES..]);
    let slice = decoded(&mut assembler, &shreds[..1]);
    assert_eq!(memory(&assembler).0, place);
    let handed_over = slice.payload.clone();
    assert_eq!(handed_over.as_ptr(), place.wrapping_add(FRAME_BYTES));
}

#[test]
fn leaves_are_hashed_together_where_they_are_needed() {
    let mut assembler = assembler();
    let (long, short) = (shreds(id(7, 2), true, &payload(1)), shreds(id(8, 0), true, &[5]));
    insert(&mut assembler, &long[3]);
    verify(&mut assembler, &spoilt_signature(&short[0]), ValidatorIndex(9)).unwrap_err();
    let mut other_flag = long[4].clone();
    other_flag[9] ^= 0x80;
    let batch = [
        (&long[0], SENDER, true),
        (&long[3], SENDER, false),
        (&other_flag, SENDER, false),
        (&spoilt_signature(&long[5]), SENDER, false),
        (&short[0], SENDER, false),
        (&long[9], SENDER, true),
        (&shreds(id(8, 1), false, &payload(2))[1], SENDER, true),
    ];
    let views: Vec<_> = batch.iter().map(|(bytes, sender, _)| (view(bytes), *sender)).collect();
    let leaves = assembler.hash_leaves(views.iter().map(|(view, sender)| (view, *sender)));
    for ((leaf, (view, _)), (_, _, is_hashed)) in leaves.iter().zip(&views).zip(&batch) {
        assert_eq!(*leaf, is_hashed.then(|| merkle::leaf(view.data())));
    }
    // The shorter ones by themselves; not for a sender whose check of the slice failed, nor for slots that are closed.
    let leaf = |assembler: &Assembler, sender| assembler.hash_leaves([(&view(&short[0]), sender)])[0];
    assert_eq!(leaf(&assembler, SENDER), Some(merkle::leaf(view(&short[0]).data())));
    assert_eq!(leaf(&assembler, ValidatorIndex(9)), None);
    assembler.close(Slot(8));
    assert_eq!(leaf(&assembler, SENDER), None);
}

fn spoilt_signature(shred: &[u8]) -> Vec<u8> {
    let mut spoilt = shred.to_vec();
    spoilt[SHRED_HEADER_BYTES] ^= 1;
    spoilt
}

fn malformed(assembler: &mut Assembler, id: SliceId) -> MalformedSlice {
    let mut pieces = encoded(&[1; DATA * PIECE_BYTES]);
    (0..).zip(&mut pieces).for_each(|(index, piece)| piece[5] ^= 1 << (index % 8));
    match decide(assembler, &forged(id, false, &pieces)) {
        Decoded::Malformed(malformed) => malformed,
        Decoded::Slice(slice) => panic!("{slice:?}"),
    }
}

#[test]
fn what_shows_a_malformed_slice_shows_nothing_with_any_byte_flipped() {
    let malformed = malformed(&mut assembler(), id(7, 2));
    let shreds = malformed.shreds.clone().unwrap().to_vec();
    assert_eq!(shreds.len(), DATA * (2 + shred::wire_bytes(&parameters(), PIECE_BYTES)));
    let with = |shreds: Vec<u8>| MalformedSlice { shreds: Some(shreds.into()), ..malformed.clone() };
    for at in 0..shreds.len() {
        let mut flipped = shreds.clone();
        flipped[at] ^= 1 << (at % 8);
        assert!(checked(&with(flipped)).is_err(), "byte {at}");
    }
    for length in 0..shreds.len() {
        assert!(checked(&with(shreds[..length].to_vec())).is_err(), "the first {length} bytes");
    }
    let one = 2 + shred::wire_bytes(&parameters(), PIECE_BYTES);
    assert_eq!(checked(&with([&shreds[..], &shreds[..one]].concat())), Err(Unproven::Count));
    assert_eq!(checked(&with([&shreds[..one], &shreds[..one]].concat())), Err(Unproven::Count));
    assert_eq!(checked(&MalformedSlice { defect: Defect::Frame, ..malformed.clone() }), Err(Unproven::Defect));
    assert_eq!(checked(&MalformedSlice { shreds: None, ..malformed.clone() }), Err(Unproven::NoShreds));
    let endless = MalformedSlice { defect: Defect::Endless, shreds: None, ..malformed.clone() };
    assert_eq!(checked(&endless), Err(Unproven::Defect));
    let other = SigningKey::from_bytes(&[5; 32]).verifying_key();
    assert_eq!(malformed.check(&other, CLUSTER, &parameters()), Err(Unproven::Shred(0)));
    assert_eq!(malformed.check(&key().verifying_key(), ClusterId([4; 32]), &parameters()), Err(Unproven::Shred(0)));
}

#[test]
fn the_shreds_of_a_slice_do_not_show_it_to_be_malformed() {
    let shreds = shreds(id(7, 2), false, &payload(1));
    let signed = claim(&view(&shreds[0]), None);
    let shown: Vec<u8> = shreds[..DATA]
        .iter()
        .flat_map(|bytes| (bytes.len() as u16).to_le_bytes().into_iter().chain(bytes.iter().copied()))
        .collect();
    for defect in [Defect::Code, Defect::Frame, Defect::Padding, Defect::Overlong, Defect::Lengths] {
        let slander = MalformedSlice { signed, defect, shreds: Some(shown.clone().into()) };
        assert_eq!(checked(&slander), Err(Unproven::Defect));
    }
}

#[test]
fn shreds_are_shown_of_one_malformed_slice_at_a_time() {
    let mut assembler = assembler();
    let first = malformed(&mut assembler, id(7, 2));
    assert!(first.shreds.is_some());
    assert!(malformed(&mut assembler, id(7, 3)).shreds.is_none(), "the memory is lent");
    drop(first);
    let third = malformed(&mut assembler, id(7, 4));
    assert_eq!(checked(&third), Ok(()));
}

#[test]
fn statements_contradict_each_other_in_three_ways_only() {
    let signed = |slot, index, is_last, root: u8| SignedRoot {
        id: id(slot, index),
        is_last,
        root: Hash([root; 32]),
        signature: SliceSignature([0; 64]),
    };
    let contradict = |first, second| {
        let both = [Equivocation { first, second }, Equivocation { first: second, second: first }];
        let [forward, backward] = both.map(|both| both.is_contradiction());
        assert_eq!(forward, backward);
        forward
    };
    assert!(contradict(signed(7, 2, false, 1), signed(7, 2, false, 2)), "two roots");
    assert!(contradict(signed(7, 2, false, 1), signed(7, 2, true, 1)), "two flags");
    assert!(contradict(signed(7, 2, true, 1), signed(7, 3, false, 2)), "beyond the last");
    assert!(contradict(signed(7, 2, true, 1), signed(7, 3, true, 2)), "two ends");
    assert!(!contradict(signed(7, 2, false, 1), signed(7, 2, false, 1)), "the same");
    assert!(!contradict(signed(7, 2, true, 1), signed(7, 1, false, 2)), "before the last");
    assert!(!contradict(signed(7, 2, true, 1), signed(8, 3, false, 2)), "another slot");
    assert!(!contradict(signed(7, 2, false, 1), signed(8, 2, false, 2)), "another slot's");
}
