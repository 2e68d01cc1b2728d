use alpenglow_rotor::merkle;
use alpenglow_rotor::parameters::Code;
use alpenglow_rotor::schedule::{EpochSeed, ScheduleKind};
use alpenglow_rotor::signature::SignedRoot;
use alpenglow_rotor::signer::SliceSigner;
use alpenglow_rotor::slice::SliceId;
use alpenglow_rotor::types::{BlockId, Hash, SLICES_MAX, SliceIndex, Stake};
use ed25519_dalek::SigningKey;

use super::*;
use crate::bls::{SecretKey, SignatureBytes};

const CLUSTER: ClusterId = ClusterId([9; 32]);
const VALIDATORS: u16 = 3;
/// Validator 1 leads window 1.
const SLOT: Slot = Slot(5);
const LEADER: ValidatorIndex = ValidatorIndex(1);

fn identity(validator: u16) -> SigningKey {
    SigningKey::from_bytes(&[validator as u8 + 1; 32])
}

fn voting_key(validator: u16) -> SecretKey {
    SecretKey::from_entropy(&[validator as u8 + 1; 32])
}

fn authority() -> Authority {
    let identities = (0..VALIDATORS).map(|at| (identity(at).verifying_key().to_bytes(), Stake(1))).collect();
    let validators = ValidatorSet::new(identities).unwrap();
    let schedule = LeaderSchedule::new(ScheduleKind::RoundRobin, EpochSeed([1; 32]), &validators);
    let keys: Vec<_> =
        (0..VALIDATORS).map(voting_key).map(|key| (key.public_key().to_bytes(), key.prove_possession())).collect();
    Authority {
        cluster: CLUSTER,
        validators: Arc::new(validators),
        voting_keys: Arc::new(VotingKeys::new(&keys).unwrap()),
        schedule: Arc::new(schedule),
        coding: CodingParameters::new(Code::Rs8, 2, 4, 64, 1_232).unwrap(),
    }
}

fn signed(index: usize, is_last: bool, root: u8) -> SignedRoot {
    let id = SliceId { slot: SLOT, index: SliceIndex::new(index).unwrap() };
    SignedRoot::sign(&SliceSigner::new(&identity(LEADER.0)), CLUSTER, id, is_last, Hash([root; 32]))
}

fn vote(payload: VotePayload, signer: u16) -> UnverifiedVote {
    let signature = voting_key(signer).sign(&payload.hashed(CLUSTER)).to_bytes();
    UnverifiedVote { payload, signer: ValidatorIndex(signer), signature }
}

fn block(hash: u8) -> BlockId {
    BlockId { slot: SLOT, hash: Hash([hash; 32]) }
}

fn two_slices() -> Proof {
    Proof::slices(LEADER, Equivocation { first: signed(2, false, 1), second: signed(2, false, 2) })
}

fn two_votes() -> Proof {
    Proof::votes(vote(VotePayload::Notar(block(1)), 2), vote(VotePayload::Skip(SLOT), 2))
}

/// Two shreds of one slice that differ in length.
fn malformed() -> Proof {
    let pieces = [vec![1; 64], vec![2; 32], vec![3; 64], vec![4; 64]];
    let leaves: Vec<_> = pieces.iter().map(|piece| merkle::leaf(piece).0).collect();
    let parents = [merkle::node(&leaves[0], &leaves[1]), merkle::node(&leaves[2], &leaves[3])];
    let root = Hash(merkle::node(&parents[0], &parents[1]));
    let id = SliceId { slot: SLOT, index: SliceIndex::new(2).unwrap() };
    let signed = SignedRoot::sign(&SliceSigner::new(&identity(LEADER.0)), CLUSTER, id, false, root);
    let shred = |index: usize| {
        let mut shred = SLOT.0.to_le_bytes().to_vec();
        shred.extend([2, 0, index as u8, 0, 0, 0, 0, 0]);
        shred.extend(signed.signature.0);
        shred.extend(leaves[index ^ 1]);
        shred.extend(parents[1]);
        shred.extend(&pieces[index]);
        [&(shred.len() as u16).to_le_bytes()[..], &shred].concat()
    };
    let shreds = Some([shred(0), shred(1)].concat().into());
    Proof::malformed(LEADER, MalformedSlice { signed, defect: Defect::Lengths, shreds })
}

