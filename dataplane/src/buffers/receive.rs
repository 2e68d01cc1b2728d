//! Receive buffers, and what is in them.
#![allow(unsafe_code)]

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use super::UDP_BYTES_MAX;
use super::arena::{Arena, PAGE_BYTES};
use crate::limits::Source;
use crate::socket::{ControlMessages, RECEIVE_CONTROL_BYTES};

/// Room for the sender's address, of either family.
pub(crate) const NAME_BYTES: usize = 32;
/// What a receive buffer begins with, before the sender's address and the control messages: native words for the bytes
/// of name, control messages and payload, and the flags. A multishot receive fills its buffers so; a buffer filled
/// otherwise gets the same layout.
const WORDS_BYTES: usize = 16;
const CONTROL_START: usize = WORDS_BYTES + NAME_BYTES;
const PAYLOAD_START: usize = CONTROL_START + RECEIVE_CONTROL_BYTES;
const RECEIVE_BUFFER_BYTES: usize = (PAYLOAD_START + UDP_BYTES_MAX).next_multiple_of(PAGE_BYTES);
/// Bytes of payload that a receive buffer holds: somewhat more than ever come.
pub(crate) const PAYLOAD_BYTES: usize = RECEIVE_BUFFER_BYTES - PAYLOAD_START;

/// What the kernel put into one receive buffer.
pub(crate) struct Received<'a> {
    /// One datagram, or several joined.
    pub(crate) payload: &'a [u8],
    /// Where to split it; the last datagram may be shorter. Not 0.
    pub(crate) segment_bytes: usize,
    /// When the kernel took it, on CLOCK_REALTIME.
    pub(crate) stamp_ns: Option<u64>,
    /// Where it says that it comes from.
    pub(crate) source: Source,
    /// Whether it was cut off.
    pub(crate) truncated: bool,
}

impl<'a> Received<'a> {
    /// A datagram that another shard has received.
    pub(super) fn handed_over(datagram: &'a [u8], source: Source) -> Self {
        let segment_bytes = datagram.len().max(1);
        Self { payload: datagram, segment_bytes, stamp_ns: None, source, truncated: false }
    }

    pub(super) fn parse(bytes: &'a [u8]) -> Self {
        let Some((head, payload)) = bytes.split_at_checked(PAYLOAD_START) else {
            let source = Source::default();
            return Self { payload: &[], segment_bytes: 1, stamp_ns: None, source, truncated: true };
        };
        let word = |index: usize| u32::from_ne_bytes([0, 1, 2, 3].map(|byte| head[index * 4 + byte]));
        let (name_bytes, control_bytes, flags) = (word(0) as usize, word(1) as usize, word(3));
        let control = ControlMessages::parse(&head[CONTROL_START..][..control_bytes.min(RECEIVE_CONTROL_BYTES)]);
        Self {
            payload,
            segment_bytes: control.segment_bytes.unwrap_or(payload.len()).max(1),
            stamp_ns: control.stamp_ns,
            source: Source::of(&head[WORDS_BYTES..][..name_bytes.min(NAME_BYTES)]),
            truncated: flags & libc::MSG_TRUNC as u32 != 0,
        }
    }
}

/// A buffer that the kernel, or another shard, has filled and the shard holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BufferId(u16);

/// Set in the number of a buffer that another shard has filled.
const HANDED_OVER: u16 = 1 << 15;

impl BufferId {
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }

    /// A buffer of [`super::HandedOverBuffers`].
    pub(super) const fn handed_over(index: u16) -> Self {
        Self(index | HANDED_OVER)
    }

    /// Its index if it is one of [`super::HandedOverBuffers`].
    pub(super) const fn as_handed_over(self) -> Option<usize> {
        if self.0 & HANDED_OVER == 0 { None } else { Some((self.0 & !HANDED_OVER) as usize) }
    }
}

/// Receive buffers. Each is vacant, so that the kernel may fill it, or held by the shard.
pub(crate) struct ReceiveBuffers {
    memory: Arena,
    vacant: Vacant,
    vacant_count: usize,
    /// How often the shard holds each buffer; 0: it is vacant.
    holds: Box<[u16]>,
    filled: Box<[u32]>,
}

/// Where vacant buffers wait.
enum Vacant {
    /// In a ring from which the kernel takes them, in their order.
    Ring { entries: Arena, tail: u16 },
    /// With us: each receive names those that it may fill. The last one first, which is the likeliest to be in the
    /// cache.
    Stack(Vec<u16>),
}

/// Where the kernel may put what it receives.
#[derive(Clone, Copy)]
pub(crate) struct Room {
    /// Room for [`NAME_BYTES`] of the sender's address.
    pub(crate) name: *mut u8,
    /// Room for [`RECEIVE_CONTROL_BYTES`] of control messages.
    pub(crate) control: *mut u8,
    /// Room for [`PAYLOAD_BYTES`].
    pub(crate) payload: *mut u8,
}

impl ReceiveBuffers {
    /// `count` buffers that multishot receives take from a ring, all of them in it, and the address of that ring for
    /// its registration. `count` is a power of two of at most 16,384.
    pub(crate) fn in_ring(count: u16) -> io::Result<(Self, u64)> {
        assert!(count.is_power_of_two() && count <= 1 << 14);
        let ring_bytes = usize::from(count) * size_of::<BufRingEntry>();
        let entries = Arena::map(1, ring_bytes.next_multiple_of(PAGE_BYTES))?;
        let address = entries.entry(0) as u64;
        Ok((Self::new(count, Vacant::Ring { entries, tail: 0 })?, address))
    }

