//! Buffers for datagrams that another shard has handed over.

use super::{BufferId, Received};
use crate::limits::Source;

/// Datagrams at hand. More of them wait in the inbox.
pub(crate) const HANDED_OVER_BUFFERS: u16 = 16;

/// Held like receive buffers, but filled from this process's memory, one datagram in each.
pub(crate) struct HandedOverBuffers {
    entries: Box<[Box<[u8]>]>,
    /// The bytes in each, and where they say that they come from.
    filled: Box<[(usize, Source)]>,
    /// How often the shard holds each buffer; 0: it is free.
    holds: Box<[u16]>,
    free: Vec<u16>,
}

impl HandedOverBuffers {
    /// For datagrams of up to `datagram_bytes`; for none if that is 0.
    pub(crate) fn new(datagram_bytes: usize) -> Self {
        let count = if datagram_bytes == 0 { 0 } else { HANDED_OVER_BUFFERS };
        Self {
            entries: (0..count).map(|_| vec![0; datagram_bytes].into()).collect(),
            filled: vec![(0, Source::default()); count.into()].into(),
            holds: vec![0; count.into()].into(),
            free: (0..count).collect(),
        }
    }

    /// Whether [`Self::admit`] takes one.
    pub(crate) const fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    /// Copies a datagram to a free buffer, which is then held once.
    pub(crate) fn admit(&mut self, datagram: &[u8], source: Source) -> Option<BufferId> {
        let index = self.free.pop()?;
        self.entries[usize::from(index)][..datagram.len()].copy_from_slice(datagram);
        self.filled[usize::from(index)] = (datagram.len(), source);
        self.holds[usize::from(index)] = 1;
        Some(BufferId::handed_over(index))
    }

    pub(crate) fn received(&self, index: usize) -> Received<'_> {
        assert!(self.holds[index] > 0, "the buffer is free");
        let (bytes, source) = self.filled[index];
        Received::handed_over(&self.entries[index][..bytes], source)
    }

    pub(crate) fn hold(&mut self, index: usize) {
        assert!(self.holds[index] > 0, "the buffer is free");
        self.holds[index] += 1;
    }

    pub(crate) fn release(&mut self, index: usize) {
        self.holds[index] = self.holds[index].checked_sub(1).expect("released as often as held");
        if self.holds[index] == 0 {
            self.free.push(index as u16);
        }
    }
}
