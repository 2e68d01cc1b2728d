//! Memory that the kernel reads and writes while a shard goes on: receive buffers, send slots, slice buffers.
//!
//! All of it is mapped at start-up and touched only as far as it is used, so a generous count costs address space and
//! no resident memory. Free entries are taken last in, first out where there is a choice, to stay in the cache.
//!
//! Ownership: an [`crate::engine::Engine`] owns these for its whole life and unmaps them only after every operation
//! that names them has ended. Inside, each entry belongs either to the kernel or to the shard, and that is asserted:
//! bytes of an entry that the kernel may write are never lent out, those of an entry that it may read never mutably.

mod arena;
mod handed_over;
mod receive;
mod send;

use std::io;
use std::ops::Range;

use socket2::SockAddr;

pub(crate) use self::handed_over::HANDED_OVER_BUFFERS;
use self::handed_over::HandedOverBuffers;
pub(crate) use self::receive::{BufferId, NAME_BYTES, PAYLOAD_BYTES, ReceiveBuffers, Received};
pub(crate) use self::send::{Draft, PreparedSend, SendSlot, SliceBuffer};
use self::send::{Outgoing, SendBuffers};
use crate::limits::Source;

/// Most datagrams that the kernel joins in one buffer (`UDP_MAX_SEGMENTS`; a sender may ask for as many).
pub(crate) const SEGMENTS_MAX: usize = 128;
/// Most bytes of UDP payload in one IPv4 packet, joined or not.
pub(crate) const UDP_BYTES_MAX: usize = 65_507;
/// Most bytes of joined datagrams in one send: with Ethernet, IPv6 and UDP headers they pass a device that takes
/// packets of 64 KiB; beyond, the kernel would cut them up before the receiver sees them.
pub(crate) const JOINED_BYTES_MAX: usize = 65_536 - 14 - 40 - 8;

/// How much memory a shard holds ready. All of it is fixed at start-up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BufferCounts {
    /// Receive buffers: a power of two.
    pub(crate) receive_buffers: u16,
    /// Sends in flight.
    pub(crate) send_slots: u16,
    /// Slices of our own in flight.
    pub(crate) slice_buffers: u16,
    /// Bytes that the datagrams of one slice take.
    pub(crate) slice_buffer_bytes: usize,
    /// Bytes of the datagrams that other shards hand over; 0 if there are no others.
    pub(crate) handed_over_bytes: usize,
}

fn received<'a>(receive: &'a ReceiveBuffers, handed_over: &'a HandedOverBuffers, buffer: BufferId) -> Received<'a> {
    match buffer.as_handed_over() {
        None => Received::parse(receive.bytes(buffer)),
        Some(index) => handed_over.received(index),
    }
}

/// All of a shard's buffers: what both engines let the shard do with them.
pub(crate) struct Buffers {
    pub(crate) receive: ReceiveBuffers,
    handed_over: HandedOverBuffers,
    pub(crate) sends: SendBuffers,
    /// Receivers' addresses by validator; the kernel reads them in place.
    peers: Box<[SockAddr]>,
}

impl Buffers {
    /// Sends go to `peers`, which are addressed by their index.
    pub(crate) fn new(counts: BufferCounts, receive: ReceiveBuffers, peers: Box<[SockAddr]>) -> io::Result<Self> {
        let sends = SendBuffers::new(counts.send_slots, counts.slice_buffers, counts.slice_buffer_bytes)?;
        Ok(Self { receive, handed_over: HandedOverBuffers::new(counts.handed_over_bytes), sends, peers })
    }

    /// What a held buffer contains.
    pub(crate) fn received(&self, buffer: BufferId) -> Received<'_> {
        received(&self.receive, &self.handed_over, buffer)
    }

    /// Keeps a held buffer for one more user.
    pub(crate) fn hold(&mut self, buffer: BufferId) {
        match buffer.as_handed_over() {
            None => self.receive.hold(buffer),
            Some(index) => self.handed_over.hold(index),
        }
    }

    /// Gives up one hold; with the last one the buffer may be filled again.
    pub(crate) fn release(&mut self, buffer: BufferId) {
        match buffer.as_handed_over() {
            None => self.receive.release(buffer),
            Some(index) => self.handed_over.release(index),
        }
    }

    /// Whether [`Self::admit`] takes a datagram.
    pub(crate) const fn can_admit(&self) -> bool {
        self.handed_over.has_room()
    }

    /// Copies a datagram that another shard has received; `None` if too many are held.
    pub(crate) fn admit(&mut self, datagram: &[u8], source: Source) -> Option<BufferId> {
        self.handed_over.admit(datagram, source)
    }

    /// A slot to send with; `None` when all are in flight.
    pub(crate) fn take_slot(&mut self) -> Option<SendSlot> {
        self.sends.take_slot()
    }

    /// Whether [`Self::take_slot`] gives one.
    pub(crate) const fn has_slot(&self) -> bool {
        self.sends.has_slot()
    }

    /// The slot's memory, to write datagrams into.
    pub(crate) fn slot_bytes(&mut self, slot: &SendSlot) -> &mut [u8] {
        self.sends.slot_bytes(slot, 0).0
    }

    /// A held buffer's content to read and a slot's memory to write, see [`SendBuffers::slot_bytes`].
    pub(crate) fn received_and_slot(
        &mut self,
        buffer: BufferId,
        slot: &SendSlot,
        draft: Draft,
    ) -> (Received<'_>, &mut [u8], bool) {
        let (out, in_place) = self.sends.slot_bytes(slot, draft);
        (received(&self.receive, &self.handed_over, buffer), out, in_place)
    }

    /// See [`SendBuffers::take_slice_buffer`].
    pub(crate) fn take_slice_buffer(&mut self) -> Option<SliceBuffer> {
        self.sends.take_slice_buffer()
    }

    /// See [`SendBuffers::slice_bytes_mut`].
    pub(crate) fn slice_bytes_mut(&mut self, buffer: &SliceBuffer) -> &mut [u8] {
        self.sends.slice_bytes_mut(buffer)
    }

    /// See [`SendBuffers::slice_and_slot`].
    pub(crate) fn slice_and_slot(
        &mut self,
        buffer: &SliceBuffer,
        range: Range<usize>,
        slot: &SendSlot,
        draft: Draft,
    ) -> (&[u8], &mut [u8], bool) {
        self.sends.slice_and_slot(buffer, range, slot, draft)
    }

    /// The buffer is free again when the sends from it are done.
    pub(crate) fn give_back_slice_buffer(&mut self, buffer: SliceBuffer) {
        self.sends.give_back_slice_buffer(buffer);
    }

    /// See [`SendBuffers::prepare`].
    pub(crate) fn prepare(&mut self, slot: SendSlot, length: usize, peer: usize, segment_bytes: usize) -> PreparedSend {
        self.sends.prepare(slot, length, &Outgoing { address: &self.peers[peer], segment_bytes })
    }

    /// See [`SendBuffers::prepare_slice`].
    pub(crate) fn prepare_slice(
        &mut self,
        slot: SendSlot,
        buffer: &SliceBuffer,
        range: Range<usize>,
        peer: usize,
        segment_bytes: usize,
    ) -> PreparedSend {
        self.sends.prepare_slice(slot, buffer, range, &Outgoing { address: &self.peers[peer], segment_bytes })
    }
}
