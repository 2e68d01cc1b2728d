//! A slice of our own: encoded straight into the datagrams that its relays get.

use alpenglow_rotor::parameters::{CodingParameters, TOTAL_SHREDS_MAX};
use alpenglow_rotor::shred;
use alpenglow_rotor::shredder::{Shredded, Shredder};
use alpenglow_rotor::signer::SliceSigner;
use alpenglow_rotor::slice::{SliceId, SlicePayload};
use alpenglow_rotor::types::{Time, ValidatorIndex};

use crate::buffers::SliceBuffer;
use crate::burst::Burst;
use crate::clock;
use crate::datagram::{HEADER_BYTES, Kind};
use crate::engine::Engine;
use crate::letterhead::Letterhead;
use crate::lineup::Lineup;
use crate::relay::{Audience, FanOut, joined_most};

/// A slice that control gave out to be sent.
pub(crate) struct SliceOrder {
    pub(crate) id: SliceId,
    pub(crate) is_last: bool,
    pub(crate) payload: SlicePayload,
}

/// Encodes slices. Shreds of the same relay are put next to each other, so that each relay gets one joined send.
pub(crate) struct Encoder {
    coding: CodingParameters,
    shredder: Shredder,
    signer: SliceSigner,
    /// The shreds in the order in which they lie in the buffer.
    order: Vec<Seat>,
    offsets: Vec<usize>,
}

/// A shred and its relay, in one number so that sorting is cheap: from the top whether that is this node, the relay,
/// the shred's index.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Seat(u64);

impl Seat {
    fn new(relay: ValidatorIndex, index: u16, own: ValidatorIndex) -> Self {
        Self(u64::from(relay == own) << 32 | u64::from(relay.0) << 16 | u64::from(index))
    }

    const fn relay(self) -> ValidatorIndex {
        ValidatorIndex((self.0 >> 16) as u16)
    }

    const fn shred(self) -> usize {
        self.0 as u16 as usize
    }
}

/// What was written to a buffer for one slice.
pub(crate) struct Written {
    pub(crate) shredded: Shredded,
    pub(crate) started: Time,
    datagram_bytes: usize,
    /// The relay of the datagram at each place, and how many datagrams there are.
    receivers: [ValidatorIndex; TOTAL_SHREDS_MAX],
    total: usize,
    /// The shreds that this node relays itself.
    own: FanOut,
}

/// An encoded slice that is being sent.
pub(crate) struct Encoded {
    pub(crate) id: SliceId,
    pub(crate) is_last: bool,
    pub(crate) written: Written,
    buffer: SliceBuffer,
    /// How many of the datagrams are sent.
    sent: usize,
}

/// How far the sending of a slice got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pumped {
    Everything,
    BurstOver,
    NoSlot,
}

impl Encoder {
    pub(crate) fn new(coding: CodingParameters, shredder: Shredder, signer: SliceSigner) -> Self {
        let total = coding.total_shreds();
        Self { coding, shredder, signer, order: Vec::with_capacity(total), offsets: vec![0; total] }
    }

    /// Bytes that the datagrams of one slice take at most.
    pub(crate) fn buffer_bytes(coding: &CodingParameters) -> usize {
        coding.total_shreds() * (HEADER_BYTES + shred::wire_bytes(coding, coding.shred_bytes()))
    }

    /// Encodes `order` into a slice buffer. Nothing is sent yet.
    pub(crate) fn encode(
        &mut self,
        order: &SliceOrder,
        lineup: Lineup<'_>,
        engine: &mut Engine,
        buffer: SliceBuffer,
        letterhead: &Letterhead,
    ) -> Encoded {
        let written = self.write(order, lineup, engine.slice_bytes_mut(&buffer), letterhead);
        Encoded { id: order.id, is_last: order.is_last, written, buffer, sent: 0 }
    }

