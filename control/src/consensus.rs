//! Pool and Votor joined: votes, certificates, blocks and time in; own votes, certificates and decisions out.

use std::sync::Arc;
use std::time::Duration;

use alpenglow_rotor::types::{BlockId, ClusterId, Slot, Time, ValidatorIndex};

use crate::bls::{SecretKey, SignatureBytes};
use crate::certificate::{Certificate, UnverifiedCertificate, VerifiedCertificate};
use crate::message::Message;
use crate::stakes::Stakes;
use crate::vote::{UnverifiedVote, VerifiedVotes, Vote, VotePayload};

/// What a node must know to vote.
pub struct ConsensusConfig {
    /// This node.
    pub own: ValidatorIndex,
    /// Its voting key.
    pub secret_key: SecretKey,
    /// The validator set's stakes.
    pub stakes: Arc<Stakes>,
    /// Signed into every vote.
    pub cluster: ClusterId,
    /// The time of one block (paper: Δblock).
    pub delta_block: Duration,
    /// What a window's first block may take besides (paper: Δtimeout).
    pub delta_timeout: Duration,
}

/// What to do with a vote that has just arrived, before any signature is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Check it, in a batch. Its place is taken: later votes are measured against it, until [`Consensus::vote_rejected`].
    Check,
    /// It conflicts with one that came before: check it singly; then [`Consensus::votes`] makes it evidence.
    Conflict,
    /// It conflicts, and there is evidence of this validator in this slot already: check it only if there is nothing else to do.
    ConflictAgain,
    /// Nothing new. Drop.
    Redundant,
    /// Its slot is closed. Drop.
    Closed,
    /// Its slot is past the horizon. Drop.
    Ahead,
    /// No such validator, or this node itself. Drop.
    Signer,
}

/// How a block became final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finalization {
    /// By a fast-finalization certificate.
    Fast,
    /// By a finalization certificate and a notarization certificate.
    Slow,
    /// As an ancestor of such a block.
    Ancestor,
}

/// What happened. Events come in the order in which things happened.
#[derive(Clone, Debug, PartialEq)]
pub enum ConsensusEvent {
    /// An own vote was cast: broadcast it.
    Vote(Vote),
    /// A certificate was newly stored, made here or received: broadcast it once.
    Certificate(Arc<Certificate>),
    /// A block has a notarization or fast-finalization certificate. Not reported for a block that is finalized at once.
    BlockNotarized(BlockId),
    /// The leader of the window that begins at `slot` may build on `parent`.
    ParentReady {
        /// First slot of a window.
        slot: Slot,
        /// A certified block before it.
        parent: BlockId,
    },
    /// A block is final. Ancestors follow their descendants.
    Finalized {
        /// Which.
        block: BlockId,
        /// By what.
        how: Finalization,
    },
    /// The next final block in chain order: reported once all its ancestors were.
    Chained {
        /// Which.
        block: BlockId,
        /// The one reported before it, or genesis.
        parent: BlockId,
    },
    /// These slots hold no final block and never will: they lie between a final block and its parent.
    SkippedForGood {
        /// The first.
        first: Slot,
        /// The last.
        last: Slot,
    },
    /// This block is not held and now needed. Reported once for each block.
    RepairNeeded(BlockId),
    /// A validator signed two votes that exclude each other.
    Evidence(Evidence),
    /// Checked votes of which some did not fit any more: the rest must be checked anew before it can be used.
    Recheck(Vec<UnverifiedVote>),
    /// What is taken changed.
    Horizon(Horizon),
    /// Two final blocks contradict each other: at least 20% of the stake are byzantine, or a node is defective.
    Contradiction {
        /// Final, by certificate or as an ancestor.
        block: BlockId,
        /// Final as well.
        other: BlockId,
    },
}

/// A vote that conflicts with one stored before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Who signed both.
    pub validator: ValidatorIndex,
    /// What was stored.
    pub stored: VotePayload,
    /// What came later.
    pub conflicting: VotePayload,
    /// The signature of the latter.
    pub signature: SignatureBytes,
}

