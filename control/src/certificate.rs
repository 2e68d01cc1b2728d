//! Certificates: what a quorum's votes prove, in one datagram.

use alpenglow_rotor::types::{BlockId, Hash, Slot, Stake, ValidatorIndex};

use crate::bls::SignatureBytes;
use crate::stakes::Stakes;
use crate::vote::VotePayload;

/// The five kinds of certificates (paper §2.4). The numbers are those on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum CertificateKind {
    /// Notarization votes of 80% of the stake: the block is final.
    Fast = 1,
    /// Notarization votes of 60%.
    Notarization = 2,
    /// Notarization or notar-fallback votes of 60%.
    NotarFallback = 3,
    /// Skip or skip-fallback votes of 60%.
    Skip = 4,
    /// Finalization votes of 60%: the slot's notarized block is final.
    Finalization = 5,
}

impl CertificateKind {
    /// The kind of this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Fast,
            2 => Self::Notarization,
            3 => Self::NotarFallback,
            4 => Self::Skip,
            5 => Self::Finalization,
            _ => return None,
        })
    }

    /// Whether such certificates are about a block, which they name by its hash.
    #[must_use]
    pub const fn has_hash(self) -> bool {
        matches!(self, Self::Fast | Self::Notarization | Self::NotarFallback)
    }

    /// Percent of the stake that must have signed.
    #[must_use]
    pub const fn percent(self) -> u8 {
        match self {
            Self::Fast => 80,
            Self::Notarization | Self::NotarFallback | Self::Skip | Self::Finalization => 60,
        }
    }
}

/// What a certificate states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Statement {
    /// See [`CertificateKind::Fast`].
    Fast(BlockId),
    /// See [`CertificateKind::Notarization`].
    Notarization(BlockId),
    /// See [`CertificateKind::NotarFallback`].
    NotarFallback(BlockId),
    /// See [`CertificateKind::Skip`].
    Skip(Slot),
    /// See [`CertificateKind::Finalization`].
    Finalization(Slot),
}

impl Statement {
    /// The statement of these parts; `None` if a hash is missing or too many.
    #[must_use]
    pub const fn from_parts(kind: CertificateKind, slot: Slot, hash: Option<Hash>) -> Option<Self> {
        Some(match (kind, hash) {
            (CertificateKind::Fast, Some(hash)) => Self::Fast(BlockId { slot, hash }),
            (CertificateKind::Notarization, Some(hash)) => Self::Notarization(BlockId { slot, hash }),
            (CertificateKind::NotarFallback, Some(hash)) => Self::NotarFallback(BlockId { slot, hash }),
            (CertificateKind::Skip, None) => Self::Skip(slot),
            (CertificateKind::Finalization, None) => Self::Finalization(slot),
            _ => return None,
        })
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> CertificateKind {
        match self {
            Self::Fast(_) => CertificateKind::Fast,
            Self::Notarization(_) => CertificateKind::Notarization,
            Self::NotarFallback(_) => CertificateKind::NotarFallback,
            Self::Skip(_) => CertificateKind::Skip,
            Self::Finalization(_) => CertificateKind::Finalization,
        }
    }

    /// The slot it is about.
    #[must_use]
    pub const fn slot(&self) -> Slot {
        match self {
            Self::Fast(block) | Self::Notarization(block) | Self::NotarFallback(block) => block.slot,
            Self::Skip(slot) | Self::Finalization(slot) => *slot,
        }
    }

    /// The block it is about, where it is about one.
    #[must_use]
    pub const fn block(&self) -> Option<BlockId> {
        match self {
            Self::Fast(block) | Self::Notarization(block) | Self::NotarFallback(block) => Some(*block),
            Self::Skip(_) | Self::Finalization(_) => None,
        }
    }

    /// What those in the first list of signers signed.
    #[must_use]
    pub const fn payload(&self) -> VotePayload {
        match self {
            Self::Fast(block) | Self::Notarization(block) | Self::NotarFallback(block) => VotePayload::Notar(*block),
            Self::Skip(slot) => VotePayload::Skip(*slot),
            Self::Finalization(slot) => VotePayload::Final(*slot),
        }
    }

    /// What those in the second list signed, for the kinds that have one.
    #[must_use]
    pub const fn fallback_payload(&self) -> Option<VotePayload> {
        match self {
            Self::NotarFallback(block) => Some(VotePayload::NotarFallback(*block)),
            Self::Skip(slot) => Some(VotePayload::SkipFallback(*slot)),
            Self::Fast(_) | Self::Notarization(_) | Self::Finalization(_) => None,
        }
    }
}

/// A set of validators, one bit each: validator `i` is bit `i % 8` of byte `i / 8`, as on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signers {
    bits: Box<[u8]>,
}

