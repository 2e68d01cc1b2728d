//! The signatures of simulations do in a simulation what the curve's do, and nothing anywhere else. Cargo builds the
//! workspace's crates with the union of their features, so a node must be safe that has this one built in.

use std::sync::Arc;

use alpenglow_control::bls::{
    BlsError, PublicKey, PublicKeySum, Scheme, SecretKey, Signature, SignatureSum, verify, verify_terms,
};
use alpenglow_control::certificate::{Certificate, CertificateError, Signers, Statement, UnverifiedCertificate};
use alpenglow_control::checker::{CheckJob, CheckVerdict, Checker};
use alpenglow_control::stakes::Stakes;
use alpenglow_control::vote::{UnverifiedVote, VotePayload};
use alpenglow_control::voting_keys::{VotingKeys, VotingKeysError};
use alpenglow_rotor::types::{BlockId, ClusterId, Hash, Slot, Stake, ValidatorIndex};

const CLUSTER: ClusterId = ClusterId([9; 32]);
const BLOCK: BlockId = BlockId { slot: Slot(7), hash: Hash([3; 32]) };

fn stand_in(seed: u8) -> SecretKey {
    SecretKey::stand_in(&[seed; 32])
}

fn of_curve(seed: u8) -> SecretKey {
    SecretKey::from_entropy(&[seed; 32])
}

fn vote(payload: VotePayload, signer: u16, key: &SecretKey) -> UnverifiedVote {
    let signature = key.sign(&payload.hashed_in(CLUSTER, key.scheme())).to_bytes();
    UnverifiedVote { payload, signer: ValidatorIndex(signer), signature }
}

fn certificate(keys: &[SecretKey]) -> UnverifiedCertificate {
    let statement = Statement::Fast(BLOCK);
    let signatures: Vec<_> =
        keys.iter().map(|key| key.sign(&statement.payload().hashed_in(CLUSTER, key.scheme()))).collect();
    UnverifiedCertificate(Certificate {
        statement,
        signers: Signers::of(keys.len(), (0..keys.len() as u16).map(ValidatorIndex)),
        fallback_signers: Signers::none(keys.len()),
        signature: SignatureSum::of(&signatures).to_bytes(),
    })
}

fn checker(keys: VotingKeys) -> Checker {
    let stakes = Stakes::new(vec![Stake(1); keys.len()]);
    Checker::new(CLUSTER, Arc::new(keys), Arc::new(stakes))
}

fn read(keys: &[SecretKey]) -> Result<VotingKeys, VotingKeysError> {
    let entries: Vec<_> = keys.iter().map(|key| (key.public_key().to_bytes(), key.prove_possession())).collect();
    VotingKeys::new(&entries)
}

#[test]
fn nothing_that_reads_bytes_takes_them() {
    let key = stand_in(1);
    let signature = key.sign(&key.scheme().hash(b"payload")).to_bytes();
    assert_eq!(Signature::from_bytes(&signature).err(), Some(BlsError::Encoding));
    assert_eq!(PublicKey::from_bytes(&key.public_key().to_bytes()).err(), Some(BlsError::Encoding));
    assert_eq!(SecretKey::from_bytes(&key.to_bytes()).err(), Some(BlsError::Scalar));
    let refused = VotingKeysError::Key { validator: 0, reason: BlsError::Encoding };
    assert_eq!(read(&[key]).err(), Some(refused));
    assert_eq!(
        read(&[of_curve(1), of_curve(2), stand_in(3)]).err(),
        Some(VotingKeysError::Key { validator: 2, reason: BlsError::Encoding })
    );
}

#[test]
fn a_node_refuses_their_votes_and_certificates() {
    let keys: Vec<_> = (1..=5).map(of_curve).collect();
    let mut checker = checker(read(&keys).unwrap());
    let votes: Vec<_> = (0..5).map(|signer| vote(VotePayload::Notar(BLOCK), signer, &stand_in(signer as u8))).collect();
    let CheckVerdict::Votes { verified, rejected } = checker.check(CheckJob::votes(votes)) else { panic!("of votes") };
    assert_eq!((verified.len(), rejected.len()), (0, 5));
    let certificate = certificate(&(1..=5).map(stand_in).collect::<Vec<_>>());
    let verdict = checker.check(CheckJob::certificate(certificate, ValidatorIndex(0)));
    assert!(matches!(verdict, CheckVerdict::CertificateRejected { reason: CertificateError::Signature, .. }));
}

