//! Shreds that show a slice to be malformed: kept where a node finds the defect, and checked by whoever doubts it.
//!
//! Every node that gets enough shreds of a malformed slice sees the defect by itself, but those who did not, or ask
//! later, need the shreds. The shards allocate nothing, so an assembler has memory for the shreds of one slice,
//! reserved at its start and lent out as slice memory is. While it is lent, further malformed slices are reported
//! without their shreds.

use ed25519_dalek::VerifyingKey;

use super::entry::Entry;
use super::{Assembler, Decoded, Defect, Inserted, MalformedSlice};
use crate::parameters::CodingParameters;
use crate::shred::{self, ShredView};
use crate::slice::{Arc, SliceId, SliceMemory, SlicePayload};
use crate::types::{ClusterId, SLICES_MAX, Time, ValidatorIndex};

/// Bytes before each shred: its length.
const LENGTH_BYTES: usize = 2;

/// Memory for the shreds of one malformed slice.
pub(super) struct Shown {
    memory: Arc<SliceMemory>,
    bytes: usize,
    /// The slice whose shreds of different lengths are in the memory, and how many bytes they are.
    lengths: Option<(SliceId, usize)>,
}

impl Shown {
    /// Memory that it takes, once it is used.
    pub(super) fn bytes(parameters: &CodingParameters) -> usize {
        // Two shreds at least, of different lengths.
        let count = parameters.data_shreds().max(2);
        count * (LENGTH_BYTES + shred::wire_bytes(parameters, parameters.shred_bytes()))
    }

    pub(super) fn new(parameters: &CodingParameters) -> Self {
        let bytes = Self::bytes(parameters);
        Self { memory: SliceMemory::reserved(bytes), bytes, lengths: None }
    }

    /// The memory, unless it is lent.
    fn free(&mut self) -> Option<&mut [u8]> {
        let memory = Arc::get_mut(&mut self.memory)?;
        memory.lay_out(self.bytes);
        Some(memory.bytes_mut())
    }

    /// Keeps a shred that is longer or shorter than those of `entry`, together with one of these. There may be none
    /// yet: then nothing is kept.
    pub(super) fn keep_lengths(&mut self, entry: &Entry, other: &ShredView<'_>, parameters: &CodingParameters) {
        self.lengths = None;
        let Some(memory) = self.free() else { return };
        let first = entry.write_shreds(1, memory, parameters);
        if first > 0 {
            let length = shred::wire_bytes(parameters, other.data().len());
            let (prefix, shred) = memory[first..].split_at_mut(LENGTH_BYTES);
            prefix.copy_from_slice(&(length as u16).to_le_bytes());
            shred::write_head(&entry.signed, other.index(), other.path().iter(), shred);
            shred[length - other.data().len()..length].copy_from_slice(other.data());
            self.lengths = Some((entry.signed.id, first + LENGTH_BYTES + length));
        }
    }

    /// Shreds of `entry`, in which `defect` was found, that show it.
    pub(super) fn of(&mut self, entry: &Entry, defect: Defect, parameters: &CodingParameters) -> Option<SlicePayload> {
        let bytes = match defect {
            Defect::Endless => return None,
            Defect::Lengths => {
                let (_, bytes) = self.lengths.take().filter(|(slice, _)| *slice == entry.signed.id)?;
                bytes
            }
            Defect::Code | Defect::Frame | Defect::Padding | Defect::Overlong => {
                self.lengths = None;
                entry.write_shreds(parameters.data_shreds(), self.free()?, parameters)
            }
        };
        Some(SlicePayload::new(Arc::clone(&self.memory), 0..bytes))
    }
}

/// Why shreds do not show that a slice is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    /// There are none.
    #[error("there are no shreds that show it")]
    NoShreds,
    /// Not shreds behind their lengths, or one that is not the leader's for this root.
    #[error("shred {0} is not one that the leader signed for this slice")]
    Shred(usize),
    /// Too few, one twice, or more than are needed.
    #[error("the shreds are not as many as decide the slice")]
    Count,
    /// Decoding finds a slice, or another defect.
    #[error("the shreds do not have this defect")]
    Defect,
}

impl MalformedSlice {
    /// Does what every node does that gets these shreds, and compares what it finds. The leader's key, cluster and
    /// parameters must be those of the slot. Takes memory for one slice.
    ///
    /// # Errors
    /// [`Unproven`] says what is missing.
    pub fn check(
        &self,
        leader: &VerifyingKey,
        cluster: ClusterId,
        parameters: &CodingParameters,
    ) -> Result<(), Unproven> {
        if self.defect == Defect::Endless {
            let is_endless = self.signed.id.index.get() == SLICES_MAX - 1 && !self.signed.is_last;
            return match &self.shreds {
                None if is_endless && self.signed.verify(leader, cluster) => Ok(()),
                _ => Err(Unproven::Defect),
            };
        }
        let mut rest: &[u8] = self.shreds.as_ref().ok_or(Unproven::NoShreds)?;
        let mut assembler = Assembler::new(*parameters, cluster, 0);
        let mut inserted = Inserted::Stored;
        let mut count = 0;
        while !rest.is_empty() {
            if inserted != Inserted::Stored {
                return Err(Unproven::Count);
            }
            let (shred, after) = split(rest).ok_or(Unproven::Shred(count))?;
            let shred = ShredView::parse(shred, parameters).map_err(|_| Unproven::Shred(count))?;
            let is_of_slice = (shred.slice(), shred.is_last()) == (self.signed.id, self.signed.is_last);
            if !is_of_slice || shred.signature() != self.signed.signature || shred.claimed_root() != self.signed.root {
                return Err(Unproven::Shred(count));
            }
            let verified = assembler.verify(&shred, None, ValidatorIndex(0), leader);
            inserted = assembler.insert(&shred, verified.map_err(|_| Unproven::Shred(count))?, Time(0));
            (rest, count) = (after, count + 1);
        }
        if inserted != Inserted::Complete {
            return Err(Unproven::Count);
        }
        match assembler.decode(self.signed.id) {
            Some(Decoded::Malformed(found)) if found.defect == self.defect => Ok(()),
            _ => Err(Unproven::Defect),
        }
    }
}

/// The first shred, and what follows it.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH_BYTES>()?;
    rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))
}