    /// `count` buffers that are named to the kernel with each receive.
    pub(crate) fn in_stack(count: u16) -> io::Result<Self> {
        Self::new(count, Vacant::Stack(Vec::with_capacity(count.into())))
    }

    fn new(count: u16, vacant: Vacant) -> io::Result<Self> {
        let entries = usize::from(count);
        let memory = Arena::map(entries, RECEIVE_BUFFER_BYTES)?;
        let (holds, filled) = (vec![0; entries].into(), vec![0; entries].into());
        let mut buffers = Self { memory, vacant, vacant_count: 0, holds, filled };
        (0..count).rev().for_each(|index| buffers.vacate(index));
        Ok(buffers)
    }

    /// Buffers that the kernel can fill.
    pub(crate) const fn vacant_count(&self) -> usize {
        self.vacant_count
    }

    fn vacate(&mut self, index: u16) {
        match &mut self.vacant {
            Vacant::Stack(stack) => stack.push(index),
            Vacant::Ring { entries, tail } => {
                let mask = self.holds.len() as u16 - 1;
                let entry = entries.entry(0).cast::<BufRingEntry>();
                // SAFETY: the masked position lies inside the ring's mapping. The kernel reads only entries before the
                // tail, and this one is beyond it: at most as many buffers as the ring has entries are ever vacant. The
                // tail lies in the first entry's reserved bytes, which `set_*` leave alone; it is written with release
                // so that the entry is visible first. Both stay mapped until the buffer ring is unregistered
                // (`Ring::drop`).
                unsafe {
                    let slot = &mut *entry.add(usize::from(*tail & mask));
                    slot.set_addr(self.memory.entry(usize::from(index)) as u64);
                    slot.set_len(RECEIVE_BUFFER_BYTES as u32);
                    slot.set_bid(index);
                    *tail = tail.wrapping_add(1);
                    let shared_tail = BufRingEntry::tail(entry).cast_mut();
                    AtomicU16::from_ptr(shared_tail).store(*tail, Ordering::Release);
                }
            }
        }
        self.vacant_count += 1;
    }

    /// Vacant buffers in the order in which [`Self::take_next`] takes them. None if they are in a ring.
    pub(crate) fn rooms(&self) -> impl Iterator<Item = Room> {
        let stack: &[u16] = match &self.vacant {
            Vacant::Ring { .. } => &[],
            Vacant::Stack(stack) => stack,
        };
        stack.iter().rev().map(|&index| {
            let start = self.memory.entry(index.into());
            // SAFETY: all offsets lie inside the entry.
            unsafe {
                Room {
                    name: start.add(WORDS_BYTES),
                    control: start.add(CONTROL_START),
                    payload: start.add(PAYLOAD_START),
                }
            }
        })
    }

    /// The kernel has filled the first of [`Self::rooms`]: so many bytes of each, and its flags. Now the shard holds
    /// it, once.
    pub(crate) fn take_next(
        &mut self,
        payload_bytes: usize,
        name_bytes: u32,
        control_bytes: usize,
        flags: i32,
    ) -> BufferId {
        let Vacant::Stack(stack) = &mut self.vacant else {
            unreachable!("buffers in a ring are the kernel's to choose")
        };
        let index = stack.pop().expect("only a vacant buffer can be filled");
        let words = [name_bytes, control_bytes as u32, payload_bytes as u32, flags as u32];
        let head = &mut self.memory.bytes_mut(index.into())[..WORDS_BYTES];
        for (place, word) in head.chunks_exact_mut(size_of::<u32>()).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        self.take(index, PAYLOAD_START + payload_bytes)
    }

    /// The kernel says that it has put `filled` bytes into this buffer: now the shard holds it, once.
    pub(crate) fn take(&mut self, index: u16, filled: usize) -> BufferId {
        let hold = &mut self.holds[usize::from(index)];
        assert!(*hold == 0 && filled <= RECEIVE_BUFFER_BYTES, "the kernel filled a buffer that it was not given");
        *hold = 1;
        self.filled[usize::from(index)] = filled as u32;
        self.vacant_count -= 1;
        BufferId(index)
    }

    /// What the kernel put in.
    pub(crate) fn bytes(&self, buffer: BufferId) -> &[u8] {
        assert!(self.holds[buffer.index()] > 0, "a vacant buffer is the kernel's");
        self.memory.bytes(buffer.index(), 0..self.filled[buffer.index()] as usize)
    }

    /// Holds it once more.
    pub(crate) fn hold(&mut self, buffer: BufferId) {
        assert!(self.holds[buffer.index()] > 0, "a vacant buffer is the kernel's");
        self.holds[buffer.index()] += 1;
    }

    /// Gives up one hold; with the last one the buffer is vacant.
    pub(crate) fn release(&mut self, buffer: BufferId) {
        let hold = &mut self.holds[buffer.index()];
        *hold = hold.checked_sub(1).expect("released as often as held");
        if *hold == 0 {
            self.vacate(buffer.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_returns_to_the_kernel_with_its_last_hold() {
        let mut buffers = ReceiveBuffers::in_ring(4).unwrap().0;
        let buffer = buffers.take(2, 100);
        buffers.hold(buffer);
        buffers.release(buffer);
        assert_eq!((buffers.vacant_count(), buffers.bytes(buffer).len()), (3, 100));
        buffers.release(buffer);
        assert_eq!(buffers.vacant_count(), 4);
    }

    #[test]
    #[should_panic(expected = "released as often as held")]
    fn a_buffer_cannot_be_returned_twice() {
        let mut buffers = ReceiveBuffers::in_ring(4).unwrap().0;
        let buffer = buffers.take(0, 1);
        buffers.release(buffer);
        buffers.release(buffer);
    }
}
