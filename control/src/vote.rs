//! Votes: what they say, what is signed, and the types that keep unchecked ones out of the Pool.

use alpenglow_rotor::types::{BlockId, ClusterId, Hash, Slot, ValidatorIndex};

use crate::bls::{HashedPayload, Scheme, SecretKey, Signature, SignatureBytes, SignatureSum};

/// First bytes of everything that is signed as a vote.
const DOMAIN: &[u8] = b"alpenglow vote 1";

/// The five kinds of votes (paper §2.4). The numbers are those on the wire and in signed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum VoteKind {
    /// For a block, as the first vote of a slot.
    Notar = 1,
    /// For a block that others may have notarized, after another first vote.
    NotarFallback = 2,
    /// Against any block, as the first vote of a slot.
    Skip = 3,
    /// Against any block, after a notarization vote.
    SkipFallback = 4,
    /// For finalizing what this validator saw notarized.
    Final = 5,
}

impl VoteKind {
    /// The kind of this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Notar,
            2 => Self::NotarFallback,
            3 => Self::Skip,
            4 => Self::SkipFallback,
            5 => Self::Final,
            _ => return None,
        })
    }

    /// Whether such votes are for a block, which they name by its hash.
    #[must_use]
    pub const fn has_hash(self) -> bool {
        matches!(self, Self::Notar | Self::NotarFallback)
    }
}

/// What a vote says. Two votes with the same payload are signed over the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum VotePayload {
    /// See [`VoteKind::Notar`].
    Notar(BlockId),
    /// See [`VoteKind::NotarFallback`].
    NotarFallback(BlockId),
    /// See [`VoteKind::Skip`].
    Skip(Slot),
    /// See [`VoteKind::SkipFallback`].
    SkipFallback(Slot),
    /// See [`VoteKind::Final`].
    Final(Slot),
}

impl VotePayload {
    /// The payload of these parts; `None` if a hash is missing or too many.
    #[must_use]
    pub const fn from_parts(kind: VoteKind, slot: Slot, hash: Option<Hash>) -> Option<Self> {
        Some(match (kind, hash) {
            (VoteKind::Notar, Some(hash)) => Self::Notar(BlockId { slot, hash }),
            (VoteKind::NotarFallback, Some(hash)) => Self::NotarFallback(BlockId { slot, hash }),
            (VoteKind::Skip, None) => Self::Skip(slot),
            (VoteKind::SkipFallback, None) => Self::SkipFallback(slot),
            (VoteKind::Final, None) => Self::Final(slot),
            _ => return None,
        })
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> VoteKind {
        match self {
            Self::Notar(_) => VoteKind::Notar,
            Self::NotarFallback(_) => VoteKind::NotarFallback,
            Self::Skip(_) => VoteKind::Skip,
            Self::SkipFallback(_) => VoteKind::SkipFallback,
            Self::Final(_) => VoteKind::Final,
        }
    }

    /// The slot voted in.
    #[must_use]
    pub const fn slot(&self) -> Slot {
        match self {
            Self::Notar(block) | Self::NotarFallback(block) => block.slot,
            Self::Skip(slot) | Self::SkipFallback(slot) | Self::Final(slot) => *slot,
        }
    }

    /// The hash voted for, where the kind has one.
    #[must_use]
    pub const fn hash(&self) -> Option<Hash> {
        match self {
            Self::Notar(block) | Self::NotarFallback(block) => Some(block.hash),
            Self::Skip(_) | Self::SkipFallback(_) | Self::Final(_) => None,
        }
    }

    /// What is signed: domain, cluster, kind, slot (little-endian), and the hash where there is one. The kind tells
    /// which length follows, so no two payloads have the same bytes.
    #[must_use]
    pub fn signed_bytes(&self, cluster: ClusterId) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(DOMAIN.len() + 32 + 1 + 8 + 32);
        bytes.extend_from_slice(DOMAIN);
        bytes.extend_from_slice(&cluster.0);
        bytes.push(self.kind() as u8);
        bytes.extend_from_slice(&self.slot().0.to_le_bytes());
        if let Some(hash) = self.hash() {
            bytes.extend_from_slice(&hash.0);
        }
        bytes
    }

