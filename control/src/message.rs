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
    let kind = match wire.kind {
        1 => VoteKind::Notar,
        2 => VoteKind::NotarFallback,
        3 => VoteKind::Skip,
        4 => VoteKind::SkipFallback,
        5 => VoteKind::Final,
        _ => return Err(MessageError::Kind),
    };
    let with_hash = matches!(kind, VoteKind::Notar | VoteKind::NotarFallback);
    let payload = VotePayload::from_parts(kind, Slot(wire.slot.to_native()), with_hash.then_some(Hash(wire.hash)))
        .ok_or(MessageError::Kind)?;
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
    let kind = match wire.kind {
        1 => CertificateKind::Fast,
        2 => CertificateKind::Notarization,
        3 => CertificateKind::NotarFallback,
        4 => CertificateKind::Skip,
        5 => CertificateKind::Finalization,
        _ => return Err(MessageError::Kind),
    };
    let with_hash =
        matches!(kind, CertificateKind::Fast | CertificateKind::Notarization | CertificateKind::NotarFallback);
    let statement = Statement::from_parts(kind, Slot(wire.slot.to_native()), with_hash.then_some(Hash(wire.hash)))
        .ok_or(MessageError::Kind)?;
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
