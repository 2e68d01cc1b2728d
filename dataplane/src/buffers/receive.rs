//! Receive buffers, and what is in them.
#![allow(unsafe_code)]

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use super::UDP_BYTES_MAX;
use super::arena::{Arena, PAGE_BYTES};
use crate::socket::{ControlMessages, RECEIVE_CONTROL_BYTES};

/// What is before the control messages in a receive buffer: native words for the bytes of name, control messages and
/// payload, and the flags. A multishot receive fills its buffers so; a buffer filled otherwise gets the same layout.
const WORDS_BYTES: usize = 16;
const PAYLOAD_START: usize = WORDS_BYTES + RECEIVE_CONTROL_BYTES;
const RECEIVE_BUFFER_BYTES: usize = (PAYLOAD_START + UDP_BYTES_MAX).next_multiple_of(PAGE_BYTES);

/// What the kernel put into one receive buffer.
pub(crate) struct Received<'a> {
    /// One datagram, or several joined.
    pub(crate) payload: &'a [u8],
    /// Where to split it; the last datagram may be shorter. Not 0.
    pub(crate) segment_bytes: usize,
    /// When the kernel took it, on CLOCK_REALTIME.
    pub(crate) stamp_ns: Option<u64>,
    /// Whether it was cut off.
    pub(crate) truncated: bool,
}

impl<'a> Received<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Self {
        let Some((head, payload)) = bytes.split_at_checked(PAYLOAD_START) else {
            return Self { payload: &[], segment_bytes: 1, stamp_ns: None, truncated: true };
        };
        let word = |index: usize| u32::from_ne_bytes([0, 1, 2, 3].map(|byte| head[index * 4 + byte]));
        let (control_bytes, flags) = (word(1) as usize, word(3));
        let control = ControlMessages::parse(&head[WORDS_BYTES..][..control_bytes.min(RECEIVE_CONTROL_BYTES)]);
        Self {
            payload,
            segment_bytes: control.segment_bytes.unwrap_or(payload.len()).max(1),
            stamp_ns: control.stamp_ns,
            truncated: flags & libc::MSG_TRUNC as u32 != 0,
        }
    }
}

/// A receive buffer that the kernel has filled and the shard holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BufferId(u16);

impl BufferId {
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The buffers that a multishot receive takes from, and the ring through which they are given to the kernel.
pub(crate) struct ReceiveBuffers {
    memory: Arena,
    ring: Arena,
    tail: u16,
    /// How often the shard holds each buffer; 0: the kernel has it.
    holds: Box<[u16]>,
    filled: Box<[u32]>,
    with_kernel: usize,
}

impl ReceiveBuffers {
    /// `count` buffers, all of them in the ring. `count` is a power of two of at most 32,768.
    pub(crate) fn new(count: u16) -> io::Result<Self> {
        assert!(count.is_power_of_two() && count <= 1 << 15);
        let entries = usize::from(count);
        let mut buffers = Self {
            memory: Arena::map(entries, RECEIVE_BUFFER_BYTES)?,
            ring: Arena::map(1, (entries * size_of::<BufRingEntry>()).next_multiple_of(PAGE_BYTES))?,
            tail: 0,
            holds: vec![0; entries].into(),
            filled: vec![0; entries].into(),
            with_kernel: 0,
        };
        (0..count).for_each(|index| buffers.provide(index));
        Ok(buffers)
    }

    pub(crate) const fn count(&self) -> usize {
        self.holds.len()
    }

    /// Buffers that the kernel can fill.
    pub(crate) const fn with_kernel(&self) -> usize {
        self.with_kernel
    }

    /// Address of the ring, for its registration.
    pub(crate) fn ring_address(&self) -> u64 {
        self.ring.entry(0) as u64
    }

    fn provide(&mut self, index: u16) {
        let mask = self.holds.len() as u16 - 1;
        let entry = self.ring.entry(0).cast::<BufRingEntry>();
        // SAFETY: the masked position lies inside the ring's mapping. The kernel reads only entries before the tail,
        // and this one is beyond it: at most as many buffers as the ring has entries are ever provided. The tail
        // lies in the first entry's reserved bytes, which `set_*` leave alone; it is written with release so that the
        // entry is visible first. Both stay mapped until the buffer ring is unregistered (`Ring::drop`).
        unsafe {
            let slot = &mut *entry.add(usize::from(self.tail & mask));
            slot.set_addr(self.memory.entry(usize::from(index)) as u64);
            slot.set_len(RECEIVE_BUFFER_BYTES as u32);
            slot.set_bid(index);
            self.tail = self.tail.wrapping_add(1);
            let tail = BufRingEntry::tail(entry).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
        self.with_kernel += 1;
    }

    /// The kernel says that it has put `filled` bytes into this buffer: now the shard holds it, once.
    pub(crate) fn take(&mut self, index: u16, filled: usize) -> BufferId {
        let hold = &mut self.holds[usize::from(index)];
        assert!(*hold == 0 && filled <= RECEIVE_BUFFER_BYTES, "the kernel filled a buffer that it was not given");
        *hold = 1;
        self.filled[usize::from(index)] = filled as u32;
        self.with_kernel -= 1;
        BufferId(index)
    }

    /// What the kernel put in.
    pub(crate) fn bytes(&self, buffer: BufferId) -> &[u8] {
        assert!(self.holds[buffer.index()] > 0, "a returned buffer is the kernel's");
        self.memory.bytes(buffer.index(), 0..self.filled[buffer.index()] as usize)
    }

    /// Holds it once more.
    pub(crate) fn hold(&mut self, buffer: BufferId) {
        assert!(self.holds[buffer.index()] > 0, "a returned buffer is the kernel's");
        self.holds[buffer.index()] += 1;
    }

    /// Gives up one hold; with the last one the buffer goes back to the kernel.
    pub(crate) fn release(&mut self, buffer: BufferId) {
        let hold = &mut self.holds[buffer.index()];
        *hold = hold.checked_sub(1).expect("released as often as held");
        if *hold == 0 {
            self.provide(buffer.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_returns_to_the_kernel_with_its_last_hold() {
        let mut buffers = ReceiveBuffers::new(4).unwrap();
        let buffer = buffers.take(2, 100);
        buffers.hold(buffer);
        buffers.release(buffer);
        assert_eq!((buffers.with_kernel(), buffers.bytes(buffer).len()), (3, 100));
        buffers.release(buffer);
        assert_eq!(buffers.with_kernel(), 4);
    }

    #[test]
    #[should_panic(expected = "released as often as held")]
    fn a_buffer_cannot_be_returned_twice() {
        let mut buffers = ReceiveBuffers::new(4).unwrap();
        let buffer = buffers.take(0, 1);
        buffers.release(buffer);
        buffers.release(buffer);
    }
}
