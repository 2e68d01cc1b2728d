//! Proofs that a validator signed what no correct one signs. Each stands by itself: whoever knows the cluster (its id,
//! its keys and who led when) can check it, whatever else happened.
//!
//! - Two statements of a leader about its block that cannot both hold: one slice with two roots or two last flags, or a
//!   slice beyond the last one.
//! - A slice that is none: the root that its leader signed, and the shreds under it that show the defect. A node that
//!   has no room for the shreds keeps the signed root alone. That proves what was signed, and whoever holds its shreds
//!   can show the rest.
//! - Two votes that exclude each other, with both signatures, each checked by itself.
//!
//! Not everything that harms leaves a proof: a block that never ends, slices sent to some nodes only, and silence are
//! skipped like a crash. Proofs are for people and stay where they were found; no message carries them, and the
//! protocol acts on what a node saw, not on what is proven.

mod ledger;
mod wire;

use std::sync::Arc;

use alpenglow_rotor::assembler::{Defect, Equivocation, MalformedSlice, Unproven};
use alpenglow_rotor::parameters::CodingParameters;
use alpenglow_rotor::schedule::LeaderSchedule;
use alpenglow_rotor::types::{ClusterId, Slot, ValidatorIndex};
use alpenglow_rotor::validators::ValidatorSet;

use crate::bls::{self, PublicKeySum, Signature, SignatureSum};
use crate::vote::{UnverifiedVote, VotePayload};
use crate::voting_keys::VotingKeys;

pub use self::ledger::{BYTES_MAX, Ledger, MALFORMED_MAX, Refusal, SIGNED_MAX};
pub use self::wire::{PROOF_BYTES_MAX, ProofFormatError};

/// What a validator is proven to have done.
#[derive(Clone, Debug)]
pub enum Offence {
    /// Signed two statements about one block of its own that cannot both hold.
    Slices(Equivocation),
    /// Signed the root of a slice that is none.
    MalformedSlice(MalformedSlice),
    /// Signed two votes that exclude each other.
    Votes {
        /// What came first.
        first: UnverifiedVote,
        /// What excludes it.
        second: UnverifiedVote,
    },
}

/// The kinds of offences. The numbers are those in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum OffenceKind {
    /// See [`Offence::Slices`].
    Slices = 1,
    /// See [`Offence::MalformedSlice`].
    MalformedSlice = 2,
    /// See [`Offence::Votes`].
    Votes = 3,
}

/// An offence and whose it is.
#[derive(Clone, Debug)]
pub struct Proof {
    /// Who signed.
    pub validator: ValidatorIndex,
    /// What.
    pub offence: Offence,
}

/// What signatures are checked against: the validator set of a slot.
#[derive(Clone)]
pub struct Authority {
    /// In all that is signed.
    pub cluster: ClusterId,
    /// Identities, for what leaders sign.
    pub validators: Arc<ValidatorSet>,
    /// Keys of votes.
    pub voting_keys: Arc<VotingKeys>,
    /// Who leads when.
    pub schedule: Arc<LeaderSchedule>,
    /// How slices are coded.
    pub coding: CodingParameters,
}

/// How much a proof shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The offence.
    Proven,
    /// That the leader signed this root, not that no slice has it.
    SignedOnly,
}

/// Why a proof proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// No such validator.
    #[error("the validator set has no validator {0}")]
    Validator(u16),
    /// Another one leads the slot.
    #[error("validator {0} does not lead the slot")]
    NotLeader(u16),
    /// A signature is not the validator's.
    #[error("a signature is not the validator's")]
    Signature,
    /// What was signed can all hold.
    #[error("the two do not contradict each other")]
    NoContradiction,
    /// The shreds do not show a defect.
    #[error("the slice is not shown to be malformed: {0}")]
    Unproven(#[from] Unproven),
}

impl Proof {
    /// Two statements of a leader.
    #[must_use]
    pub const fn slices(leader: ValidatorIndex, statements: Equivocation) -> Self {
        Self { validator: leader, offence: Offence::Slices(statements) }
    }