impl Signers {
    /// Nobody among `validators`.
    #[must_use]
    pub fn none(validators: usize) -> Self {
        Self { bits: vec![0; validators.div_ceil(8)].into_boxed_slice() }
    }

    /// These of `validators`.
    ///
    /// # Panics
    /// If an index is not below `validators`.
    #[must_use]
    pub fn of(validators: usize, indices: impl IntoIterator<Item = ValidatorIndex>) -> Self {
        let mut signers = Self::none(validators);
        for index in indices {
            assert!(index.get() < validators);
            signers.insert(index);
        }
        signers
    }

    /// The set of these bytes, `None` if there are not exactly as many as `validators` need or a bit past them is set.
    #[must_use]
    pub fn from_bytes(validators: usize, bytes: &[u8]) -> Option<Self> {
        let used = validators % 8;
        let stray = used != 0 && bytes.last().is_some_and(|last| last >> used != 0);
        (bytes.len() == validators.div_ceil(8) && !stray).then(|| Self { bits: bytes.into() })
    }

    /// The bitmap.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        &self.bits
    }

    /// Adds a validator.
    ///
    /// # Panics
    /// If the set has no room for it.
    pub fn insert(&mut self, index: ValidatorIndex) {
        self.bits[index.get() / 8] |= 1 << (index.get() % 8);
    }

    /// Whether a validator is in it.
    #[must_use]
    pub fn contains(&self, index: ValidatorIndex) -> bool {
        self.bits.get(index.get() / 8).is_some_and(|byte| byte >> (index.get() % 8) & 1 == 1)
    }

    /// How many are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bits.iter().map(|byte| byte.count_ones() as usize).sum()
    }

    /// Whether nobody is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bits.iter().all(|byte| *byte == 0)
    }

    /// Those in it, in increasing order.
    pub fn iter(&self) -> impl Iterator<Item = ValidatorIndex> + '_ {
        self.bits.iter().enumerate().flat_map(|(at, byte)| {
            (0..8).filter(move |bit| byte >> bit & 1 == 1).map(move |bit| ValidatorIndex((at * 8 + bit) as u16))
        })
    }
}

/// An aggregate of votes. Whether it holds depends on the wrapper: [`UnverifiedCertificate`] or
/// [`VerifiedCertificate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// What it states.
    pub statement: Statement,
    /// Who signed [`Statement::payload`].
    pub signers: Signers,
    /// Who signed [`Statement::fallback_payload`]; empty for the kinds without one. Somebody may be in both sets: the
    /// stake counts once, but both signatures are in the sum.
    pub fallback_signers: Signers,
    /// Sum of all signatures.
    pub signature: SignatureBytes,
}

/// Why a certificate is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Bitmaps of another length than the validator set's, or a second one where there is none.
    #[error("a bitmap does not fit the validator set or the kind")]
    Bitmap,
    /// Signed by a validator that is no member of the slot's epoch.
    #[error("validator {0} signed, which is no member of the slot's epoch")]
    NotMember(u16),
    /// Signed by less than the kind needs.
    #[error("signed by {signed} of {total}, less than its kind needs")]
    Stake {
        /// Stake that signed.
        signed: u64,
        /// Stake of the set.
        total: u64,
    },
    /// The aggregate signature is not that of the signers.
    #[error("the aggregate signature does not verify")]
    Signature,
}

impl CertificateError {
    /// Stable name for counters.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Bitmap => "certificate_bitmap",
            Self::NotMember(_) => "certificate_not_member",
            Self::Stake { .. } => "certificate_stake",
            Self::Signature => "certificate_signature",
        }
    }
}

impl Certificate {
    fn signers_of_either(&self) -> Signers {
        let both = self.signers.bits.iter().zip(&self.fallback_signers.bits).map(|(first, second)| first | second);
        Signers { bits: both.collect() }
    }