fn endless() -> Proof {
    let signed = signed(SLICES_MAX - 1, false, 1);
    Proof::malformed(LEADER, MalformedSlice { signed, defect: Defect::Endless, shreds: None })
}

#[test]
fn proofs_of_every_kind_hold_and_survive_encoding() {
    let authority = authority();
    for proof in [two_slices(), two_votes(), malformed(), endless()] {
        assert_eq!(proof.check(&authority), Ok(Standing::Proven), "{proof:?}");
        let bytes = proof.encode();
        assert_eq!(bytes.len(), proof.encoded_bytes());
        let decoded = Proof::decode(&bytes).unwrap();
        assert_eq!(decoded.encode(), bytes);
        assert_eq!(decoded.check(&authority), Ok(Standing::Proven));
        assert_eq!((decoded.validator, decoded.slot(), decoded.kind()), (proof.validator, SLOT, proof.kind()));
    }
}

#[test]
fn no_proof_holds_with_any_byte_flipped_or_missing() {
    let authority = authority();
    for proof in [two_slices(), two_votes(), malformed(), endless()] {
        let bytes = proof.encode();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            let holds = Proof::decode(&flipped).is_ok_and(|proof| proof.check(&authority).is_ok());
            assert!(!holds, "{proof:?}, byte {at}");
        }
        for length in 0..bytes.len() {
            let holds = |proof: Proof| proof.check(&authority) == Ok(Standing::Proven);
            assert!(!Proof::decode(&bytes[..length]).is_ok_and(holds), "{proof:?}, the first {length} bytes");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(!Proof::decode(&longer).is_ok_and(|proof| proof.check(&authority).is_ok()), "{proof:?}");
    }
}

#[test]
fn what_is_no_offence_is_no_proof() {
    let authority = authority();
    let slices = |first, second| Proof::slices(LEADER, Equivocation { first, second }).check(&authority);
    assert_eq!(slices(signed(2, true, 1), signed(1, false, 2)), Err(ProofError::NoContradiction));
    assert_eq!(slices(signed(2, true, 1), signed(3, false, 2)), Ok(Standing::Proven));
    let by_another = SignedRoot {
        signature: SignedRoot::sign(
            &SliceSigner::new(&identity(0)),
            CLUSTER,
            signed(2, false, 2).id,
            false,
            Hash([2; 32]),
        )
        .signature,
        ..signed(2, false, 2)
    };
    assert_eq!(slices(signed(2, false, 1), by_another), Err(ProofError::Signature));
    let of_another = Proof { validator: ValidatorIndex(0), ..two_slices() };
    assert_eq!(of_another.check(&authority), Err(ProofError::NotLeader(0)));
    assert_eq!(Proof { validator: ValidatorIndex(7), ..two_slices() }.check(&authority), Err(ProofError::Validator(7)));
    let elsewhere = Authority { cluster: ClusterId([8; 32]), ..authority.clone() };
    for proof in [two_slices(), two_votes(), malformed(), endless()] {
        assert_eq!(proof.check(&elsewhere), Err(ProofError::Signature), "another cluster's: {proof:?}");
    }
    let Offence::MalformedSlice(without) = malformed().offence else { unreachable!() };
    let without = Proof::malformed(LEADER, MalformedSlice { shreds: None, ..without });
    assert_eq!(without.check(&authority), Ok(Standing::SignedOnly));
}

