//! Repair: blocks that are needed and did not come through Rotor are fetched from others, by their hash (paper §2.8).
//!
//! **What is fetched.** Any block that is certified, that a final one descends from, or that a notar-fallback vote
//! waits for, and that is not held. Requests leave when Rotor has brought no slice of its slot for a while, or at once
//! if the slot is closed or this node has voted in it: then nothing is to be waited for. A second version of a slot's
//! block is fetched like any other, and held beside the first.
//!
//! **How.** The block hash is the root of a tree over the slice roots, and each of those the root of a tree over the
//! slice's shreds. So everything is asked for by the hash alone, in parallel, and every answer proves itself:
//!
//! 1. how many slices there are: the last one's root, with a path that leaves nothing but padding to its right;
//! 2. the slice roots, in groups, with a path each; a slice that is held under the same root is not asked for;
//! 3. the data shreds of each slice, with their paths. The slice is encoded again and its root compared: whoever
//!    repairs a block comes to the same verdict as whoever gets it from its leader, and needs no signature for it.
//!
//! The first slice of a block names its parent. If the block is final so is the parent, and it is fetched from then on:
//! a node that is a little behind fetches a chain's blocks beside each other. One that is far behind asks which blocks
//! a final one descends from, and fetches them all at once. Nothing proves such a list but the blocks on it, so what
//! comes of it is kept here until the chain from above has reached it, and a list that turns out wrong costs whoever
//! gave it (`requester/ancestors.rs`).
//!
//! **Whom.** Others drawn by stake, from the seed in the configuration. There is one request under way for each missing
//! thing, however often it is needed; without an answer in time another peer is asked, with more patience. Who is
//! silent or wrong is asked less (`peers.rs`); who answers bounds what each peer gets ([`ServingLimits`]), and who asks
//! stays below it ([`AskingLimits`]). Every datagram carries its sender's MAC, and answers go to the address that the
//! receiver has for that validator, so that answers larger than requests can be turned against nobody.
//!
//! **From where.** Any [`BlockSource`]: the blocks in memory, and those that the block log was asked for.

mod budget;
mod fetch;
mod peers;
mod proofs;
mod requester;
mod responder;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use alpenglow_rotor::erasure::Kernel;
use alpenglow_rotor::types::BlockId;

pub use self::budget::Allowance;
pub use self::fetch::SliceSource;
pub use self::peers::AskingLimits;
pub use self::requester::{Need, REPAIRED_AT_A_TIME_MAX, RequestLimits, Requester};
pub use self::responder::{BlockSource, Responder, ServingLimits};
pub use self::wire::{
    ANCESTORS_PER_ANSWER, AnswerContent, REPAIR_BODY_BYTES_MAX, ROOTS_PER_GROUP, RepairAnswer, RepairMessage,
    RepairRequest, RequestId, SHREDS_PER_REQUEST, ShredPart, Want, decode_answer, decode_request, encode_answer,
    encode_request, part_bytes,
};
use crate::block::{Block, InvalidBlock};

/// How a node repairs and serves.
#[derive(Clone, Copy, Debug)]
pub struct RepairConfig {
    /// Most memory of blocks on their way; a single larger one is not fetched.
    pub bytes_max: usize,
    /// What a peer is asked for.
    pub asking: AskingLimits,
    /// What it answers.
    pub serving: ServingLimits,
    /// Decides whom it asks.
    pub seed: [u8; 32],
    /// What slices are encoded with, to check and to serve them.
    pub kernel: Kernel,
}

impl Default for RepairConfig {
    /// 64 MiB on their way, and the default limits. A node should draw a seed of its own.
    fn default() -> Self {
        Self {
            bytes_max: 64 << 20,
            asking: AskingLimits::default(),
            serving: ServingLimits::default(),
            seed: [0; 32],
            kernel: Kernel::best(),
        }
    }
}

/// A block that repair has come to an end with.
#[derive(Clone, Debug)]
pub struct Repaired {
    /// Which.
    pub id: BlockId,
    /// The block, or why it is dead for everybody.
    pub outcome: Result<Arc<Block>, InvalidBlock>,
    /// Since it became needed.
    pub took: Duration,
    /// Requests sent for it.
    pub requests: u32,
    /// Whether it is for the block log, which had lost it.
    pub for_log: bool,
}

/// What a requester did since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepairStatistics {
    /// Requests sent.
    pub requests: u64,
    /// Requests that the peer asked could not answer.
    pub not_held: u64,
    /// Blocks fetched.
    pub blocks: u64,
}

#[cfg(test)]
mod tests;
