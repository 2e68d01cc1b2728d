//! The things that go wrong in a run, each of which can be left out alone.

use std::fmt;

use serde::{Serialize, Serializer};

/// A set of nodes, by validator index.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Nodes(u128);

impl Nodes {
    /// Whether it has this one.
    #[must_use]
    pub const fn contains(self, node: usize) -> bool {
        self.0 >> node & 1 == 1
    }

    /// Its nodes, in index order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..128).filter(move |&node| self.contains(node))
    }
}

impl FromIterator<usize> for Nodes {
    fn from_iter<I: IntoIterator<Item = usize>>(nodes: I) -> Self {
        Self(nodes.into_iter().fold(0, |bits, node| bits | 1 << node))
    }
}

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl Serialize for Nodes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

/// A time, in milliseconds since the start: from the first one on, before the second one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct During {
    /// From when.
    pub from_ms: u64,
    /// Until when.
    pub to_ms: u64,
}

impl During {
    pub(super) const fn contains(self, now_ms: u64) -> bool {
        self.from_ms <= now_ms && now_ms < self.to_ms
    }
}

/// What a node loses that stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Loses {
    /// Its process: what was written stays.
    Process,
    /// Its power: what was not synced may be gone or spoilt.
    Power,
}

/// What a node answers in repair that does not tell the truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RepairLie {
    /// Nothing.
    Silence,
    /// Another block, with proofs that fit each other.
    OtherBlock,
    /// Slice roots that are not the block's.
    WrongRoots,
    /// A number of slices that is not the block's.
    WrongCount,
    /// Shreds with other bytes.
    WrongShreds,
    /// Lists of ancestors that are not the block's, leave some out, or go upwards.
    WrongAncestors,
}

/// One thing that goes wrong. Nodes are validator indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The node stops.
    Crash {
        /// Who.
        node: usize,
        /// When, in milliseconds since the start.
        at_ms: u64,
        /// So many outputs are carried out from then on, …
        outputs: u64,
        /// … but it stops at the latest so much later.
        within_ms: u64,
        /// With what.
        loses: Loses,
        /// When it starts again; never if `None`.
        back_ms: Option<u64>,
    },
    /// The node's block log notices that it cannot read one of its final blocks any more.
    SpoilBlock {
        /// Who.
        node: usize,
        /// When, in milliseconds since the start.
        at_ms: u64,
    },
    /// The two sides do not hear each other.
    Partition {
        /// One side.
        side: Nodes,
        /// When.
        during: During,
    },
    /// What reaches the node waits, and so do its timers.
    Pause {
        /// Who.
        node: usize,
        /// When.
        during: During,
    },
    /// This share of all datagrams is lost.
    Loss {
        /// How many of a hundred.
        percent: u64,
        /// When.
        during: During,
    },
    /// This share of all datagrams comes twice.
    Duplication {
        /// How many of a hundred.
        percent: u64,
    },
    /// This share of all datagrams comes late, behind others that were sent later.
    Reordering {
        /// How many of a hundred.
        percent: u64,
        /// At most how late.
        by_ms: u64,
    },
    /// The node's clock runs fast or slow.
    Drift {
        /// Who.
        node: usize,
        /// By so many millionths.
        per_million: i64,
    },
    /// What the node sends queues up.
    Bandwidth {
        /// Who.
        node: usize,
        /// How much may leave.
        kbit_per_second: u64,
    },
    /// The network holds back shreds of slots that begin in this time from some nodes.
    SlowShreds {
        /// From whom.
        to: Nodes,
        /// How long.
        by_ms: u64,
        /// When.
        during: During,
    },
    /// The network holds back votes and certificates.
    SlowVotes {
        /// Whose.
        from: Nodes,
        /// From whom.
        to: Nodes,
        /// How long.
        by_ms: u64,
        /// When.
        during: During,
    },
    /// The node signs two versions of each slice, one for these nodes and what they relay and one for all others. The
    /// network holds back what would show the one side the other's version.
    Equivocate {
        /// Who.
        node: usize,
        /// Who is to see the first version.
        first_to: Nodes,
    },
    /// The node sends of each slice one shred fewer than it can be rebuilt from.
    Withhold {
        /// Who.
        node: usize,
    },
    /// The node's slices leave this much later than they should.
    Late {
        /// Who.
        node: usize,
        /// How much.
        by_ms: u64,
    },
    /// The node's windows begin on a block that they must not begin on.
    UnreadyParent {
        /// Who.
        node: usize,
    },
    /// The node's blocks inside a window state another parent than the one before them.
    WrongParent {
        /// Who.
        node: usize,
    },
    /// The node relays nothing.
    SilentRelay {
        /// Who.
        node: usize,
    },
    /// The node's votes reach only these.
    SelectiveVote {
        /// Who.
        node: usize,
        /// Who hears of them.
        to: Nodes,
    },
    /// The node signs a skip vote beside each notar vote, and the other way round. Everybody gets both.
    DoubleVote {
        /// Who.
        node: usize,
    },
    /// The node's first votes differ by whom it tells: for a block, or for another or none. It never votes to finalize.
    SplitVote {
        /// Who.
        node: usize,
        /// Who gets the other votes.
        others_to: Nodes,
    },
    /// With each first vote the node casts fallback and final votes for everything.
    SpamFallback {
        /// Who.
        node: usize,
    },
    /// The node's certificates lack signers.
    ShortCertificates {
        /// Who.
        node: usize,
    },
    /// The node lies in repair.
    LieInRepair {
        /// Who.
        node: usize,
        /// How.
        lie: RepairLie,
    },
}

impl Fault {
    /// The node that breaks the protocol with it; a node that crashed does not.
    pub(super) const fn liar(&self) -> Option<usize> {
        match *self {
            Self::Crash { .. }
            | Self::SpoilBlock { .. }
            | Self::Partition { .. }
            | Self::Pause { .. }
            | Self::Loss { .. }
            | Self::Duplication { .. }
            | Self::Reordering { .. }
            | Self::Drift { .. }
            | Self::Bandwidth { .. }
            | Self::SlowShreds { .. }
            | Self::SlowVotes { .. } => None,
            Self::Equivocate { node, .. }
            | Self::Withhold { node }
            | Self::Late { node, .. }
            | Self::UnreadyParent { node }
            | Self::WrongParent { node }
            | Self::SilentRelay { node }
            | Self::SelectiveVote { node, .. }
            | Self::DoubleVote { node }
            | Self::SplitVote { node, .. }
            | Self::SpamFallback { node }
            | Self::ShortCertificates { node }
            | Self::LieInRepair { node, .. } => Some(node),
        }
    }
}