/// What is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Horizon {
    /// Slots up to this one are closed.
    pub closed_through: Slot,
    /// The last slot that votes are taken for.
    pub votes_through: Slot,
    /// The last slot that shreds are taken for.
    pub shreds_through: Slot,
}

/// Pool and Votor of one node.
pub struct Consensus {
    config: ConsensusConfig,
}

impl Consensus {
    /// A node at genesis. The timers of window 0 run from `start`: the later of the node's start and the cluster's.
    ///
    /// # Panics
    /// If the node is not in the set.
    #[must_use]
    pub fn new(config: ConsensusConfig, start: Time) -> Self {
        let _ = start;
        assert!(config.own.get() < config.stakes.len());
        Self { config }
    }

    /// A complete block is held now: received or repaired, first of its slot or another. One whose parent is not allowed
    /// for its slot is taken for dead.
    pub fn block_held(&mut self, now: Time, block: BlockId, parent: BlockId) {
        let _ = (now, block, parent);
    }

    /// A block is known to be malformed: it is never asked for and never voted for.
    pub fn block_dead(&mut self, block: BlockId) {
        let _ = block;
    }

    /// Decides what is to be done with a vote that has just arrived, and takes its place if it is to be checked.
    pub fn admit(&mut self, vote: &UnverifiedVote) -> Admission {
        let _ = vote;
        Admission::Signer
    }

    /// Gives back the place of a vote that was admitted and found wrong.
    pub fn vote_rejected(&mut self, vote: &UnverifiedVote) {
        let _ = vote;
    }

    /// A checked batch.
    pub fn votes(&mut self, now: Time, votes: VerifiedVotes) {
        let _ = (now, votes);
    }

    /// Whether a certificate is worth checking: neither implied by what is held nor out of reach, and its bitmaps and stake
    /// suffice.
    #[must_use]
    pub fn wants(&self, certificate: &UnverifiedCertificate) -> bool {
        let _ = certificate;
        false
    }

    /// A checked certificate.
    pub fn certificate(&mut self, now: Time, certificate: VerifiedCertificate) {
        let _ = (now, certificate);
    }

    /// Fires the timers that are due.
    pub fn advance(&mut self, now: Time) {
        let _ = now;
    }

    /// When [`Consensus::advance`] has something to do next.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        None
    }

    /// The next thing that happened.
    pub fn poll(&mut self) -> Option<ConsensusEvent> {
        None
    }

    /// The highest block that is final by certificate; slots up to its own are closed.
    #[must_use]
    pub fn highest_finalized(&self) -> BlockId {
        BlockId::GENESIS
    }

    /// The last block handed over in chain order.
    #[must_use]
    pub fn highest_chained(&self) -> BlockId {
        BlockId::GENESIS
    }

    /// The highest slot with a ParentReady.
    #[must_use]
    pub fn highest_parent_ready(&self) -> Slot {
        Slot(1)
    }

    /// The blocks that the window beginning at `slot` may build on, in the order in which they became ready.
    pub fn parents_ready(&self, slot: Slot) -> impl Iterator<Item = BlockId> + '_ {
        let _ = slot;
        [].into_iter()
    }

    /// What is taken now.
    #[must_use]
    pub fn horizon(&self) -> Horizon {
        Horizon { closed_through: Slot(0), votes_through: Slot(41), shreds_through: Slot(11) }
    }

    /// The certificates that finalize the highest finalized block: none for genesis.
    #[must_use]
    pub fn finalization_messages(&self) -> Vec<Message> {
        Vec::new()
    }

    /// The first slot after `slot` that certificates are held for or own votes were cast in.
    #[must_use]
    pub fn next_open_slot(&self, slot: Slot) -> Option<Slot> {
        let _ = slot;
        None
    }

    /// The certificates held for an open slot, then the own votes cast in it.
    #[must_use]
    pub fn messages_of(&self, slot: Slot) -> Vec<Message> {
        let _ = (slot, &self.config);
        Vec::new()
    }
}
