//! Everything that a shard sends, in the order of its urgency: messages, relayed shreds, slices of our own.
//!
//! Shreds leave in bursts, and before each burst messages have their turn: one that control orders while copies go out
//! to 1,499 validators waits for a few of them only.
//!
//! Whatever does not find a free send slot waits here, in bounded queues, and goes on when sends complete. A relayed
//! shred waits in its receive buffer, so a stalled network stops the reading before anything else overflows.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use alpenglow_rotor::types::Time;

use crate::buffers::BufferId;
use crate::burst::Burst;
use crate::clock;
use crate::counters::{Counter, Counters};
use crate::encode::{Encoded, Encoder, Pumped, SliceOrder};
use crate::engine::Engine;
use crate::letterhead::Letterhead;
use crate::lineup::Lineups;
use crate::link::{ControlLink, FromShard, ORDER_QUEUE, ToShard};
use crate::outbox::Outbox;
use crate::pacer::Pacer;
use crate::relay::{Audience, FanOut};
use crate::stages::{Stage, Stages};

/// Relays under way: several slices in each of the receive buffers.
const FAN_OUTS_MAX: usize = 1_024;

/// Bursts before what has arrived has its turn again.
const BURSTS_PER_TURN: usize = 16;

/// See the module.
pub(crate) struct Egress {
    audience: Audience,
    letterhead: Letterhead,
    encoder: Encoder,
    outbox: Outbox,
    fan_outs: VecDeque<(BufferId, FanOut)>,
    slices: VecDeque<SliceOrder>,
    encoded: Option<Encoded>,
    /// Whether a slice of our own waits for a send to complete.
    stalled: bool,
    /// Relays of which the last copy is queued and not yet submitted: since when, and how many shreds.
    relayed: Vec<(Time, usize)>,
    /// The last fan-out's.
    serial: u64,
    pacer: Option<Pacer>,
    /// Whether the pacer allowed nothing when it was last asked.
    is_paced: bool,
    counters: Arc<Counters>,
}

