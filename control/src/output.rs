//! What the control core asks of the world, and what it tells observers.

use std::sync::Arc;
use std::time::Duration;

use alpenglow_rotor::assembler::Equivocation;
use alpenglow_rotor::types::{BlockId, Slot, Time, ValidatorIndex};

use crate::block::{Block, InvalidBlock};
use crate::block_log::BlockLogOrder;
use crate::certificate::Statement;
use crate::checker::CheckJob;
use crate::consensus::{Evidence, Finalization};
use crate::evidence::Proof;
use crate::input::JobId;
use crate::message::Message;
use crate::production::OutgoingSlice;
use crate::repair::RepairMessage;
use crate::vote::VotePayload;
use crate::vote_record::Entry;

/// One thing to do, in this order.
#[derive(Clone, Debug)]
pub enum Output {
    /// Append to the vote log, before anything that follows is carried out; see [`crate::vote_record`].
    Record(Entry),
    /// Write a reservation up to this slot, beside the vote path, then answer with
    /// [`crate::input::Input::ReservationDurable`].
    Reserve(Slot),
    /// Something for the block log; see [`crate::block_log`], also for what must be carried out before what follows.
    BlockLog(BlockLogOrder),
    /// Send to every other validator.
    Broadcast(Message),
    /// Forward a transaction to a leader.
    SendTransaction {
        /// The leader.
        to: ValidatorIndex,
        /// The transaction.
        bytes: Arc<[u8]>,
    },
    /// Send a question or an answer of repair, when nothing more urgent is to be sent. There may be many at once.
    Repair {
        /// The validator.
        to: ValidatorIndex,
        /// What it says.
        message: RepairMessage,
    },
    /// Shred and send a slice of an own block, then answer with [`crate::input::Input::SliceSent`].
    SendSlice(OutgoingSlice),
    /// Check signatures, then answer with [`crate::input::Input::Checked`]. At most
    /// [`crate::checking::CheckingLimits::jobs_max`] are unanswered at a time.
    Check {
        /// To be given back with the answer.
        id: JobId,
        /// What to check.
        job: CheckJob,
    },
    /// Which shreds are wanted from now on.
    Horizon(ShredHorizon),
    /// The next finalized block for the application, child of the one before.
    Finalized(Arc<Block>),
    /// Finalized blocks that the application does not get; the next one follows `through`.
    FinalizedGap {
        /// The last block that the application got, or the end of the last gap.
        after: BlockId,
        /// The last block of this gap.
        through: BlockId,
    },
    /// A validator signed what no correct one signs. To be kept for whoever asks; nothing here depends on it.
    Proof(Arc<Proof>),
    /// Something worth to know. Nothing depends on it.
    Event(Event),
}

/// Shreds of slots above `closed_through` and up to `shreds_through` are wanted. `closed_through` is the last slot
/// handed to the application (see [`crate::blokstor`]), not the last one finalized: what others finalized a moment
/// ago and is not complete here is still wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShredHorizon {
    /// The last slot not wanted.
    pub closed_through: Slot,
    /// The last slot wanted: end of the second window after the highest ParentReady.
    pub shreds_through: Slot,
}

/// How a slot was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Its block is final.
    Finalized {
        /// The block.
        block: BlockId,
        /// By what.
        how: Finalization,
    },
    /// It holds no final block and never will.
    Skipped,
}

/// What observers see. Every event is of the moment of the call that led to it.
#[derive(Clone, Debug)]
pub enum Event {
    /// A block is complete and held.
    BlockComplete {
        /// The block, with its slices and their leader's stamps.
        block: Arc<Block>,
        /// Whether this node made it.
        own: bool,
    },
    /// A slot's block is dead.
    BlockDead {
        /// The slot.
        slot: Slot,
        /// Its block, if that has a hash.
        block: Option<BlockId>,
        /// Why.
        reason: InvalidBlock,
    },
    /// A leader contradicted itself; reported once a slot.
    Equivocation(Equivocation),
    /// A slot's slices had to make room for others.
    Evicted(Slot),
    /// This node cast a vote.
    VoteCast(VotePayload),
    /// A certificate was stored, made here or received. Its statement tells notarized, finalized fast and the rest.
    CertificateStored(Statement),
    /// A block has a notarization or fast-finalization certificate: once for each block, with whichever came first.
    Notarized(BlockId),
    /// A window's leader may build on `parent`.
    ParentReady {
        /// First slot of the window.
        slot: Slot,
        /// What it may build on.
        parent: BlockId,
    },
    /// A slot is decided: once for each slot.
    Decided {
        /// The slot.
        slot: Slot,
        /// How.
        decision: Decision,
    },
    /// A block is needed that is not held.
    RepairNeeded(BlockId),
    /// A block was fetched from others. [`Event::BlockComplete`] follows, if it did not come through Rotor meanwhile.
    BlockRepaired {
        /// The block.
        block: BlockId,
        /// Since it became needed.
        took: Duration,
        /// Requests sent for it.
        requests: u32,
    },
    /// A validator signed votes that exclude each other.
    Evidence(Evidence),
    /// A validator's messages are dropped until then, for a wrong signature.
    Barred {
        /// Who.
        validator: ValidatorIndex,
        /// Until when.
        until: Time,
    },
    /// This node leads and begins a block.
    ProductionBegan(Slot),
    /// This node leads, and the block that it began before ParentReady goes on from another parent.
    ParentChanged {
        /// The block's slot.
        slot: Slot,
        /// What it began on.
        from: BlockId,
        /// What it is a child of.
        to: BlockId,
    },
    /// Nothing was finalized for long: certificates and votes are sent again.
    Standstill {
        /// Highest finalized slot.
        finalized: Slot,
    },
    /// Two final blocks contradict each other: more of the stake lied than the protocol can bear.
    Contradiction {
        /// One.
        block: BlockId,
        /// The other.
        other: BlockId,
    },
}
