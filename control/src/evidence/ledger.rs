//! Which proofs are worth keeping: one for each validator, slot and kind, and of each validator and kind a few. What a
//! validator did once more often proves nothing new, and one that does it in every slot must not use up the room that
//! proofs against others need.

use std::collections::{BTreeMap, BTreeSet};

use alpenglow_rotor::types::{Slot, VALIDATORS_MAX, ValidatorIndex};

use super::wire::{PROOF_BYTES_MAX, SIGNED_BYTES_MAX};
use super::{Offence, OffenceKind, Proof};

/// Proofs of one validator and kind that consist of signatures only.
pub const SIGNED_MAX: usize = 16;
/// Malformed slices of one leader.
pub const MALFORMED_MAX: usize = 4;
/// Bytes of all proofs, each encoded.
pub const BYTES_MAX: usize = 64 << 20;
/// From here on shreds of malformed slices are left out, so that they leave room for all that consists of signatures.
const SHREDS_THROUGH_BYTES: usize = BYTES_MAX / 2;

const _: () = assert!(VALIDATORS_MAX * (2 * SIGNED_MAX + MALFORMED_MAX) * SIGNED_BYTES_MAX < SHREDS_THROUGH_BYTES);

/// Why a proof is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is one of this validator, slot and kind.
    Known,
    /// There are enough of this validator and kind.
    Enough,
}

impl Refusal {
    /// A stable name for counters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Known => "proof_known",
            Self::Enough => "proof_enough",
        }
    }
}

/// See the module. It remembers what is kept, not the proofs.
#[derive(Debug, Default)]
pub struct Ledger {
    /// At most [`SIGNED_MAX`] or [`MALFORMED_MAX`] slots of each.
    kept: BTreeMap<(ValidatorIndex, OffenceKind), BTreeSet<Slot>>,
    bytes: usize,
}

impl Ledger {
    /// Nothing is kept.
    #[must_use]
    pub const fn new() -> Self {
        Self { kept: BTreeMap::new(), bytes: 0 }
    }

    /// Decides about a proof. One that is to be kept is given back, without its shreds if there is no room for these.
    ///
    /// # Errors
    /// [`Refusal`] says why it is not to be kept.
    pub fn admit(&mut self, mut proof: Proof) -> Result<Proof, Refusal> {
        let kind = proof.kind();
        let most = if kind == OffenceKind::MalformedSlice { MALFORMED_MAX } else { SIGNED_MAX };
        let slots = self.kept.entry((proof.validator, kind)).or_default();
        if slots.contains(&proof.slot()) {
            return Err(Refusal::Known);
        }
        if slots.len() >= most {
            return Err(Refusal::Enough);
        }
        slots.insert(proof.slot());
        if let Offence::MalformedSlice(malformed) = &mut proof.offence
            && let Some(shreds) = &malformed.shreds
            && (SIGNED_BYTES_MAX + shreds.len() > PROOF_BYTES_MAX
                || self.bytes + SIGNED_BYTES_MAX + shreds.len() > SHREDS_THROUGH_BYTES)
        {
            malformed.shreds = None;
        }
        self.bytes += proof.encoded_bytes();
        Ok(proof)
    }

    /// Bytes of all that is kept, each proof encoded: at most [`BYTES_MAX`].
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}