    /// The cheap part of the check: bitmaps, then stake.
    ///
    /// # Errors
    /// [`CertificateError::Bitmap`], [`CertificateError::NotMember`] or [`CertificateError::Stake`].
    pub fn check_quorum(&self, stakes: &Stakes) -> Result<(), CertificateError> {
        let fits = |signers: &Signers| Signers::from_bytes(stakes.len(), signers.as_bytes()).is_some();
        let stray = self.statement.fallback_payload().is_none() && !self.fallback_signers.is_empty();
        if !fits(&self.signers) || !fits(&self.fallback_signers) || stray {
            return Err(CertificateError::Bitmap);
        }
        let epoch = stakes.at(self.statement.slot());
        let (mut signed, total) = (Stake(0), epoch.total());
        for signer in self.signers_of_either().iter() {
            match epoch.of(signer) {
                Stake(0) => return Err(CertificateError::NotMember(signer.0)),
                stake => signed += stake,
            }
        }
        if signed.is_at_least(self.statement.kind().percent(), total) {
            Ok(())
        } else {
            Err(CertificateError::Stake { signed: signed.0, total: total.0 })
        }
    }
}

/// A certificate from another validator that nobody checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnverifiedCertificate(pub Certificate);

/// A certificate whose bitmaps, stake and signature were checked, or that the own Pool made of checked votes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedCertificate(pub(crate) Certificate);

impl VerifiedCertificate {
    /// The certificate.
    #[must_use]
    pub const fn certificate(&self) -> &Certificate {
        &self.0
    }

    /// Takes a certificate for checked that nobody checked. For tests and tools, where signatures do not matter.
    #[must_use]
    pub const fn assume_checked(certificate: Certificate) -> Self {
        Self(certificate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: BlockId = BlockId { slot: Slot(5), hash: Hash([1; 32]) };

    fn certificate(statement: Statement, signers: &[u16], fallback_signers: &[u16]) -> Certificate {
        let of = |indices: &[u16]| Signers::of(10, indices.iter().map(|index| ValidatorIndex(*index)));
        Certificate {
            statement,
            signers: of(signers),
            fallback_signers: of(fallback_signers),
            signature: SignatureBytes([0; 96]),
        }
    }

    fn stakes() -> Stakes {
        Stakes::new(vec![Stake(1); 10])
    }

    #[test]
    fn signers_are_listed_in_order_and_counted() {
        let signers = Signers::of(10, [9, 0, 3].map(ValidatorIndex));
        assert_eq!(signers.iter().collect::<Vec<_>>(), [0, 3, 9].map(ValidatorIndex));
        assert_eq!((signers.len(), signers.as_bytes()), (3, &[0b1001, 0b10][..]));
        assert!(signers.contains(ValidatorIndex(9)) && !signers.contains(ValidatorIndex(1_000)));
    }

    #[test]
    fn a_validator_in_both_bitmaps_counts_once() {
        let below = certificate(Statement::NotarFallback(BLOCK), &[0, 1, 2], &[1, 2, 3, 4]);
        assert_eq!(below.check_quorum(&stakes()), Err(CertificateError::Stake { signed: 5, total: 10 }));
        let enough = certificate(Statement::NotarFallback(BLOCK), &[0, 1, 2], &[2, 3, 4, 5]);
        assert_eq!(enough.check_quorum(&stakes()), Ok(()));
    }

    #[test]
    fn each_kind_has_its_own_quorum() {
        let six = [0, 1, 2, 3, 4, 5];
        assert!(certificate(Statement::Fast(BLOCK), &six, &[]).check_quorum(&stakes()).is_err());
        assert!(certificate(Statement::Fast(BLOCK), &[0, 1, 2, 3, 4, 5, 6, 7], &[]).check_quorum(&stakes()).is_ok());
        for statement in
            [Statement::Notarization(BLOCK), Statement::Skip(BLOCK.slot), Statement::Finalization(BLOCK.slot)]
        {
            assert!(certificate(statement, &six, &[]).check_quorum(&stakes()).is_ok());
            assert!(certificate(statement, &six[..5], &[]).check_quorum(&stakes()).is_err());
        }
    }

    #[test]
    fn a_second_bitmap_where_there_is_none_is_refused_before_stake_is_counted() {
        for statement in [Statement::Fast(BLOCK), Statement::Notarization(BLOCK), Statement::Finalization(BLOCK.slot)] {
            let error = certificate(statement, &[], &[0]).check_quorum(&stakes());
            assert_eq!(error, Err(CertificateError::Bitmap));
        }
        let mut other_set = certificate(Statement::Skip(BLOCK.slot), &[0, 1, 2, 3, 4, 5], &[]);
        other_set.signers = Signers::of(11, other_set.signers.iter().chain([ValidatorIndex(10)]));
        assert_eq!(other_set.check_quorum(&stakes()), Err(CertificateError::Bitmap));
    }
}
