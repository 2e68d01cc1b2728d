//! Memory that the kernel reads and writes while a shard goes on: receive buffers, send slots, slice buffers.
//!
//! All of it is mapped at start-up and touched only as far as it is used, so a generous count costs address space and
//! no resident memory. Free entries are taken last in, first out where there is a choice, to stay in the cache.
//!
//! Ownership: a [`crate::ring::Ring`] owns these for its whole life and unmaps them only after every operation that
//! names them has ended. Inside, each entry belongs either to the kernel or to the shard, and that is asserted: bytes of
//! an entry that the kernel may write are never lent out, those of an entry that it may read never mutably.
#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

/// Most datagrams that the kernel joins in one buffer (`UDP_MAX_SEGMENTS`; a sender may ask for as many).
pub(crate) const SEGMENTS_MAX: usize = 128;
/// Most bytes of UDP payload in one IPv4 packet, joined or not.
pub(crate) const UDP_BYTES_MAX: usize = 65_507;
/// Most bytes of joined datagrams in one send: with Ethernet, IPv6 and UDP headers they pass a device that takes packets
/// of 64 KiB; beyond, the kernel would cut them up before the receiver sees them.
pub(crate) const JOINED_BYTES_MAX: usize = 65_536 - 14 - 40 - 8;
/// Room before the payload for the completion's header and control messages.
const RECEIVE_HEAD_BYTES: usize = 256;
const RECEIVE_BUFFER_BYTES: usize = (UDP_BYTES_MAX + RECEIVE_HEAD_BYTES).next_multiple_of(PAGE_BYTES);
const SEND_SLOT_BYTES: usize = JOINED_BYTES_MAX.next_multiple_of(PAGE_BYTES);
const PAGE_BYTES: usize = 4_096;

/// `entries` pieces of `entry_bytes` in one anonymous mapping.
struct Arena {
    base: NonNull<u8>,
    entry_bytes: usize,
    entries: usize,
}

impl Arena {
    fn map(entries: usize, entry_bytes: usize) -> io::Result<Self> {
        let length = entries.checked_mul(entry_bytes).ok_or(io::ErrorKind::OutOfMemory)?;
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no existing memory.
        let base = unsafe { libc::mmap(ptr::null_mut(), length, protection, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, entry_bytes, entries })
    }

    fn entry(&self, index: usize) -> *mut u8 {
        assert!(index < self.entries);
        // SAFETY: the offset lies inside the mapping, which lives as long as `self`.
        unsafe { self.base.as_ptr().add(index * self.entry_bytes) }
    }

    /// The entry's bytes; the caller has made sure that the kernel does not write them.
    fn bytes(&self, index: usize, range: Range<usize>) -> &[u8] {
        assert!(range.start <= range.end && range.end <= self.entry_bytes);
        // SAFETY: inside the mapping by the two assertions, initialised (anonymous pages are zero), mapped as long as
        // the borrow of `self`. Nobody writes: the kernel by the caller's word, this thread because every mutable
        // borrow goes through `&mut self`.
        unsafe { std::slice::from_raw_parts(self.entry(index).add(range.start), range.len()) }
    }