    /// Writes the datagrams of `order` to `out`, one after the other: the shreds, then the headers with their MACs.
    pub(crate) fn write(
        &mut self,
        order: &SliceOrder,
        lineup: Lineup<'_>,
        out: &mut [u8],
        letterhead: &Letterhead,
    ) -> Written {
        let started = clock::now();
        let own = lineup.leader;
        let data_bytes = self.shredder.shred_len(order.payload.len());
        let datagram_bytes = HEADER_BYTES + shred::wire_bytes(&self.coding, data_bytes);
        self.place(lineup.relays, own, datagram_bytes);
        let shredded =
            self.shredder.shred(order.id, order.is_last, started.0, &order.payload, &self.signer, out, &self.offsets);
        let mut written = Written {
            shredded,
            started,
            datagram_bytes,
            receivers: [own; TOTAL_SHREDS_MAX],
            total: self.order.len(),
            own: FanOut::new(order.id, own, lineup.next_leader, datagram_bytes, started),
        };
        let mut place = 0;
        for of_relay in self.order.chunk_by(|left, right| left.relay() == right.relay()) {
            let (relay, end) = (of_relay[0].relay(), place + of_relay.len());
            written.receivers[place..end].fill(relay);
            if relay == own {
                (place..end).for_each(|place| written.own.positions.insert(place));
            } else {
                let row = &mut out[place * datagram_bytes..end * datagram_bytes];
                letterhead.write_row(Kind::Shred, order.id.lane(), relay, datagram_bytes, row);
            }
            place = end;
        }
        written
    }

    /// Gives every shred its place: those of one relay together, our own last.
    fn place(&mut self, relays: &[ValidatorIndex], own: ValidatorIndex, datagram_bytes: usize) {
        self.order.clear();
        self.order.extend(relays.iter().zip(0..).map(|(&relay, index)| Seat::new(relay, index, own)));
        self.order.sort_unstable();
        for (place, seat) in self.order.iter().enumerate() {
            self.offsets[seat.shred()] = place * datagram_bytes + HEADER_BYTES;
        }
    }
}

impl Encoded {
    /// Sends until everything is queued, no slot is free or the burst is over.
    pub(crate) fn pump(
        &mut self,
        engine: &mut Engine,
        audience: &Audience,
        letterhead: &Letterhead,
        burst: &mut Burst,
    ) -> Pumped {
        let Written { datagram_bytes, receivers, total, own, .. } = &mut self.written;
        let (datagram_bytes, total) = (*datagram_bytes, *total);
        while self.sent < total && receivers[self.sent] != audience.own {
            if burst.is_over() {
                return Pumped::BurstOver;
            }
            let Some(slot) = engine.take_slot() else { return Pumped::NoSlot };
            let receiver = receivers[self.sent];
            let most = joined_most(datagram_bytes);
            let joined = receivers[self.sent..total].iter().take(most).take_while(|&&relay| relay == receiver).count();
            let range = self.sent * datagram_bytes..(self.sent + joined) * datagram_bytes;
            burst.take(range.len());
            engine.send_slice(slot, &self.buffer, range, receiver.get(), datagram_bytes);
            self.sent += joined;
        }
        if self.sent == total {
            return Pumped::Everything;
        }
        while let Some(receiver) = own.receiver(audience) {
            if burst.is_over() {
                return Pumped::BurstOver;
            }
            let Some(slot) = engine.take_slot() else { return Pumped::NoSlot };
            let (shreds, out, in_place) =
                engine.slice_and_slot(&self.buffer, 0..total * datagram_bytes, &slot, own.draft());
            let length = own.gather(shreds, letterhead, receiver, (out, in_place));
            burst.take(length);
            engine.send(slot, length, receiver.get(), datagram_bytes);
        }
        self.sent = total;
        Pumped::Everything
    }

    /// Tells its fan-out from others of the shard, see [`FanOut::serial`].
    pub(crate) const fn set_serial(&mut self, serial: u64) {
        self.written.own.serial = serial;
    }

    /// Lets the buffer go, once its sends are done.
    pub(crate) fn finish(self, engine: &mut Engine) {
        engine.give_back_slice_buffer(self.buffer);
    }
}
