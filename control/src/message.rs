//! Bodies of vote and certificate datagrams: rkyv, validated, of exact length, with one encoding for each message.

use std::sync::Arc;

use alpenglow_rotor::types::{Hash, Slot, VALIDATORS_MAX, ValidatorIndex};
use rkyv::rancor;

use crate::bls::{SIGNATURE_BYTES, SignatureBytes};
use crate::certificate::{Certificate, CertificateKind, Signers, Statement, UnverifiedCertificate};
use crate::vote::{UnverifiedVote, Vote, VoteKind, VotePayload};

/// Most bytes of a certificate's body: two bitmaps of 2,000 bits and some 150 bytes around them.
pub const CERTIFICATE_BYTES_MAX: usize = 160 + 2 * VALIDATORS_MAX.div_ceil(8);

/// A message to all validators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// An own vote.
    Vote(Vote),
    /// A certificate newly held.
    Certificate(Arc<Certificate>),
}

impl Message {
    /// The datagram's body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Vote(vote) => encode_vote(vote),
            Self::Certificate(certificate) => encode_certificate(certificate),
        }
    }
}

/// Why a body is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Not what rkyv lays out for the message, or of another length.
    #[error("not a well-formed message")]
    Layout,
    /// Another encoding of a message than the one that counts.
    #[error("not the canonical encoding of its message")]
    NotCanonical,
    /// An unknown kind, or a hash where none belongs.
    #[error("unknown kind, or a hash that does not belong to it")]
    Kind,
    /// A bitmap that does not fit the validator set.
    #[error("a bitmap does not fit the validator set")]
    Bitmap,
}

impl MessageError {
    /// Stable name for counters.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Layout => "message_layout",
            Self::NotCanonical => "message_not_canonical",
            Self::Kind => "message_kind",
            Self::Bitmap => "message_bitmap",
        }
    }
}

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct WireVote {
    kind: u8,
    slot: u64,
    /// Zero for kinds without a hash.
    hash: [u8; 32],
    signature: [u8; SIGNATURE_BYTES],
}

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct WireCertificate {
    kind: u8,
    slot: u64,
    /// Zero for kinds without a hash.
    hash: [u8; 32],
    signature: [u8; SIGNATURE_BYTES],
    signers: Vec<u8>,
    /// Empty if nobody is in it.
    fallback_signers: Vec<u8>,
}

/// The body of a vote's datagram. The signer is not in it: it is the datagram's authenticated sender.
#[must_use]
pub fn encode_vote(vote: &Vote) -> Vec<u8> {
    encode_vote_parts(vote.payload, vote.signature)
}

fn encode_vote_parts(payload: VotePayload, signature: SignatureBytes) -> Vec<u8> {
    let wire = WireVote {
        kind: payload.kind() as u8,
        slot: payload.slot().0,
        hash: payload.hash().map_or([0; 32], |hash| hash.0),
        signature: signature.0,
    };
    rkyv::to_bytes::<rancor::Error>(&wire).expect("a plain struct can be laid out").to_vec()
}

/// Reads the body of a vote's datagram from `sender`.
///
/// # Errors
/// [`MessageError`] for anything but the one encoding of a vote.
pub fn decode_vote(body: &[u8], sender: ValidatorIndex) -> Result<UnverifiedVote, MessageError> {
    if body.len() != size_of::<ArchivedWireVote>() {
        return Err(MessageError::Layout);
    }
    let wire = rkyv::access::<ArchivedWireVote, rancor::Error>(body).map_err(|_| MessageError::Layout)?;
    let kind = VoteKind::from_number(wire.kind).ok_or(MessageError::Kind)?;
    let (slot, hash) = (Slot(wire.slot.to_native()), kind.has_hash().then_some(Hash(wire.hash)));
    let payload = VotePayload::from_parts(kind, slot, hash).ok_or(MessageError::Kind)?;
    let vote = UnverifiedVote { payload, signer: sender, signature: SignatureBytes(wire.signature) };
    if encode_vote_parts(vote.payload, vote.signature) == body { Ok(vote) } else { Err(MessageError::NotCanonical) }
}