    /// The entry's bytes; the caller has made sure that the kernel neither reads nor writes them.
    fn bytes_mut(&mut self, index: usize) -> &mut [u8] {
        // SAFETY: as in `bytes`, and exclusive because of `&mut self`.
        unsafe { std::slice::from_raw_parts_mut(self.entry(index), self.entry_bytes) }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `map`; whoever owns the arena has ended every operation that names it.
        // A failure leaves it mapped, which harms nobody.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.entries * self.entry_bytes) };
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

/// A send slot that nobody uses, to be filled and sent.
#[derive(Debug)]
#[must_use = "a slot that is not sent is lost"]
pub(crate) struct SendSlot(u16);

/// A buffer for the shreds of one slice of our own, as their datagrams.
#[derive(Debug)]
#[must_use = "give it back when its last datagram is in flight"]
pub(crate) struct SliceBuffer(u16);

/// Where the datagrams lie that a slot sends.
#[derive(Clone, Copy)]
enum Payload {
    OwnMemory,
    SliceBuffer(u16),
}

/// One send operation: what the kernel needs in place until it completes.
struct SendState {
    message: libc::msghdr,
    vector: libc::iovec,
    control: SegmentControl,
    payload: Payload,
    segment_bytes: usize,
    busy: bool,
}

/// The control message `UDP_SEGMENT`, laid out as the kernel wants it.
#[repr(C, align(8))]
struct SegmentControl {
    length: usize,
    level: libc::c_int,
    kind: libc::c_int,
    segment_bytes: u16,
}

/// `CMSG_LEN(2)`: the length without the padding at the end.
const SEGMENT_CONTROL_LENGTH: usize = size_of::<usize>() + 2 * size_of::<libc::c_int>() + size_of::<u16>();

/// Where a send goes, and how it is cut: datagrams of `segment_bytes` each but for a shorter last one. The address must
/// stay in place until the send completes.
pub(crate) struct Outgoing<'a> {
    pub(crate) address: &'a socket2::SockAddr,
    pub(crate) segment_bytes: usize,
}

/// Send slots, each with memory for one joined send, and the slice buffers that they may send from instead.
pub(crate) struct SendBuffers {
    memory: Arena,
    states: Box<[SendState]>,
    free: Vec<u16>,
    in_flight: usize,
    slices: Arena,
    slices_free: Vec<u16>,
    /// Sends in flight from each slice buffer, plus one while a [`SliceBuffer`] for it is out.
    slices_used: Box<[u16]>,
}

impl SendBuffers {
    pub(crate) fn new(slots: u16, slice_buffers: u16, slice_buffer_bytes: usize) -> io::Result<Self> {
        let state = |_| SendState {
            // SAFETY: all-zero bytes are a valid msghdr: null pointers and zero lengths.
            message: unsafe { std::mem::zeroed() },
            vector: libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 },
            control: SegmentControl { length: 0, level: 0, kind: 0, segment_bytes: 0 },
            payload: Payload::OwnMemory,
            segment_bytes: 0,
            busy: false,
        };
        Ok(Self {
            memory: Arena::map(slots.into(), SEND_SLOT_BYTES)?,
            states: (0..slots).map(state).collect(),
            free: (0..slots).rev().collect(),
            in_flight: 0,
            slices: Arena::map(slice_buffers.into(), slice_buffer_bytes.next_multiple_of(PAGE_BYTES))?,
            slices_free: (0..slice_buffers).rev().collect(),
            slices_used: vec![0; slice_buffers.into()].into(),
        })
    }

    pub(crate) fn take_slot(&mut self) -> Option<SendSlot> {
        self.free.pop().map(SendSlot)
    }

    /// The slot's own memory, for writing.
    pub(crate) fn slot_bytes(&mut self, slot: &SendSlot) -> &mut [u8] {
        assert!(!self.states[usize::from(slot.0)].busy);
        self.memory.bytes_mut(slot.0.into())
    }

    pub(crate) fn take_slice_buffer(&mut self) -> Option<SliceBuffer> {
        let index = self.slices_free.pop()?;
        self.slices_used[usize::from(index)] = 1;
        Some(SliceBuffer(index))
    }

    /// The buffer's bytes, for writing: only before anything is sent from it.
    pub(crate) fn slice_bytes_mut(&mut self, buffer: &SliceBuffer) -> &mut [u8] {
        assert_eq!(self.slices_used[usize::from(buffer.0)], 1, "the kernel reads this buffer");
        self.slices.bytes_mut(buffer.0.into())
    }

    /// A part of a slice buffer to read and a slot's memory to write.
    pub(crate) fn slice_and_slot(
        &mut self,
        buffer: &SliceBuffer,
        range: Range<usize>,
        slot: &SendSlot,
    ) -> (&[u8], &mut [u8]) {
        assert!(!self.states[usize::from(slot.0)].busy);
        (self.slices.bytes(buffer.0.into(), range), self.memory.bytes_mut(slot.0.into()))
    }

    pub(crate) fn give_back_slice_buffer(&mut self, buffer: SliceBuffer) {
        self.drop_slice_use(buffer.0);
    }

    fn drop_slice_use(&mut self, index: u16) {
        let used = &mut self.slices_used[usize::from(index)];
        *used -= 1;
        if *used == 0 {
            self.slices_free.push(index);
        }
    }

    /// Readies the slot to send the first `length` bytes of its own memory. The pointer is valid until [`Self::done`].
    pub(crate) fn prepare(&mut self, slot: SendSlot, length: usize, to: &Outgoing<'_>) -> (u16, *const libc::msghdr) {
        assert!(length <= self.memory.entry_bytes);
        let start = self.memory.entry(slot.0.into());
        (slot.0, self.prepare_bytes(slot, start, length, Payload::OwnMemory, to))
    }

