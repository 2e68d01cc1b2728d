//! Send slots and slice buffers.
#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::ptr;

use super::JOINED_BYTES_MAX;
use super::arena::{Arena, PAGE_BYTES};

const SEND_SLOT_BYTES: usize = JOINED_BYTES_MAX.next_multiple_of(PAGE_BYTES);

/// A send slot that nobody uses, to be filled and sent.
#[derive(Debug)]
#[must_use = "a slot that is not sent is lost"]
pub(crate) struct SendSlot(u16);

/// A buffer for the shreds of one slice of our own, as their datagrams.
#[derive(Debug)]
#[must_use = "give it back when its last datagram is in flight"]
pub(crate) struct SliceBuffer(u16);

/// What a slot's memory holds from its last send: 0 for nothing that is known, else a name that its writer gave it.
pub(crate) type Draft = u64;

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
    draft: Draft,
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

/// A slot that is ready to be sent, which the engine that owns its buffers has to do.
#[must_use = "a slot that is not sent is lost"]
pub(crate) struct PreparedSend {
    pub(crate) slot: u16,
    /// Valid until [`SendBuffers::done`].
    pub(crate) message: *const libc::msghdr,
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
            draft: 0,
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

    /// The slot's own memory, for writing what is called `draft`, and whether it holds that from its last send: slots
    /// come back last in, first out, so whoever sends nearly the same to many finds most of it in place.
    pub(crate) fn slot_bytes(&mut self, slot: &SendSlot, draft: Draft) -> (&mut [u8], bool) {
        let in_place = self.draw_up(slot, draft);
        (self.memory.bytes_mut(slot.0.into()), in_place)
    }

    fn draw_up(&mut self, slot: &SendSlot, draft: Draft) -> bool {
        let state = &mut self.states[usize::from(slot.0)];
        assert!(!state.busy, "the kernel reads this slot");
        std::mem::replace(&mut state.draft, draft) == draft && draft != 0
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

    /// A part of a slice buffer to read and a slot's memory to write, as [`Self::slot_bytes`] gives it.
    pub(crate) fn slice_and_slot(
        &mut self,
        buffer: &SliceBuffer,
        range: Range<usize>,
        slot: &SendSlot,
        draft: Draft,
    ) -> (&[u8], &mut [u8], bool) {
        let in_place = self.draw_up(slot, draft);
        (self.slices.bytes(buffer.0.into(), range), self.memory.bytes_mut(slot.0.into()), in_place)
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

    /// Readies the slot to send the first `length` bytes of its own memory.
    pub(crate) fn prepare(&mut self, slot: SendSlot, length: usize, to: &Outgoing<'_>) -> PreparedSend {
        assert!(length <= self.memory.entry_bytes);
        let start = self.memory.entry(slot.0.into());
        self.prepare_bytes(slot, start, length, Payload::OwnMemory, to)
    }

    /// Readies the slot to send `range` of a slice buffer.
    pub(crate) fn prepare_slice(
        &mut self,
        slot: SendSlot,
        buffer: &SliceBuffer,
        range: Range<usize>,
        to: &Outgoing<'_>,
    ) -> PreparedSend {
        assert!(range.start <= range.end && range.end <= self.slices.entry_bytes);
        self.slices_used[usize::from(buffer.0)] += 1;
        // SAFETY: the range lies inside the entry by the assertion.
        let start = unsafe { self.slices.entry(buffer.0.into()).add(range.start) };
        self.prepare_bytes(slot, start, range.len(), Payload::SliceBuffer(buffer.0), to)
    }

    fn prepare_bytes(
        &mut self,
        slot: SendSlot,
        start: *mut u8,
        length: usize,
        payload: Payload,
        to: &Outgoing<'_>,
    ) -> PreparedSend {
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
        PreparedSend { slot: slot.0, message: &raw const state.message }
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

    pub(crate) const fn has_slot(&self) -> bool {
        !self.free.is_empty()
    }

    pub(crate) const fn in_flight(&self) -> usize {
        self.in_flight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_slot_knows_its_last_draft_until_something_else_is_written() {
        let mut sends = SendBuffers::new(1, 1, 4_096).unwrap();
        let slot = sends.take_slot().unwrap();
        let mut in_place = |draft| sends.slot_bytes(&slot, draft).1;
        assert_eq!([7, 7, 8, 7, 0, 0, 7].map(&mut in_place), [false, true, false, false, false, false, false]);
    }

    #[test]
    fn a_slice_buffer_is_free_again_after_its_last_send() {
        let mut sends = SendBuffers::new(2, 1, 4_096).unwrap();
        let (slot, buffer) = (sends.take_slot().unwrap(), sends.take_slice_buffer().unwrap());
        let address = socket2::SockAddr::from(std::net::SocketAddr::from(([127, 0, 0, 1], 9)));
        let to = Outgoing { address: &address, segment_bytes: 64 };
        let PreparedSend { slot: index, .. } = sends.prepare_slice(slot, &buffer, 0..64, &to);
        sends.give_back_slice_buffer(buffer);
        assert!(sends.take_slice_buffer().is_none());
        assert_eq!((sends.done(index), sends.in_flight()), (1, 0));
        assert!(sends.take_slice_buffer().is_some());
    }
}