/// The body of a certificate's datagram.
#[must_use]
pub fn encode_certificate(certificate: &Certificate) -> Vec<u8> {
    let fallback = &certificate.fallback_signers;
    let wire = WireCertificate {
        kind: certificate.statement.kind() as u8,
        slot: certificate.statement.slot().0,
        hash: certificate.statement.block().map_or([0; 32], |block| block.hash.0),
        signature: certificate.signature.0,
        signers: certificate.signers.as_bytes().to_vec(),
        fallback_signers: if fallback.is_empty() { Vec::new() } else { fallback.as_bytes().to_vec() },
    };
    rkyv::to_bytes::<rancor::Error>(&wire).expect("a plain struct can be laid out").to_vec()
}

/// Reads the body of a certificate's datagram for a set of `validators`.
///
/// # Errors
/// [`MessageError`] for anything but the one encoding of a certificate.
pub fn decode_certificate(body: &[u8], validators: usize) -> Result<UnverifiedCertificate, MessageError> {
    if body.len() > CERTIFICATE_BYTES_MAX {
        return Err(MessageError::Layout);
    }
    let wire = rkyv::access::<ArchivedWireCertificate, rancor::Error>(body).map_err(|_| MessageError::Layout)?;
    let kind = CertificateKind::from_number(wire.kind).ok_or(MessageError::Kind)?;
    let (slot, hash) = (Slot(wire.slot.to_native()), kind.has_hash().then_some(Hash(wire.hash)));
    let statement = Statement::from_parts(kind, slot, hash).ok_or(MessageError::Kind)?;
    let signers = Signers::from_bytes(validators, &wire.signers).ok_or(MessageError::Bitmap)?;
    let fallback_signers = if wire.fallback_signers.is_empty() {
        Signers::none(validators)
    } else {
        Signers::from_bytes(validators, &wire.fallback_signers).ok_or(MessageError::Bitmap)?
    };
    let certificate = Certificate { statement, signers, fallback_signers, signature: SignatureBytes(wire.signature) };
    if encode_certificate(&certificate) == body {
        Ok(UnverifiedCertificate(certificate))
    } else {
        Err(MessageError::NotCanonical)
    }
}

#[cfg(test)]
mod tests {
    use alpenglow_rotor::types::BlockId;
    use proptest::prelude::*;

    use super::*;

    /// What a datagram of the default limit leaves for its body.
    const BODY_BYTES_MAX: usize = 1_232 - 32;

    fn payload() -> impl Strategy<Value = VotePayload> {
        (0u8..5, any::<u64>(), any::<[u8; 32]>()).prop_map(|(kind, slot, hash)| {
            let (slot, hash) = (Slot(slot), Hash(hash));
            match kind {
                0 => VotePayload::Notar(BlockId { slot, hash }),
                1 => VotePayload::NotarFallback(BlockId { slot, hash }),
                2 => VotePayload::Skip(slot),
                3 => VotePayload::SkipFallback(slot),
                _ => VotePayload::Final(slot),
            }
        })
    }

    fn statement() -> impl Strategy<Value = Statement> {
        (0u8..5, any::<u64>(), any::<[u8; 32]>()).prop_map(|(kind, slot, hash)| {
            let (slot, hash) = (Slot(slot), Hash(hash));
            match kind {
                0 => Statement::Fast(BlockId { slot, hash }),
                1 => Statement::Notarization(BlockId { slot, hash }),
                2 => Statement::NotarFallback(BlockId { slot, hash }),
                3 => Statement::Skip(slot),
                _ => Statement::Finalization(slot),
            }
        })
    }

    fn signers(validators: usize) -> impl Strategy<Value = Signers> {
        prop::collection::vec(any::<bool>(), validators).prop_map(move |chosen| {
            let indices = chosen.iter().enumerate().filter(|(_, chosen)| **chosen);
            Signers::of(validators, indices.map(|(at, _)| ValidatorIndex(at as u16)))
        })
    }