    /// Readies the slot to send `range` of a slice buffer.
    pub(crate) fn prepare_slice(
        &mut self,
        slot: SendSlot,
        buffer: &SliceBuffer,
        range: Range<usize>,
        to: &Outgoing<'_>,
    ) -> (u16, *const libc::msghdr) {
        assert!(range.start <= range.end && range.end <= self.slices.entry_bytes);
        self.slices_used[usize::from(buffer.0)] += 1;
        // SAFETY: the range lies inside the entry by the assertion.
        let start = unsafe { self.slices.entry(buffer.0.into()).add(range.start) };
        (slot.0, self.prepare_bytes(slot, start, range.len(), Payload::SliceBuffer(buffer.0), to))
    }

    fn prepare_bytes(
        &mut self,
        slot: SendSlot,
        start: *mut u8,
        length: usize,
        payload: Payload,
        to: &Outgoing<'_>,
    ) -> *const libc::msghdr {
        assert!(length <= JOINED_BYTES_MAX && (1..=length).contains(&to.segment_bytes));
        let state = &mut self.states[usize::from(slot.0)];
        state.busy = true;
        self.in_flight += 1;
        state.payload = payload;
        state.segment_bytes = to.segment_bytes;
        state.vector = libc::iovec { iov_base: start.cast(), iov_len: length };
        state.message.msg_name = to.address.as_ptr().cast_mut().cast();
        state.message.msg_namelen = to.address.len();
        state.message.msg_iov = &raw mut state.vector;
        state.message.msg_iovlen = 1;
        if length > to.segment_bytes {
            state.control = SegmentControl {
                length: SEGMENT_CONTROL_LENGTH,
                level: libc::SOL_UDP,
                kind: libc::UDP_SEGMENT,
                segment_bytes: to.segment_bytes as u16,
            };
            state.message.msg_control = (&raw mut state.control).cast();
            state.message.msg_controllen = size_of::<SegmentControl>();
        } else {
            state.message.msg_control = ptr::null_mut();
            state.message.msg_controllen = 0;
        }
        &raw const state.message
    }

    /// The kernel has completed the slot's send. Returns how many datagrams it was to send.
    pub(crate) fn done(&mut self, slot: u16) -> u64 {
        let state = &mut self.states[usize::from(slot)];
        assert!(state.busy, "a send completed that was not in flight");
        state.busy = false;
        let (payload, datagrams) = (state.payload, state.vector.iov_len.div_ceil(state.segment_bytes));
        self.free.push(slot);
        self.in_flight -= 1;
        if let Payload::SliceBuffer(index) = payload {
            self.drop_slice_use(index);
        }
        datagrams as u64
    }

    pub(crate) const fn in_flight(&self) -> usize {
        self.in_flight
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

    #[test]
    #[should_panic(expected = "the kernel reads this buffer")]
    fn a_slice_buffer_is_not_written_while_a_send_reads_it() {
        let mut sends = SendBuffers::new(2, 1, 4_096).unwrap();
        let (slot, buffer) = (sends.take_slot().unwrap(), sends.take_slice_buffer().unwrap());
        let address = socket2::SockAddr::from(std::net::SocketAddr::from(([127, 0, 0, 1], 9)));
        let _ = sends.prepare_slice(slot, &buffer, 0..64, &Outgoing { address: &address, segment_bytes: 64 });
        sends.slice_bytes_mut(&buffer)[0] = 1;
    }

    #[test]
    fn a_slice_buffer_is_free_again_after_its_last_send() {
        let mut sends = SendBuffers::new(2, 1, 4_096).unwrap();
        let (slot, buffer) = (sends.take_slot().unwrap(), sends.take_slice_buffer().unwrap());
        let address = socket2::SockAddr::from(std::net::SocketAddr::from(([127, 0, 0, 1], 9)));
        let (index, _) = sends.prepare_slice(slot, &buffer, 0..64, &Outgoing { address: &address, segment_bytes: 64 });
        sends.give_back_slice_buffer(buffer);
        assert!(sends.take_slice_buffer().is_none());
        assert_eq!((sends.done(index), sends.in_flight()), (1, 0));
        assert!(sends.take_slice_buffer().is_some());
    }
}
