//! Proofs as bytes: one encoding for each, so that whoever has the bytes has the proof, and flipping any bit leaves
//! none.
//!
//! ```text
//! kind u8 | validator u16 | slot u64 | …
//!   slices:    statement, statement
//!   malformed: statement, defect u8, shreds to the end, if any
//!   votes:     vote, vote
//! statement: slice u16 | last flag u8 | root 32 | signature 64
//! vote:      kind u8 | hash 32, where the kind has one | signature 96
//! ```
//! Integers are little-endian.

use alpenglow_rotor::assembler::{Defect, Equivocation, MalformedSlice};
use alpenglow_rotor::signature::SignedRoot;
use alpenglow_rotor::slice::{SliceId, SlicePayload, SliceSignature};
use alpenglow_rotor::types::{Hash, SliceIndex, Slot, ValidatorIndex};

use super::{Offence, OffenceKind, Proof};
use crate::bls::{SIGNATURE_BYTES, SignatureBytes};
use crate::vote::{UnverifiedVote, VoteKind, VotePayload};

const HEAD_BYTES: usize = 1 + 2 + 8;
const STATEMENT_BYTES: usize = 2 + 1 + 32 + 64;
const VOTE_BYTES_MAX: usize = 1 + 32 + SIGNATURE_BYTES;
/// Bytes of the longest proof that consists of signatures only.
pub(super) const SIGNED_BYTES_MAX: usize = HEAD_BYTES + 2 * VOTE_BYTES_MAX;
/// Bytes of the longest proof. Gamma of the largest shreds that a cluster can have take half of it.
pub const PROOF_BYTES_MAX: usize = 4 << 20;

const _: () = assert!(2 * STATEMENT_BYTES < 2 * VOTE_BYTES_MAX);

/// Numbered from 1.
const DEFECTS: [Defect; 6] =
    [Defect::Lengths, Defect::Code, Defect::Frame, Defect::Padding, Defect::Overlong, Defect::Endless];

/// Why bytes are no proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofFormatError {
    /// Too short, too long, or with a number that means nothing, at this byte.
    #[error("not a proof from byte {0} on")]
    At(usize),
}

impl Proof {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.encoded_bytes());
        bytes.push(self.kind() as u8);
        bytes.extend(self.validator.0.to_le_bytes());
        bytes.extend(self.slot().0.to_le_bytes());
        match &self.offence {
            Offence::Slices(Equivocation { first, second }) => {
                put_statement(first, &mut bytes);
                put_statement(second, &mut bytes);
            }
            Offence::MalformedSlice(malformed) => {
                put_statement(&malformed.signed, &mut bytes);
                let number = DEFECTS.iter().position(|defect| *defect == malformed.defect);
                bytes.push(number.expect("every defect has a number") as u8 + 1);
                bytes.extend(malformed.shreds.iter().flat_map(|shreds| shreds.iter()));
            }
            Offence::Votes { first, second } => {
                put_vote(first, &mut bytes);
                put_vote(second, &mut bytes);
            }
        }
        bytes
    }

    /// How many bytes [`Self::encode`] gives.
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        let vote_bytes =
            |vote: &UnverifiedVote| 1 + vote.payload.hash().map_or(0, |hash| hash.0.len()) + SIGNATURE_BYTES;
        let rest = match &self.offence {
            Offence::Slices(_) => 2 * STATEMENT_BYTES,
            Offence::MalformedSlice(malformed) => {
                STATEMENT_BYTES + 1 + malformed.shreds.as_ref().map_or(0, |shreds| shreds.len())
            }
            Offence::Votes { first, second } => vote_bytes(first) + vote_bytes(second),
        };
        HEAD_BYTES + rest
    }

    /// The proof that `bytes`, all of them, are. It is well-formed, nothing more: see [`Self::check`].
    ///
    /// # Errors
    /// [`ProofFormatError`] if they are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, ProofFormatError> {
        let mut reader = Reader { bytes, at: 0 };
        reader.proof().filter(|_| reader.at == bytes.len()).ok_or(ProofFormatError::At(reader.at))
    }
}

fn put_statement(signed: &SignedRoot, bytes: &mut Vec<u8>) {
    let slice = u16::try_from(signed.id.index.get()).expect("a slice index is below 1,024");
    bytes.extend(slice.to_le_bytes());
    bytes.push(u8::from(signed.is_last));
    bytes.extend(signed.root.0);
    bytes.extend(signed.signature.0);
}

fn put_vote(vote: &UnverifiedVote, bytes: &mut Vec<u8>) {
    bytes.push(vote.payload.kind() as u8);
    bytes.extend(vote.payload.hash().iter().flat_map(|hash| hash.0));
    bytes.extend(vote.signature.0);
}

struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let taken = *self.bytes.get(self.at..)?.first_chunk()?;
        self.at += N;
        Some(taken)
    }

    fn proof(&mut self) -> Option<Proof> {
        let [kind] = self.take()?;
        let validator = ValidatorIndex(u16::from_le_bytes(self.take()?));
        let slot = Slot(u64::from_le_bytes(self.take()?));
        let offence = match kind {
            kind if kind == OffenceKind::Slices as u8 => {
                Offence::Slices(Equivocation { first: self.statement(slot)?, second: self.statement(slot)? })
            }
            kind if kind == OffenceKind::MalformedSlice as u8 => {
                let signed = self.statement(slot)?;
                let [number] = self.take()?;
                let defect = *DEFECTS.get(usize::from(number).checked_sub(1)?)?;
                let shreds = self.bytes[self.at..].to_vec();
                self.at = self.bytes.len();
                let shreds = (!shreds.is_empty()).then(|| SlicePayload::from(shreds));
                Offence::MalformedSlice(MalformedSlice { signed, defect, shreds })
            }
            kind if kind == OffenceKind::Votes as u8 => {
                Offence::Votes { first: self.vote(slot, validator)?, second: self.vote(slot, validator)? }
            }
            _ => return None,
        };
        Some(Proof { validator, offence })
    }

    fn statement(&mut self, slot: Slot) -> Option<SignedRoot> {
        let index = SliceIndex::new(usize::from(u16::from_le_bytes(self.take()?)))?;
        let is_last = match self.take()? {
            [0] => false,
            [1] => true,
            _ => return None,
        };
        let (root, signature) = (Hash(self.take()?), SliceSignature(self.take()?));
        Some(SignedRoot { id: SliceId { slot, index }, is_last, root, signature })
    }

    fn vote(&mut self, slot: Slot, signer: ValidatorIndex) -> Option<UnverifiedVote> {
        let [number] = self.take()?;
        let kind = VoteKind::from_number(number)?;
        let hash = if kind.has_hash() { Some(Hash(self.take()?)) } else { None };
        let payload = VotePayload::from_parts(kind, slot, hash)?;
        Some(UnverifiedVote { payload, signer, signature: SignatureBytes(self.take()?) })
    }
}
