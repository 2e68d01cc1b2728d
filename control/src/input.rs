//! What the world tells the control core. Everything in it is bounded by whoever received it: a datagram, a slice, a
//! verdict.

use std::sync::Arc;

use alpenglow_rotor::assembler::{Equivocation, MalformedSlice};
use alpenglow_rotor::slice::Slice;
use alpenglow_rotor::types::{Slot, ValidatorIndex};

use crate::block_log::BlockLogAnswer;
use crate::certificate::UnverifiedCertificate;
use crate::checker::CheckVerdict;
use crate::production::SliceSent;
use crate::repair::RepairMessage;
use crate::transactions::TransactionSource;
use crate::vote::UnverifiedVote;

/// Links a verdict to its job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobId(pub u64);

/// One thing that happened outside.
#[derive(Clone, Debug)]
pub enum Input {
    /// A slice was decoded from shreds of its slot's leader. The leader's own slices come as [`Input::SliceSent`]
    /// instead.
    Slice(Slice),
    /// An own slice was shredded and sent.
    SliceSent(SliceSent),
    /// A valid shred of the first slot of a window came.
    LeaderSeen(Slot),
    /// Shreds that the leader signed turned out to be no slice.
    MalformedSlice(MalformedSlice),
    /// A leader signed one slice twice, differently. Both signatures were checked.
    Equivocation(Equivocation),
    /// A vote from the validator that authenticated its datagram.
    Vote(UnverifiedVote),
    /// A certificate, and the validator that authenticated its datagram.
    Certificate {
        /// The certificate.
        certificate: UnverifiedCertificate,
        /// Who sent it.
        sender: ValidatorIndex,
    },
    /// A question or an answer of repair, and the validator that authenticated its datagram.
    Repair {
        /// What it says.
        message: RepairMessage,
        /// Who sent it.
        sender: ValidatorIndex,
    },
    /// A transaction, of any length.
    Transaction {
        /// Its bytes.
        bytes: Arc<[u8]>,
        /// Who gave it.
        source: TransactionSource,
    },
    /// The answer to an [`crate::output::Output::Check`].
    Checked {
        /// The job's.
        id: JobId,
        /// What was found.
        verdict: CheckVerdict,
    },
    /// The reservation of an [`crate::output::Output::Reserve`], up to this slot, is on disk.
    ReservationDurable(Slot),
    /// What the block log says; see [`crate::block_log`].
    BlockLog(BlockLogAnswer),
    /// Time passed, to at least [`crate::control::Control::next_timeout`].
    Tick,
}