#[test]
fn votes_exclude_each_other_by_these_rules_and_no_others() {
    use VotePayload::{Final, Notar, NotarFallback, Skip, SkipFallback};
    let votes = [
        Notar(block(1)),
        Notar(block(2)),
        NotarFallback(block(1)),
        NotarFallback(block(2)),
        Skip(SLOT),
        SkipFallback(SLOT),
        Final(SLOT),
    ];
    let excluded: Vec<(usize, usize)> = (0..votes.len())
        .flat_map(|one| (one..votes.len()).map(move |other| (one, other)))
        .filter(|&(one, other)| {
            assert_eq!(excludes(&votes[one], &votes[other]), excludes(&votes[other], &votes[one]));
            excludes(&votes[one], &votes[other])
        })
        .collect();
    assert_eq!(excluded, [(0, 1), (0, 4), (1, 4), (2, 6), (3, 6), (4, 6), (5, 6)]);
    assert!(!excludes(&Skip(SLOT), &Final(SLOT.next())), "another slot");
    let authority = authority();
    let of_two = Proof::votes(vote(Notar(block(1)), 1), vote(Skip(SLOT), 2));
    assert_eq!(of_two.check(&authority), Err(ProofError::NoContradiction));
    let forged = UnverifiedVote { signature: SignatureBytes([1; 96]), ..vote(Skip(SLOT), 2) };
    assert_eq!(Proof::votes(vote(Notar(block(1)), 2), forged).check(&authority), Err(ProofError::Signature));
}

/// A proof whose signatures nobody has made, for what only counts.
fn unsigned(validator: u16, slot: u64, shreds_bytes: usize) -> Proof {
    let id = SliceId { slot: Slot(slot), index: SliceIndex::default() };
    let signed = SignedRoot { id, ..signed(0, false, 1) };
    let shreds = Some(vec![0; shreds_bytes].into());
    Proof::malformed(ValidatorIndex(validator), MalformedSlice { signed, defect: Defect::Code, shreds })
}

#[test]
fn of_each_validator_and_kind_a_few_are_kept_and_each_slot_once() {
    let mut ledger = Ledger::new();
    for (kept, slot) in (1..100).enumerate() {
        let admitted = ledger.admit(unsigned(1, slot, 10));
        let again = ledger.admit(unsigned(1, slot, 10));
        if kept < MALFORMED_MAX {
            assert!(admitted.is_ok() && again.unwrap_err() == Refusal::Known);
        } else {
            assert!(admitted.unwrap_err() == Refusal::Enough && again.unwrap_err() == Refusal::Enough);
        }
    }
    assert!(ledger.admit(unsigned(2, 1, 10)).is_ok(), "another leader's");
    let mut kept = 0;
    for slot in 0..100 {
        let at = |payload| UnverifiedVote { payload, ..vote(VotePayload::Skip(SLOT), 1) };
        let votes = Proof::votes(at(VotePayload::Skip(Slot(slot))), at(VotePayload::Final(Slot(slot))));
        kept += usize::from(ledger.admit(votes).is_ok());
    }
    assert_eq!(kept, SIGNED_MAX, "another kind");
}

#[test]
fn shreds_leave_room_for_what_consists_of_signatures() {
    let mut ledger = Ledger::new();
    let mut with_shreds = 0;
    for validator in 0..2_000 {
        for slot in 0..MALFORMED_MAX as u64 {
            let kept = ledger.admit(unsigned(validator, slot, 1 << 20)).unwrap();
            assert!(matches!(&kept.offence, Offence::MalformedSlice(slice) if slice.signed.id.slot.0 == slot));
            with_shreds += usize::from(kept.encoded_bytes() > 1 << 20);
        }
    }
    assert_eq!(with_shreds, 31, "as many as half of the room holds");
    assert!(ledger.bytes() < BYTES_MAX / 2 + (4 << 20));
    let oversized = Ledger::new().admit(unsigned(0, 1, PROOF_BYTES_MAX)).unwrap();
    assert!(oversized.encoded_bytes() < 1_000);
}