impl Egress {
    pub(crate) fn new(
        audience: Audience,
        letterhead: Letterhead,
        encoder: Encoder,
        pacer: Option<Pacer>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            pacer,
            is_paced: false,
            audience,
            letterhead,
            encoder,
            outbox: Outbox::new(),
            fan_outs: VecDeque::with_capacity(FAN_OUTS_MAX),
            slices: VecDeque::with_capacity(ORDER_QUEUE),
            encoded: None,
            stalled: false,
            relayed: Vec::with_capacity(FAN_OUTS_MAX),
            serial: 0,
            counters,
        }
    }

    /// Whether orders may be taken from control.
    pub(crate) fn accepts_orders(&self) -> bool {
        self.outbox.has_room() && self.slices.len() < ORDER_QUEUE
    }

    /// Takes what control has ordered, as far as there is room.
    pub(crate) fn take_orders(&mut self, control: &ControlLink) {
        while self.accepts_orders() {
            match control.pop_order() {
                None => return,
                Some(ToShard::SendSlice { id, is_last, payload }) => {
                    self.slices.push_back(SliceOrder { id, is_last, payload });
                }
                Some(ToShard::Broadcast { kind, body }) => self.outbox.broadcast(kind, body),
                Some(ToShard::SendTo { to, kind, body }) => {
                    if to != self.audience.own && to.get() < self.audience.everybody.len() {
                        self.outbox.send_to(to, kind, body);
                    } else {
                        self.counters.add(Counter::NoSuchReceiver, 1);
                    }
                }
            }
        }
    }

    /// Queues a relay of shreds in `buffer`, which it holds until the last copy is made.
    pub(crate) fn relay(&mut self, engine: &mut Engine, buffer: BufferId, mut fan_out: FanOut) {
        let shreds = fan_out.positions.len() as u64;
        if self.fan_outs.len() == FAN_OUTS_MAX {
            self.counters.add(Counter::RelayBacklogFull, shreds);
            return;
        }
        engine.hold(buffer);
        self.counters.add(Counter::ShredsRelayed, shreds);
        fan_out.serial = self.next_serial();
        self.fan_outs.push_back((buffer, fan_out));
    }

    const fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// Sends messages and relayed shreds, burst by burst, as far as slots are free and one turn goes. What arrives in
    /// the meantime is appended to `received`.
    pub(crate) fn forward(
        &mut self,
        engine: &mut Engine,
        control: &ControlLink,
        stages: &mut Stages,
        received: &mut VecDeque<BufferId>,
    ) {
        for _ in 0..BURSTS_PER_TURN {
            self.queue_burst(engine, control, clock::now);
            engine.recycle(received);
            if !self.can_forward(engine) {
                break;
            }
        }
        if !self.relayed.is_empty() {
            let submitted = clock::now();
            for (since, shreds) in self.relayed.drain(..) {
                stages.record_many(Stage::Relay, since, submitted, shreds as u64);
            }
        }
    }

    /// Queues messages, then copies of shreds as far as the pacer allows. Messages are never held back, but they count.
    /// The clock is only read if there is a pacer.
    fn queue_burst(&mut self, engine: &mut Engine, control: &ControlLink, now: impl Fn() -> Time) {
        self.take_orders(control);
        let mut burst = Burst::of_copies();
        self.outbox.pump(engine, &self.audience, &self.letterhead, &self.counters, &mut burst);
        self.pace(&mut burst, &now);
        let before = burst.taken_bytes();
        self.queue_copies(engine, &mut burst);
        self.spend(burst.taken_bytes() - before);
    }

    /// Limits what follows in `burst` to what the pacer allows, after what is in it already.
    fn pace(&mut self, burst: &mut Burst, now: &impl Fn() -> Time) {
        if let Some(pacer) = &mut self.pacer {
            let now = now();
            pacer.refill(now);
            pacer.spend(burst.taken_bytes());
            let allowance = pacer.allowance(now);
            self.is_paced = allowance == 0;
            burst.limit(allowance);
        }
    }

    fn spend(&mut self, bytes: usize) {
        if let Some(pacer) = &mut self.pacer {
            pacer.spend(bytes);
        }
    }

    /// How long shreds wait for the pacer, if they wait for that alone.
    pub(crate) fn pause(&self, now: Time) -> Option<Duration> {
        let shreds = !self.fan_outs.is_empty() || self.encoded.is_some() || !self.slices.is_empty();
        self.pacer.filter(|_| self.is_paced && shreds).map(|pacer| pacer.wait(now))
    }

    fn queue_copies(&mut self, engine: &mut Engine, burst: &mut Burst) {
        while let Some((buffer, fan_out)) = self.fan_outs.front_mut() {
            let Some(receiver) = fan_out.receiver(&self.audience) else {
                self.relayed.push((fan_out.since, fan_out.positions.len()));
                engine.release(*buffer);
                self.fan_outs.pop_front();
                continue;
            };
            if burst.is_over() {
                return;
            }
            let Some(slot) = engine.take_slot() else { return };
            let (received, out, in_place) = engine.received_and_slot(*buffer, &slot, fan_out.draft());
            let length = fan_out.gather(received.payload, &self.letterhead, receiver, (out, in_place));
            // The only one to relay may be the shorter last datagram of its buffer.
            let segment_bytes = fan_out.datagram_bytes.min(length);
            burst.take(length);
            engine.send(slot, length, receiver.get(), segment_bytes);
        }
    }

    /// Whether messages or copies wait that can be sent now.
    pub(crate) fn can_forward(&self, engine: &Engine) -> bool {
        let copies = !self.fan_outs.is_empty() && !self.is_paced;
        engine.has_slot() && (copies || !self.outbox.is_empty())
    }

    /// Encodes and sends one slice of our own, as far as buffers and slots are free and control takes the report.
    pub(crate) fn send_slice(
        &mut self,
        engine: &mut Engine,
        lineups: &mut Lineups,
        control: &ControlLink,
        stages: &mut Stages,
    ) {
        self.stalled = false;
        if control.slice_room() == 0 {
            return;
        }
        let Some(mut encoded) = self.encoded.take().or_else(|| self.encode_next(engine, lineups)) else { return };
        let mut burst = Burst::of_slice();
        self.pace(&mut burst, &clock::now);
        let pumped = encoded.pump(engine, &self.audience, &self.letterhead, &mut burst);
        self.spend(burst.taken_bytes());
        engine.submit();
        if pumped != Pumped::Everything {
            self.stalled = pumped == Pumped::NoSlot;
            self.encoded = Some(encoded);
            return;
        }
        stages.record_between(Stage::Encode, encoded.written.started, clock::now());
        self.counters.add(Counter::SlicesSent, 1);
        control.push_slice(FromShard::SliceSent {
            id: encoded.id,
            is_last: encoded.is_last,
            root: encoded.written.shredded.root,
            signature: encoded.written.shredded.signature,
            leader_stamp_ns: encoded.written.started.0,
        });
        encoded.finish(engine);
        engine.wake_control();
    }

    fn encode_next(&mut self, engine: &mut Engine, lineups: &mut Lineups) -> Option<Encoded> {
        if self.slices.is_empty() {
            return None;
        }
        let Some(buffer) = engine.take_slice_buffer() else {
            self.stalled = true;
            return None;
        };
        let order = self.slices.pop_front()?;
        let lineup = lineups.of(order.id);
        assert!(lineup.leader == self.audience.own, "control orders slices of its own slots only");
        let mut encoded = self.encoder.encode(&order, lineup, engine, buffer, &self.letterhead);
        encoded.set_serial(self.next_serial());
        Some(encoded)
    }

    /// Whether a slice of our own can be sent now.
    pub(crate) fn can_encode(&self, control: &ControlLink) -> bool {
        !self.stalled
            && !self.is_paced
            && (self.encoded.is_some() || !self.slices.is_empty())
            && control.slice_room() > 0
    }

    /// Whether a slice of our own waits for control to take a report.
    pub(crate) fn waits_for_room(&self, control: &ControlLink) -> bool {
        (self.encoded.is_some() || !self.slices.is_empty()) && control.slice_room() == 0
    }
}

#[cfg(test)]
mod tests;