    fn certificate() -> impl Strategy<Value = Certificate> {
        (1usize..70).prop_flat_map(|validators| {
            (statement(), signers(validators), signers(validators), any::<[u8; 96]>()).prop_map(
                |(statement, signers, fallback_signers, signature)| Certificate {
                    statement,
                    signers,
                    fallback_signers,
                    signature: SignatureBytes(signature),
                },
            )
        })
    }

    fn full(statement: Statement) -> Certificate {
        let everyone = Signers::of(VALIDATORS_MAX, (0..VALIDATORS_MAX).map(|at| ValidatorIndex(at as u16)));
        Certificate {
            statement,
            signers: everyone.clone(),
            fallback_signers: everyone,
            signature: SignatureBytes([0xff; 96]),
        }
    }

    #[test]
    fn every_kind_of_certificate_fits_a_datagram_with_2000_validators_in_both_bitmaps() {
        let block = BlockId { slot: Slot(u64::MAX), hash: Hash([0xff; 32]) };
        let statements = [
            Statement::Fast(block),
            Statement::Notarization(block),
            Statement::NotarFallback(block),
            Statement::Skip(block.slot),
            Statement::Finalization(block.slot),
        ];
        for statement in statements {
            let body = encode_certificate(&full(statement));
            assert!(body.len() <= CERTIFICATE_BYTES_MAX && body.len() <= BODY_BYTES_MAX, "{} bytes", body.len());
            assert_eq!(decode_certificate(&body, VALIDATORS_MAX), Ok(UnverifiedCertificate(full(statement))));
        }
    }

    #[test]
    fn the_bytes_of_a_vote_stay_what_they_are() {
        let payload = VotePayload::NotarFallback(BlockId { slot: Slot(0x0102), hash: Hash([0xab; 32]) });
        let body = encode_vote_parts(payload, SignatureBytes([0xcd; 96]));
        let mut golden = vec![2, 0x02, 0x01, 0, 0, 0, 0, 0, 0];
        golden.extend([0xab; 32]);
        golden.extend([0xcd; 96]);
        assert_eq!(body, golden);
    }

    #[test]
    fn the_bytes_of_a_certificate_stay_what_they_are() {
        let statement = Statement::Skip(Slot(0x0102));
        let signers = Signers::of(10, [ValidatorIndex(0), ValidatorIndex(9)]);
        let fallback_signers = Signers::of(10, [ValidatorIndex(3)]);
        let body = encode_certificate(&Certificate {
            statement,
            signers,
            fallback_signers,
            signature: SignatureBytes([0xcd; 96]),
        });
        // The bitmaps come first; the fixed part ends with where they lie (backwards from there) and their lengths.
        let mut golden = vec![0x01, 0x02, 0x08, 0x00];
        golden.extend([4, 0x02, 0x01, 0, 0, 0, 0, 0, 0]);
        golden.extend([0; 32]);
        golden.extend([0xcd; 96]);
        golden.extend((-141i32).to_le_bytes());
        golden.extend(2u32.to_le_bytes());
        golden.extend((-147i32).to_le_bytes());
        golden.extend(2u32.to_le_bytes());
        assert_eq!(body, golden);
    }

    #[test]
    fn bits_past_the_validator_set_are_refused() {
        let certificate = Certificate {
            statement: Statement::Skip(Slot(1)),
            signers: Signers::of(16, [ValidatorIndex(10)]),
            fallback_signers: Signers::none(16),
            signature: SignatureBytes([0; 96]),
        };
        let body = encode_certificate(&certificate);
        assert!(decode_certificate(&body, 16).is_ok());
        assert!(decode_certificate(&body, 11).is_ok(), "the same two bytes");
        assert_eq!(decode_certificate(&body, 10), Err(MessageError::Bitmap));
        assert_eq!(decode_certificate(&body, 8), Err(MessageError::Bitmap), "a byte too many");
        assert_eq!(decode_certificate(&body, 17), Err(MessageError::Bitmap), "a byte too few");
    }

