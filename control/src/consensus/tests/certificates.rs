//! Certificates of votes that are really signed and checked.

use super::*;
use crate::bls::tests::keys_that_cancel_out;
use crate::bls::{ProofOfPossession, PublicKeyBytes};
use crate::certificate::{CertificateError, CertificateKind};
use crate::checker::{CheckJob, CheckVerdict, Checker};
use crate::voting_keys::VotingKeys;

/// A set of validators with real keys, whose votes are really signed and checked.
struct Signing {
    checker: Checker,
    node: Node,
    keys: Vec<SecretKey>,
}

impl Signing {
    fn new(stakes: &[u64]) -> Self {
        Self::with_keys(stakes, (0..stakes.len() as u16).map(key).collect())
    }

    fn with_keys(stakes: &[u64], keys: Vec<SecretKey>) -> Self {
        let entries: Vec<(PublicKeyBytes, ProofOfPossession)> =
            keys.iter().map(|key| (key.public_key().to_bytes(), key.prove_possession())).collect();
        let public_keys = Arc::new(VotingKeys::new(&entries).unwrap());
        let node = Node::new(stakes);
        Self { checker: Checker::new(CLUSTER, public_keys, Arc::clone(&node.stakes)), node, keys }
    }

    /// A batch of really signed votes, admitted, checked as a whole and stored.
    fn vote(&mut self, payload: VotePayload, signers: &[u16]) {
        let hashed = payload.hashed(CLUSTER);
        let votes = signers.iter().map(|signer| UnverifiedVote {
            payload,
            signer: ValidatorIndex(*signer),
            signature: self.keys[usize::from(*signer)].sign(&hashed).to_bytes(),
        });
        let consensus = &mut self.node.consensus;
        let admitted: Vec<_> = votes.filter(|vote| consensus.admit(vote) == Admission::Check).collect();
        if admitted.is_empty() {
            return;
        }
        let CheckVerdict::Votes { verified, rejected } = self.checker.check(CheckJob::votes(admitted)) else {
            panic!("votes were asked for")
        };
        assert_eq!(rejected, []);
        for batch in verified {
            self.node.consensus.votes(self.node.now, batch);
        }
    }

    /// The certificates made since the last look, as another node finds them.
    fn made(&mut self) -> Vec<(CertificateKind, Result<(), CertificateError>)> {
        let events = self.node.events();
        let certificates = events.into_iter().filter_map(|event| match event {
            ConsensusEvent::Certificate(certificate) => Some(certificate),
            _ => None,
        });
        let mut made = Vec::new();
        for certificate in certificates {
            let body = crate::message::encode_certificate(&certificate);
            let received = crate::message::decode_certificate(&body, self.node.stakes.len()).unwrap();
            let job = CheckJob::certificate(received, ValidatorIndex(0));
            let verdict = match self.checker.check(job) {
                CheckVerdict::Certificate { .. } => Ok(()),
                CheckVerdict::CertificateRejected { reason, .. } => Err(reason),
                CheckVerdict::Votes { .. } => panic!("a certificate was asked for"),
            };
            made.push((certificate.statement.kind(), verdict));
        }
        made
    }
}

#[test]
fn defect_1_every_certificate_holds_the_vote_that_decided_and_is_accepted_by_others() {
    let mut set = Signing::new(&[1; 10]);
    // The vote that crosses the threshold comes alone, in a batch, and from the node itself.
    set.vote(Notar(block(1, 1)), &[1, 2, 3, 4, 5]);
    assert_eq!(set.made(), []);
    set.node.hold(block(1, 1), BlockId::GENESIS);
    assert_eq!(set.made(), [(CertificateKind::Notarization, Ok(()))]);
    set.vote(Final(Slot(1)), &[1, 2]);
    set.vote(Final(Slot(1)), &[3, 4, 5, 6]);
    assert_eq!(set.made(), [(CertificateKind::Finalization, Ok(()))]);

    // Both bitmaps; validator 3 is in both, its fallback vote first.
    set.vote(NotarFallback(block(2, 2)), &[3, 4, 5]);
    set.vote(Notar(block(2, 2)), &[1, 2, 3]);
    assert_eq!(set.made(), []);
    set.vote(NotarFallback(block(2, 2)), &[6]);
    assert_eq!(set.made(), [(CertificateKind::NotarFallback, Ok(()))]);
    set.vote(Notar(block(2, 2)), &[4, 5, 7]);
    assert_eq!(set.made(), [(CertificateKind::Notarization, Ok(()))]);
    set.vote(Notar(block(2, 2)), &[8, 9]);
    assert_eq!(set.made(), [(CertificateKind::Fast, Ok(()))]);

    set.vote(SkipFallback(Slot(3)), &[1, 2, 3]);
    set.vote(Skip(Slot(3)), &[3, 4]);
    set.node.advance_to(milliseconds(60_000));
    assert_eq!(set.made(), []);
    set.vote(Skip(Slot(3)), &[5]);
    assert_eq!(set.made(), [(CertificateKind::Skip, Ok(()))]);
}

