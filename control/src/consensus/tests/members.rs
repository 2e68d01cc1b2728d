//! Members and stakes that change with the epochs.

use alpenglow_rotor::epochs::Epochs;
use alpenglow_rotor::schedule::EpochSeed;

use super::*;
use crate::certificate::CertificateError;

/// Five validators in epochs of 8 slots: from slot 8 on, validator 4 is a member, and validators 0 and 1 are none.
fn changing_members() -> Node {
    let stakes = |stakes: [u64; 5]| stakes.map(Stake).to_vec();
    let epochs = Epochs::new(8, stakes([1, 1, 1, 1, 0]), vec![(1, stakes([0, 0, 2, 3, 5]))], EpochSeed([1; 32]));
    Node::with_stakes(Stakes::of_epochs(Arc::new(epochs.unwrap())))
}

#[test]
fn votes_of_who_is_no_member_in_their_slot_are_refused() {
    let mut node = changing_members();
    let mut admission = |slot, signer| {
        let vote = node.unverified(Skip(Slot(slot)), signer);
        node.consensus.admit(&vote)
    };
    assert_eq!((admission(7, 1), admission(7, 4)), (Admission::Check, Admission::NotMember));
    assert_eq!((admission(8, 1), admission(8, 4)), (Admission::NotMember, Admission::Check));
    assert_eq!(admission(8, 5), Admission::Signer);
}

#[test]
fn certificates_count_the_stakes_of_their_own_slot_and_name_members_only() {
    let node = changing_members();
    let outcome = |slot, signers: &[u16]| {
        let certificate = node.unchecked_certificate(Statement::Skip(Slot(slot)), signers);
        assert_eq!(node.consensus.wants(&certificate), certificate.0.check_quorum(&node.stakes).is_ok());
        certificate.0.check_quorum(&node.stakes)
    };
    assert_eq!(outcome(7, &[1, 2, 3]), Ok(()));
    assert_eq!(outcome(7, &[1, 2, 3, 4]), Err(CertificateError::NotMember(4)));
    assert_eq!(outcome(8, &[2, 3]), Err(CertificateError::Stake { signed: 5, total: 10 }));
    assert_eq!(outcome(8, &[3, 4]), Ok(()));
    assert_eq!(outcome(8, &[1, 3, 4]), Err(CertificateError::NotMember(1)));
}

#[test]
fn a_node_keeps_silent_in_epochs_that_it_is_no_member_of() {
    let mut node = changing_members();
    node.hold(block(1, 1), BlockId::GENESIS);
    assert_eq!(node.cast(), [Notar(block(1, 1))]);
    // The last block before the boundary becomes final, and the first one after it follows.
    node.consensus.certificate(
        node.now,
        VerifiedCertificate::assume_checked(node.unchecked_certificate(Statement::Fast(block(7, 1)), &[0, 1, 2, 3]).0),
    );
    node.hold(block(8, 1), block(7, 1));
    assert_eq!(node.cast(), []);
    node.vote(Notar(block(8, 1)), [2, 4]);
    assert_eq!((node.finalized(), node.consensus.has_voted(Slot(8))), (vec![], false));
    node.vote(Notar(block(8, 1)), [3]);
    assert_eq!(node.finalized(), [block(8, 1)], "by the stakes of the new epoch");
    node.consensus.advance(milliseconds(60_000));
    assert_eq!(node.cast(), [], "no timeout makes it vote either");
}