    /// The signed bytes hashed to the curve: once for all signers, see [`HashedPayload`].
    #[must_use]
    pub fn hashed(&self, cluster: ClusterId) -> HashedPayload {
        self.hashed_in(cluster, Scheme::CURVE)
    }

    /// The signed bytes hashed as the keys of `scheme` sign them.
    #[must_use]
    pub fn hashed_in(&self, cluster: ClusterId, scheme: Scheme) -> HashedPayload {
        scheme.hash(&self.signed_bytes(cluster))
    }
}

/// A vote of this node, to be broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vote {
    /// What it says.
    pub payload: VotePayload,
    /// This node.
    pub signer: ValidatorIndex,
    /// Over [`VotePayload::signed_bytes`].
    pub signature: SignatureBytes,
}

impl Vote {
    /// Signs `payload`, whose point is `hashed`; returns the vote and what the own Pool takes, which needs no check.
    #[must_use]
    pub(crate) fn sign(
        payload: VotePayload,
        hashed: &HashedPayload,
        signer: ValidatorIndex,
        key: &SecretKey,
    ) -> (Self, VerifiedVotes) {
        let signature = key.sign(hashed);
        let vote = Self { payload, signer, signature: signature.to_bytes() };
        let votes = vec![UnverifiedVote { payload, signer, signature: vote.signature }];
        (vote, VerifiedVotes { payload, votes, sum: signature })
    }
}

/// A vote from another validator, whose signature nobody checked yet. The signer is the datagram's authenticated
/// sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnverifiedVote {
    /// What it says.
    pub payload: VotePayload,
    /// Who sent it, and so must have signed it.
    pub signer: ValidatorIndex,
    /// Said to be over [`VotePayload::signed_bytes`].
    pub signature: SignatureBytes,
}

/// Votes for one payload whose signatures were checked as a sum. They stay together for ever: wrong signatures in them
/// may cancel out, so that only certificates with all of them are sure to verify.
#[derive(Clone)]
pub struct VerifiedVotes {
    pub(crate) payload: VotePayload,
    pub(crate) votes: Vec<UnverifiedVote>,
    /// The sum of their signatures: never infinity, which does not verify.
    pub(crate) sum: Signature,
}

impl VerifiedVotes {
    /// What they say.
    #[must_use]
    pub const fn payload(&self) -> VotePayload {
        self.payload
    }

    /// Who signed.
    pub fn signers(&self) -> impl Iterator<Item = ValidatorIndex> + '_ {
        self.votes.iter().map(|vote| vote.signer)
    }

    /// Takes votes for checked that nobody checked. For tests and tools, where signatures do not matter: certificates
    /// made of such votes do not verify.
    ///
    /// # Panics
    /// If there are none, if their payloads differ, if a signer is in it twice, if a signature is not a point of the
    /// curve, or if they cancel out.
    #[must_use]
    pub fn assume_checked(votes: Vec<UnverifiedVote>) -> Self {
        let payload = votes.first().expect("at least one vote").payload;
        assert!(votes.iter().all(|vote| vote.payload == payload));
        let mut signers: Vec<ValidatorIndex> = votes.iter().map(|vote| vote.signer).collect();
        signers.sort_unstable();
        assert!(signers.is_sorted_by(|left, right| left < right));
        let signatures: Vec<_> =
            votes.iter().map(|vote| Signature::from_bytes(&vote.signature).expect("a point of the curve")).collect();
        let sum = SignatureSum::of(&signatures).point().expect("signatures that do not cancel out");
        Self { payload, votes, sum }
    }
}

impl std::fmt::Debug for VerifiedVotes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifiedVotes").field("payload", &self.payload).field("votes", &self.votes.len()).finish()
    }
}