#[test]
fn only_one_of_the_two_finalization_certificates_goes_out_and_once() {
    let mut slow = Signing::new(&[1; 10]);
    slow.vote(Notar(block(1, 1)), &[1, 2, 3, 4, 5, 6]);
    slow.vote(Final(Slot(1)), &[1, 2, 3, 4, 5, 6]);
    slow.vote(Notar(block(1, 1)), &[7, 8, 9]);
    assert_eq!(slow.made(), [(CertificateKind::Notarization, Ok(())), (CertificateKind::Finalization, Ok(()))]);
    let mut fast = Signing::new(&[1; 10]);
    fast.vote(Notar(block(1, 1)), &[1, 2, 3, 4, 5]);
    fast.vote(Final(Slot(1)), &[1, 2, 3, 4, 5]);
    fast.vote(Notar(block(1, 1)), &[6, 7, 8]);
    fast.vote(Final(Slot(1)), &[6, 7]);
    fast.node.certificate(Statement::Fast(block(1, 1))).certificate(Statement::Finalization(Slot(1)));
    assert_eq!(fast.made(), [(CertificateKind::Fast, Ok(()))], "one batch crosses both thresholds");
}

#[test]
fn defect_2_a_certificate_of_one_heavy_vote_is_accepted_by_others() {
    let mut set = Signing::new(&[10, 60, 30]);
    set.vote(Notar(block(1, 1)), &[1]);
    set.vote(Notar(block(1, 1)), &[2]);
    assert_eq!(set.made(), [(CertificateKind::Notarization, Ok(())), (CertificateKind::Fast, Ok(()))]);
}

#[test]
fn defect_23_a_certificate_with_a_batch_of_cancelling_errors_is_accepted_by_others() {
    let mut set = Signing::new(&[1; 10]);
    let payload = Notar(block(1, 1));
    let hashed = payload.hashed(CLUSTER);
    let swapped = [(1, 2), (2, 1)].map(|(signer, signed_by)| UnverifiedVote {
        payload,
        signer: ValidatorIndex(signer),
        signature: key(signed_by).sign(&hashed).to_bytes(),
    });
    for vote in &swapped {
        assert_eq!(set.node.consensus.admit(vote), Admission::Check);
    }
    let CheckVerdict::Votes { verified, .. } = set.checker.check(CheckJob::votes(swapped.to_vec())) else {
        panic!("votes were asked for")
    };
    assert_eq!(verified.len(), 1, "wrong each by itself, right in sum");
    for batch in verified {
        set.node.consensus.votes(set.node.now, batch);
    }
    set.vote(payload, &[3, 4, 5, 6]);
    set.vote(payload, &[7, 8]);
    assert_eq!(set.made(), [(CertificateKind::Notarization, Ok(())), (CertificateKind::Fast, Ok(()))]);
}

#[test]
fn defect_24_fallback_votes_whose_keys_cancel_out_spoil_no_certificate() {
    let mut set = Signing::with_keys(&[1; 10], (0..7).map(key).chain(keys_that_cancel_out()).collect());

    set.vote(SkipFallback(Slot(1)), &[7, 8, 9]);
    set.vote(Skip(Slot(1)), &[1, 2, 3]);
    assert_eq!(set.made(), [], "nobody would accept it");
    set.vote(Skip(Slot(1)), &[4, 5, 6]);
    assert_eq!(set.made(), [(CertificateKind::Skip, Ok(()))]);

    set.vote(NotarFallback(block(2, 2)), &[7, 8, 9]);
    set.vote(Notar(block(2, 2)), &[1, 2, 3]);
    assert_eq!(set.made(), []);
    set.vote(NotarFallback(block(2, 2)), &[4]);
    assert_eq!(set.made(), [(CertificateKind::NotarFallback, Ok(()))], "with one more key they do not cancel out");
}