    /// A slice that is none.
    #[must_use]
    pub const fn malformed(leader: ValidatorIndex, slice: MalformedSlice) -> Self {
        Self { validator: leader, offence: Offence::MalformedSlice(slice) }
    }

    /// Two votes of one validator, in the order in which they came.
    #[must_use]
    pub const fn votes(first: UnverifiedVote, second: UnverifiedVote) -> Self {
        Self { validator: first.signer, offence: Offence::Votes { first, second } }
    }

    /// What kind of offence it proves.
    #[must_use]
    pub const fn kind(&self) -> OffenceKind {
        match self.offence {
            Offence::Slices(_) => OffenceKind::Slices,
            Offence::MalformedSlice(_) => OffenceKind::MalformedSlice,
            Offence::Votes { .. } => OffenceKind::Votes,
        }
    }

    /// The slot of the offence.
    #[must_use]
    pub const fn slot(&self) -> Slot {
        match &self.offence {
            Offence::Slices(statements) => statements.first.id.slot,
            Offence::MalformedSlice(malformed) => malformed.signed.id.slot,
            Offence::Votes { first, .. } => first.payload.slot(),
        }
    }

    /// Checks it from the signatures up. Two votes take some 3 ms, shreds as long as decoding them.
    ///
    /// # Errors
    /// [`ProofError`] says why it proves nothing.
    pub fn check(&self, authority: &Authority) -> Result<Standing, ProofError> {
        if self.validator.get() >= authority.validators.len() {
            return Err(ProofError::Validator(self.validator.0));
        }
        let is_leader = authority.schedule.leader(self.slot()) == self.validator;
        let leads = if is_leader { Ok(()) } else { Err(ProofError::NotLeader(self.validator.0)) };
        let identity = authority.validators.identity(self.validator);
        match &self.offence {
            Offence::Slices(statements) => {
                leads?;
                if !statements.is_contradiction() {
                    return Err(ProofError::NoContradiction);
                }
                let is_signed = [statements.first, statements.second]
                    .iter()
                    .all(|statement| statement.verify(identity, authority.cluster));
                if is_signed { Ok(Standing::Proven) } else { Err(ProofError::Signature) }
            }
            Offence::MalformedSlice(malformed) => {
                leads?;
                if !malformed.signed.verify(identity, authority.cluster) {
                    return Err(ProofError::Signature);
                }
                if malformed.shreds.is_none() && malformed.defect != Defect::Endless {
                    return Ok(Standing::SignedOnly);
                }
                malformed.check(identity, authority.cluster, &authority.coding)?;
                Ok(Standing::Proven)
            }
            Offence::Votes { first, second } => {
                if first.signer != second.signer || !excludes(&first.payload, &second.payload) {
                    return Err(ProofError::NoContradiction);
                }
                let is_signed = [first, second].iter().all(|vote| is_authentic(vote, authority));
                if is_signed { Ok(Standing::Proven) } else { Err(ProofError::Signature) }
            }
        }
    }
}

/// Whether no correct validator signs both, whatever it sees in between.
fn excludes(first: &VotePayload, second: &VotePayload) -> bool {
    use VotePayload::{Final, Notar, NotarFallback, Skip, SkipFallback};
    first.slot() == second.slot()
        && match (first, second) {
            (Notar(one), Notar(other)) => one != other,
            (Notar(_), Skip(_)) | (Skip(_), Notar(_)) => true,
            (Final(_), other) | (other, Final(_)) => {
                matches!(other, Skip(_) | SkipFallback(_) | NotarFallback(_))
            }
            _ => false,
        }
}

fn is_authentic(vote: &UnverifiedVote, authority: &Authority) -> bool {
    let Some(key) = authority.voting_keys.get(vote.signer) else { return false };
    let Ok(signature) = Signature::from_bytes(&vote.signature) else { return false };
    let payload = vote.payload.hashed(authority.cluster);
    bls::verify(&payload, &PublicKeySum::of(&[*key]), &SignatureSum::of(&[signature]))
}

#[cfg(test)]
mod tests;
