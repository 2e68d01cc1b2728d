//! What is in the log, as values and as bytes.

use std::sync::Arc;

use alpenglow_rotor::types::{Hash, Slot};

use crate::certificate::Certificate;
use crate::message::{self, Message, MessageError};
use crate::vote::{VoteKind, VotePayload};

/// The tags beside those of the kinds of votes.
const WINDOW: u8 = 16;
const FINALIZED: u8 = 17;
const BARRED: u8 = 18;
/// Certificates that finalize a block: a finalization and a notarization, or a fast one.
const CERTIFICATES_MAX: usize = 2;

/// One thing to remember.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// This node is about to send a vote.
    Vote(VotePayload),
    /// It is about to send its first slice of the window that begins there.
    Window(Slot),
    /// The highest finalized block, by the certificates that make it so.
    Finalized(Vec<Arc<Certificate>>),
    /// It found out that it may not vote up to this slot; see [`super::Bar::PastFirstFinalization`].
    Barred(Slot),
}

/// Why bytes are no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Too short, too long, or of an unknown kind.
    #[error("not the encoding of an entry")]
    Layout,
    /// A certificate in it.
    #[error("a certificate in it: {0}")]
    Certificate(#[from] MessageError),
}

impl Entry {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let of_slot = |tag: u8, slot: Slot| [&[tag][..], &slot.0.to_le_bytes()].concat();
        match self {
            Self::Vote(payload) => {
                let mut bytes = of_slot(payload.kind() as u8, payload.slot());
                bytes.extend(payload.hash().iter().flat_map(|hash| hash.0));
                bytes
            }
            Self::Window(first) => of_slot(WINDOW, *first),
            Self::Barred(through) => of_slot(BARRED, *through),
            Self::Finalized(certificates) => {
                let mut bytes = vec![FINALIZED];
                for certificate in certificates {
                    let encoded = Message::Certificate(Arc::clone(certificate)).encode();
                    bytes.extend((encoded.len() as u32).to_le_bytes());
                    bytes.extend(encoded);
                }
                bytes
            }
        }
    }

    /// The entry of these bytes, of a set of `validators`.
    ///
    /// # Errors
    /// [`EntryError`] for anything that [`Self::encode`] does not make.
    pub fn decode(bytes: &[u8], validators: usize) -> Result<Self, EntryError> {
        let (&tag, rest) = bytes.split_first().ok_or(EntryError::Layout)?;
        if tag == FINALIZED {
            return decode_certificates(rest, validators).map(Self::Finalized);
        }
        let (slot, hash) = rest.split_first_chunk().ok_or(EntryError::Layout)?;
        let slot = Slot(u64::from_le_bytes(*slot));
        match tag {
            WINDOW if hash.is_empty() => Ok(Self::Window(slot)),
            BARRED if hash.is_empty() => Ok(Self::Barred(slot)),
            _ => {
                let hash = if hash.is_empty() { None } else { Some(hash.try_into().map_err(|_| EntryError::Layout)?) };
                let kind = VoteKind::from_number(tag).ok_or(EntryError::Layout)?;
                VotePayload::from_parts(kind, slot, hash.map(Hash)).map(Self::Vote).ok_or(EntryError::Layout)
            }
        }
    }

    /// The slot it is about.
    #[must_use]
    pub fn slot(&self) -> Slot {
        match self {
            Self::Vote(payload) => payload.slot(),
            Self::Window(slot) | Self::Barred(slot) => *slot,
            Self::Finalized(certificates) => {
                certificates.first().map_or(Slot::GENESIS, |certificate| certificate.statement.slot())
            }
        }
    }
}

fn decode_certificates(mut bytes: &[u8], validators: usize) -> Result<Vec<Arc<Certificate>>, EntryError> {
    let mut certificates = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk().ok_or(EntryError::Layout)?;
        let (encoded, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or(EntryError::Layout)?;
        certificates.push(Arc::new(message::decode_certificate(encoded, validators)?.0));
        bytes = rest;
    }
    if certificates.is_empty() || certificates.len() > CERTIFICATES_MAX {
        return Err(EntryError::Layout);
    }
    Ok(certificates)
}

/// What is still needed of a log: what a rotation keeps. As long as the votes of the open slots.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    finalized: Option<Entry>,
    open: Vec<Entry>,
}

impl Kept {
    /// Takes in the next entry. A finalization lets go what was said in slots up to its own.
    pub fn push(&mut self, entry: Entry) {
        let highest = self.finalized.as_ref().map_or(Slot::GENESIS, Entry::slot);
        match &entry {
            Entry::Finalized(_) if entry.slot() >= highest => {
                let closed = entry.slot();
                // A window's later slots are still to be made when its first one is final.
                let is_open = |entry: &Entry| match entry {
                    Entry::Window(first) => first.window_last() > closed,
                    Entry::Barred(_) => true,
                    _ => entry.slot() > closed,
                };
                self.open.retain(is_open);
                self.finalized = Some(entry);
            }
            Entry::Finalized(_) => {}
            _ => self.open.push(entry),
        }
    }

    /// A log that says as much as all that was taken in.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.finalized.iter().chain(&self.open)
    }
}

impl FromIterator<Entry> for Kept {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        let mut kept = Self::default();
        entries.into_iter().for_each(|entry| kept.push(entry));
        kept
    }
}
