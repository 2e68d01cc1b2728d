//! The assembler's memory: a fixed number of entries, found by slice.

use std::collections::VecDeque;

use super::entry::Entry;
use crate::parameters::CodingParameters;
use crate::signature::SignedRoot;
use crate::slice::SliceId;
use crate::types::{SLICES_MAX, Slot, WINDOW_SLOTS};

/// Shreds are taken up to the end of the second window after the one voted in: never more slices than these are wanted.
const ENTRIES_MAX: usize = 4 * WINDOW_SLOTS as usize * SLICES_MAX;
/// Lent entries asked for their memory before one is taken.
const ASKED: usize = 8;

/// Entries by slice. Entries are used again most recently used first, so memory that the load does not need is never
/// touched.
pub(super) struct Pool {
    entries: Box<[Entry]>,
    /// Slices held, in order, and their entries. A sorted list rather than a hash table: closing slots takes a prefix,
    /// and the slices of a window lie together.
    held: Vec<(SliceId, u32)>,
    /// Entries in no use; the next one last.
    free: Vec<u32>,
    /// Entries that hold no slice, but whose memory is still read elsewhere.
    lent: VecDeque<u32>,
    /// The entry taken up last: shreds of a slice tend to come together.
    recent: u32,
    evictions: u64,
}

impl Pool {
    /// As many entries as `budget_bytes` hold, at least one.
    pub(super) fn capacity_within(parameters: &CodingParameters, budget_bytes: usize) -> usize {
        (budget_bytes / Self::bytes_per_slice(parameters)).clamp(1, ENTRIES_MAX)
    }

    /// With `count` entries.
    pub(super) fn new(parameters: &CodingParameters, count: usize) -> Self {
        Self {
            entries: (0..count).map(|_| Entry::new(parameters)).collect(),
            held: Vec::with_capacity(count),
            free: (0..count as u32).rev().collect(),
            lent: VecDeque::with_capacity(count),
            recent: 0,
            evictions: 0,
        }
    }

    /// All memory that one more slice takes.
    pub(super) const fn bytes_per_slice(parameters: &CodingParameters) -> usize {
        let lists = size_of::<(SliceId, u32)>() + 2 * size_of::<u32>();
        Entry::heap_bytes(parameters) + size_of::<Entry>() + lists
    }

    pub(super) const fn capacity(&self) -> usize {
        self.entries.len()
    }

    pub(super) const fn held(&self) -> usize {
        self.held.len()
    }

    pub(super) const fn evictions(&self) -> u64 {
        self.evictions
    }

    pub(super) const fn entry(&self, position: u32) -> &Entry {
        &self.entries[position as usize]
    }

    pub(super) const fn entry_mut(&mut self, position: u32) -> &mut Entry {
        &mut self.entries[position as usize]
    }

    /// The entry that holds `slice`.
    pub(super) fn find(&self, slice: SliceId) -> Option<u32> {
        let recent = self.entry(self.recent);
        if recent.is_held && recent.signed.id == slice {
            return Some(self.recent);
        }
        let at = self.held.binary_search_by_key(&slice, |held| held.0).ok()?;
        Some(self.held[at].1)
    }

    /// Whether there would be memory for `slice`.
    pub(super) fn has_room(&mut self, slice: SliceId) -> bool {
        self.reclaim();
        !self.free.is_empty() || self.least_needed(slice).is_some()
    }

    /// Takes up a slice not held, dropping another one if need be; `None` if there is no memory for it.
    pub(super) fn take(&mut self, signed: SignedRoot, piece_bytes: usize) -> Option<u32> {
        self.reclaim();
        if self.free.is_empty() {
            let least_needed = self.least_needed(signed.id)?;
            let (_, position) = self.held.remove(least_needed);
            self.release(position);
            self.evictions += 1;
        }
        let position = self.free.pop()?;
        let at = self.held.binary_search_by_key(&signed.id, |held| held.0).expect_err("a slice is taken up once");
        self.held.insert(at, (signed.id, position));
        self.entry_mut(position).begin(signed, piece_bytes);
        self.recent = position;
        Some(position)
    }

    /// Lets go all slices of slots up to `through`.
    pub(super) fn close(&mut self, through: Slot) {
        let closed = self.held.partition_point(|(slice, _)| slice.slot <= through);
        for at in 0..closed {
            self.release(self.held[at].1);
        }
        self.held.drain(..closed);
    }

    /// Where in the list of held slices the one is that makes room for `newcomer`, if any: the farthest of the window
    /// that holds the most, for a nearer slice of a window that holds no more, or for a farther one of a window that
    /// holds clearly less (by so much that two windows do not take turns in dropping each other's). Slices whose memory
    /// would not come free are passed over.
    fn least_needed(&mut self, newcomer: SliceId) -> Option<usize> {
        let Self { entries, held, .. } = self;
        let mut of_newcomer = 0;
        let mut most: Option<(usize, usize)> = None;
        let mut end = held.len();
        while let Some((farthest, _)) = held[..end].last() {
            let window = farthest.slot.window();
            let start = held[..end].partition_point(|(slice, _)| slice.slot.window() < window);
            let count = end - start;
            if window == newcomer.slot.window() {
                of_newcomer = count;
            }
            if most.is_none_or(|(most, _)| count > most) {
                let is_memory_free = |(_, position): &(SliceId, u32)| entries[*position as usize].is_memory_free();
                most = held[start..end].iter().rposition(is_memory_free).map(|at| (count, start + at)).or(most);
            }
            end = start;
        }
        let (count, at) = most?;
        let gives_way = if newcomer < held[at].0 { of_newcomer <= count } else { of_newcomer + 2 < count };
        gives_way.then_some(at)
    }

    fn release(&mut self, position: u32) {
        let entry = self.entry_mut(position);
        entry.end();
        if entry.is_memory_free() {
            self.free.push(position);
        } else {
            self.lent.push_back(position);
        }
    }

    /// Looks whether memory that was lent has come back.
    fn reclaim(&mut self) {
        for _ in 0..ASKED.min(self.lent.len()) {
            let Some(position) = self.lent.pop_front() else { return };
            if self.entry_mut(position).is_memory_free() {
                self.free.push(position);
            } else {
                self.lent.push_back(position);
            }
        }
    }
}