#[test]
fn a_set_of_them_takes_nothing_of_the_curve() {
    let mut checker = checker(VotingKeys::stand_in((1..=5).map(|seed| stand_in(seed).public_key()).collect()));
    let votes: Vec<_> = (0..5).map(|signer| vote(VotePayload::Notar(BLOCK), signer, &of_curve(signer as u8))).collect();
    let CheckVerdict::Votes { verified, rejected } = checker.check(CheckJob::votes(votes)) else { panic!("of votes") };
    assert_eq!((verified.len(), rejected.len()), (0, 5));
}

/// Who passed and who was refused among six votes of which those of `wrong` are signed with another key, and whether a
/// certificate of all six holds.
fn verdicts(key: fn(u8) -> SecretKey, set: VotingKeys, wrong: &[u16]) -> (Vec<u16>, Vec<u16>, bool) {
    let mut checker = checker(set);
    let signer_key = |signer: u16| key(if wrong.contains(&signer) { 77 } else { signer as u8 });
    let votes = (0..6).map(|signer| vote(VotePayload::Final(Slot(9)), signer, &signer_key(signer))).collect::<Vec<_>>();
    let CheckVerdict::Votes { verified, rejected } = checker.check(CheckJob::votes(votes)) else { panic!("of votes") };
    let mut passed: Vec<_> = verified.iter().flat_map(|votes| votes.signers()).map(|signer| signer.0).collect();
    passed.sort_unstable();
    let mut refused: Vec<_> = rejected.iter().map(|vote| vote.signer.0).collect();
    refused.sort_unstable();
    let certificate = certificate(&(0..6).map(signer_key).collect::<Vec<_>>());
    let verdict = checker.check(CheckJob::certificate(certificate, ValidatorIndex(0)));
    (passed, refused, matches!(verdict, CheckVerdict::Certificate { .. }))
}

#[test]
fn they_pass_and_fail_where_the_curves_do() {
    for wrong in [&[][..], &[0], &[5], &[2, 3], &[0, 1, 2, 3, 4, 5]] {
        let cheap = VotingKeys::stand_in((0..6).map(|seed| stand_in(seed).public_key()).collect());
        let real = read(&(0..6).map(of_curve).collect::<Vec<_>>()).unwrap();
        assert_eq!(verdicts(stand_in, cheap, wrong), verdicts(of_curve, real, wrong), "{wrong:?}");
    }
}

#[test]
fn sums_are_linear_and_infinity_verifies_nothing() {
    let keys: Vec<_> = (1..=4).map(stand_in).collect();
    let scheme = keys[0].scheme();
    let (first, second) = (scheme.hash(b"first"), scheme.hash(b"second"));
    let public = |range: &[SecretKey]| PublicKeySum::of(&range.iter().map(SecretKey::public_key).collect::<Vec<_>>());
    let signatures = SignatureSum::of(&[keys[0].sign(&first), keys[1].sign(&first), keys[2].sign(&second)]);
    let (of_first, of_second) = (public(&keys[..2]), public(&keys[2..3]));
    assert!(verify_terms(&[(&first, &of_first), (&second, &of_second)], &signatures));
    assert!(!verify_terms(&[(&first, &of_second), (&second, &of_first)], &signatures));
    let part = signatures.minus(&SignatureSum::from(keys[2].sign(&second)));
    assert!(verify(&first, &of_first, &part) && !verify(&second, &of_first, &part));
    let nobody = public(&keys).minus(&public(&keys));
    assert!(nobody.is_infinity() && !verify(&first, &nobody, &part));
    assert!(!verify(&first, &of_first, &part.minus(&part)));
    let empty = PublicKeySum::of(&[]);
    assert!(verify(&first, &empty.plus(&of_first), &part) && verify(&first, &of_first.minus(&empty), &part));
    assert_eq!(scheme.signature(&part.to_bytes()).unwrap().to_bytes(), part.to_bytes());
}

#[test]
fn a_key_that_was_read_is_of_the_curve() {
    let key = SecretKey::from_bytes(&of_curve(1).to_bytes()).unwrap();
    let signature = key.sign(&Scheme::CURVE.hash(b"payload"));
    assert!(verify(&key.scheme().hash(b"payload"), &PublicKeySum::of(&[key.public_key()]), &signature.into()));
}