    #[test]
    fn an_empty_second_bitmap_has_one_encoding() {
        let certificate = full(Statement::Skip(Slot(1)));
        let wire = WireCertificate {
            kind: 4,
            slot: 1,
            hash: [0; 32],
            signature: certificate.signature.0,
            signers: certificate.signers.as_bytes().to_vec(),
            fallback_signers: vec![0; 250],
        };
        let body = rkyv::to_bytes::<rancor::Error>(&wire).unwrap();
        assert_eq!(decode_certificate(&body, VALIDATORS_MAX), Err(MessageError::NotCanonical));
    }

    #[test]
    fn unknown_kinds_and_stray_hashes_are_refused() {
        let signature = SignatureBytes([1; 96]);
        let mut vote = encode_vote_parts(VotePayload::Skip(Slot(1)), signature);
        vote[9] = 1;
        assert_eq!(decode_vote(&vote, ValidatorIndex(0)), Err(MessageError::NotCanonical));
        vote[0] = 6;
        assert_eq!(decode_vote(&vote, ValidatorIndex(0)), Err(MessageError::Kind));
        vote[0] = 0;
        assert_eq!(decode_vote(&vote, ValidatorIndex(0)), Err(MessageError::Kind));
    }

    proptest! {
        #[test]
        fn votes_round_trip(payload in payload(), signature in any::<[u8; 96]>(), signer in any::<u16>()) {
            let vote = Vote { payload, signer: ValidatorIndex(signer), signature: SignatureBytes(signature) };
            let read = decode_vote(&encode_vote(&vote), vote.signer).unwrap();
            prop_assert_eq!((read.payload, read.signer, read.signature), (payload, vote.signer, vote.signature));
        }

        #[test]
        fn certificates_round_trip(certificate in certificate(), validators in 1usize..70) {
            let body = encode_certificate(&certificate);
            let own_size = certificate.signers.as_bytes().len();
            match decode_certificate(&body, validators) {
                Ok(read) => prop_assert_eq!(&read.0, &certificate),
                Err(error) => prop_assert_eq!(error, MessageError::Bitmap),
            }
            let read = decode_certificate(&body, own_size * 8);
            prop_assert_eq!(read, Ok(UnverifiedCertificate(certificate)));
        }

        #[test]
        fn truncated_and_extended_bodies_are_refused(certificate in certificate(), payload in payload(), cut in 0usize..400) {
            let validators = certificate.signers.as_bytes().len() * 8;
            let mut body = encode_certificate(&certificate);
            prop_assert!(decode_certificate(&body[..cut.min(body.len() - 1)], validators).is_err());
            body.push(0);
            prop_assert!(decode_certificate(&body, validators).is_err());
            body.insert(0, 0);
            prop_assert!(decode_certificate(&body[..body.len() - 1], validators).is_err());
            let mut body = encode_vote_parts(payload, SignatureBytes([7; 96]));
            prop_assert!(decode_vote(&body[..cut.min(body.len() - 1)], ValidatorIndex(0)).is_err());
            body.push(0);
            prop_assert!(decode_vote(&body, ValidatorIndex(0)).is_err());
        }

        #[test]
        fn mutated_bodies_are_refused_or_are_the_encoding_of_what_they_say(
            certificate in certificate(),
            payload in payload(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let validators = certificate.signers.as_bytes().len() * 8;
            let mut body = encode_certificate(&certificate);
            let mut vote_body = encode_vote_parts(payload, SignatureBytes([7; 96]));
            for (at, value) in changes {
                let at_certificate = at.index(body.len());
                body[at_certificate] = value;
                let at_vote = at.index(vote_body.len());
                vote_body[at_vote] = value;
            }
            if let Ok(read) = decode_certificate(&body, validators) {
                prop_assert_eq!(encode_certificate(&read.0), body);
            }
            if let Ok(read) = decode_vote(&vote_body, ValidatorIndex(0)) {
                prop_assert_eq!(encode_vote_parts(read.payload, read.signature), vote_body);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..700), validators in 1usize..=VALIDATORS_MAX) {
            let _ = decode_vote(&body, ValidatorIndex(0));
            let _ = decode_certificate(&body, validators);
        }
    }
}
