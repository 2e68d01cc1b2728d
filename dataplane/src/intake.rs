//! A shard's steps on what it receives, from the datagram to the slice. `shard.rs` puts them in their order.
//!
//! Each step counts what it drops. Cheap checks come before costly ones, and nothing of what a stranger sends is looked
//! at beyond its header and MAC.

use std::sync::Arc;

use alpenglow_rotor::assembler::{Assembler, Decoded, Inserted, Reject, TOGETHER_MAX, Verified};
use alpenglow_rotor::parameters::CodingParameters;
use alpenglow_rotor::shred::ShredView;
use alpenglow_rotor::slice::SliceId;
use alpenglow_rotor::types::{Hash, Slot, Time, ValidatorIndex};
use alpenglow_rotor::validators::ValidatorSet;

use crate::buffers::Received;
use crate::buffers::SEGMENTS_MAX;
use crate::clock;
use crate::counters::{Counter, Counters};
use crate::datagram::Kind;
use crate::gate::{Authentic, Claimed, Datagram, Gate};
use crate::limits::{Limits, Source};
use crate::lineup::{Lineup, Lineups, Role};
use crate::link::{ControlLink, FromShard, Horizon, InboundMessage, MessageBytes, Neighbour};
use crate::relay::FanOut;
use crate::stages::{Stage, Stages};

/// An authenticated, well-formed shred.
#[derive(Clone, Copy)]
pub(crate) struct Shred<'a> {
    view: ShredView<'a>,
    sender: ValidatorIndex,
    role: Role,
    leader: ValidatorIndex,
    next_leader: ValidatorIndex,
    /// Its place in the receive buffer.
    position: usize,
}

/// Shreds that are verified together.
pub(crate) type Batch<'a> = [Option<Shred<'a>>; TOGETHER_MAX];

/// See the module.
pub(crate) struct Intake {
    pub(crate) lineups: Lineups,
    pub(crate) stages: Stages,
    gate: Gate,
    limits: Limits,
    assembler: Assembler,
    coding: CodingParameters,
    own: ValidatorIndex,
    validators: Arc<ValidatorSet>,
    horizon: Arc<Horizon>,
    closed_through: Slot,
    /// The last window's first slot that control was told of.
    leader_seen: Slot,
    silent_relay: bool,
    control: ControlLink,
    neighbours: Arc<[Neighbour]>,
    handed_over: u64,
    counters: Arc<Counters>,
    /// When the buffer at hand was taken from the ring, and how far its datagrams lie apart.
    received: Time,
    datagram_bytes: usize,
    /// Where it says that it comes from.
    source: Source,
    /// What the buffer at hand has brought: shreds to relay, by slice, and slices to decode.
    fan_outs: Vec<FanOut>,
    completed: Vec<SliceId>,
}

/// What an intake is made of.
pub(crate) struct IntakeParts {
    pub(crate) lineups: Lineups,
    pub(crate) gate: Gate,
    pub(crate) limits: Limits,
    pub(crate) assembler: Assembler,
    pub(crate) coding: CodingParameters,
    pub(crate) own: ValidatorIndex,
    pub(crate) validators: Arc<ValidatorSet>,
    pub(crate) horizon: Arc<Horizon>,
    pub(crate) silent_relay: bool,
    pub(crate) control: ControlLink,
    /// All shards of the node.
    pub(crate) neighbours: Arc<[Neighbour]>,
    pub(crate) counters: Arc<Counters>,
}

impl Intake {
    pub(crate) fn new(parts: IntakeParts) -> Self {
        Self {
            lineups: parts.lineups,
            stages: Stages::new(),
            gate: parts.gate,
            limits: parts.limits,
            assembler: parts.assembler,
            coding: parts.coding,
            own: parts.own,
            validators: parts.validators,
            horizon: parts.horizon,
            closed_through: Slot::GENESIS,
            leader_seen: Slot::GENESIS,
            silent_relay: parts.silent_relay,
            control: parts.control,
            neighbours: parts.neighbours,
            handed_over: 0,
            counters: parts.counters,
            received: Time::default(),
            datagram_bytes: 0,
            source: Source::default(),
            fan_outs: Vec::with_capacity(SEGMENTS_MAX),
            completed: Vec::with_capacity(SEGMENTS_MAX),
        }
    }

    /// Splits a receive buffer into its datagrams.
    pub(crate) fn split<'a>(
        &mut self,
        received: &Received<'a>,
        at: Time,
    ) -> impl Iterator<Item = Datagram<'a>> + use<'a> {
        self.received = at;
        self.datagram_bytes = received.segment_bytes;
        self.source = received.source;
        if let Some(stamp_ns) = received.stamp_ns {
            self.stages.record(Stage::RxQueue, clock::wall_clock_ns().saturating_sub(stamp_ns));
        }
        let datagrams = received.payload.len().div_ceil(received.segment_bytes).max(1);
        self.counters.add(Counter::DatagramsReceived, datagrams as u64);
        self.counters.add(Counter::TooManySegments, datagrams.saturating_sub(SEGMENTS_MAX) as u64);
        self.counters.add(Counter::TooShort, u64::from(received.payload.is_empty() && !received.truncated));
        self.counters.add(Counter::TooLong, if received.truncated { datagrams as u64 } else { 0 });
        let payload = if received.truncated { &[] } else { received.payload };
        let pieces = payload.chunks(received.segment_bytes).take(SEGMENTS_MAX);
        pieces.enumerate().map(|(position, bytes)| Datagram { bytes, position })
    }

    /// The next shreds among `datagrams`; `None` when none are left.
    pub(crate) fn next_batch<'a>(&mut self, datagrams: &mut impl Iterator<Item = Datagram<'a>>) -> Option<Batch<'a>> {
        loop {
            let mut claimed = [const { None }; TOGETHER_MAX];
            let wanted = datagrams.filter_map(|datagram| self.admit(datagram));
            let count = claimed.iter_mut().zip(wanted).map(|(place, datagram)| *place = Some(datagram)).count();
            if count == 0 {
                return None;
            }
            let mut batch = [None; TOGETHER_MAX];
            let mut places = batch.iter_mut();
            for authentic in self.authenticate(&claimed[..count]).into_iter().flatten() {
                if let Some(shred) = self.parse(&authentic) {
                    *places.next().expect("no more shreds than datagrams") = Some(shred);
                }
            }
            if batch[0].is_some() {
                return Some(batch);
            }
        }
    }

    /// Whether it is wanted, if it comes from whom it says.
    fn admit<'a>(&self, datagram: Datagram<'a>) -> Option<Claimed<'a>> {
        let admitted = self.gate.admit(datagram, self.closed_through, self.horizon.shreds_through());
        admitted.map_err(|reason| self.counters.add(reason, 1)).ok()
    }

    /// Which of them come from whom they say.
    fn authenticate<'a>(&self, claimed: &[Option<Claimed<'a>>]) -> [Option<Authentic<'a>>; TOGETHER_MAX] {
        let authentic = self.gate.authenticate(claimed);
        let forged = claimed.len() - authentic.iter().flatten().count();
        self.counters.add(Counter::BadMac, forged as u64);
        authentic
    }

    /// Reads a shred; other messages go to control as they are.
    fn parse<'a>(&mut self, authentic: &Authentic<'a>) -> Option<Shred<'a>> {
        if let Some(shard) = self.gate.other_shard(authentic) {
            self.hand_over(shard, authentic.datagram.bytes);
            return None;
        }
        let (Kind::Shred, Some(sender)) = (authentic.kind, authentic.sender) else {
            self.pass_on(authentic);
            return None;
        };
        let Ok(view) = ShredView::parse(authentic.body(), &self.coding) else {
            return self.drop_one(Counter::MalformedShred);
        };
        if authentic.lane != view.slice().lane() {
            return self.drop_one(Counter::WrongLane);
        }
        let lineup = self.lineups.of(view.slice());
        match lineup.role(view.index().get(), sender, self.own) {
            Ok(role) => {
                let (Lineup { leader, next_leader, .. }, position) = (lineup, authentic.datagram.position);
                Some(Shred { view, sender, role, leader, next_leader, position })
            }
            Err(reason) => self.drop_one(reason),
        }
    }

    fn hand_over(&mut self, shard: usize, datagram: &[u8]) {
        if self.neighbours[shard].hand_over(datagram, self.source) {
            self.counters.add(Counter::HandedOver, 1);
            self.handed_over |= 1 << shard;
        } else {
            self.counters.add(Counter::InboxFull, 1);
        }
    }

    /// The shards, as bits, to which something was handed over since the last call. They are to be woken.
    pub(crate) const fn take_handed_over(&mut self) -> u64 {
        std::mem::replace(&mut self.handed_over, 0)
    }

    fn pass_on(&mut self, authentic: &Authentic<'_>) {
        if let Err(reason) = self.limits.admit(self.received, authentic.kind, authentic.sender, self.source) {
            self.counters.add(reason, 1);
            return;
        }
        let Ok(body) = MessageBytes::try_from(authentic.body()) else {
            self.counters.add(Counter::MessageTooLong, 1);
            return;
        };
        let message = InboundMessage { kind: authentic.kind, sender: authentic.sender, body, received: self.received };
        let counter = self.control.push_message(message).err().unwrap_or(Counter::MessagesReceived);
        self.counters.add(counter, 1);
    }

    /// Which of them their leaders have signed.
    pub(crate) fn verify(&mut self, batch: &Batch<'_>) -> [Option<Verified>; TOGETHER_MAX] {
        let start = clock::now();
        let shreds = || batch.iter().flatten();
        let leaves = self.assembler.hash_leaves(shreds().map(|shred| (&shred.view, shred.sender)));
        let mut verified = [const { None }; TOGETHER_MAX];
        for ((place, shred), leaf) in verified.iter_mut().zip(shreds()).zip(leaves) {
            *place = self.verify_one(shred, leaf);
        }
        let count = shreds().count() as u64;
        let mean = Time(start.0 + (clock::now().0 - start.0) / count.max(1));
        self.stages.record_many(Stage::ShredVerify, start, mean, count);
        verified
    }

    fn verify_one(&mut self, shred: &Shred<'_>, leaf: Option<Hash>) -> Option<Verified> {
        let leader = self.validators.identity(shred.leader);
        match self.assembler.verify(&shred.view, leaf, shred.sender, leader) {
            Ok(verified) => {
                let from_leader = shred.sender == shred.leader;
                let counter = if from_leader { Counter::ShredsFromLeader } else { Counter::ShredsFromRelays };
                self.counters.add(counter, 1);
                self.report_leader(shred.view.slice().slot, &verified);
                Some(verified)
            }
            Err(reject) => {
                if reject == Reject::Equivocation
                    && let Some(equivocation) = self.assembler.equivocation(shred.view.slice())
                {
                    self.control.push_slice(FromShard::Equivocation(equivocation));
                }
                self.drop_one(reject.into())
            }
        }
    }

    /// Tells control that the leader of a window is alive.
    fn report_leader(&mut self, slot: Slot, verified: &Verified) {
        if verified.is_first() && slot.is_window_first() && slot != self.leader_seen {
            self.leader_seen = slot;
            self.control.push_slice(FromShard::LeaderSeen(slot));
        }
    }

    /// Notes it for forwarding, if this node is its relay and has not done so before.
    pub(crate) fn relay(&mut self, shred: &Shred<'_>, verified: &Verified) {
        if shred.role != Role::Relay || self.silent_relay || !self.assembler.claim_relay(verified) {
            return;
        }
        let slice = shred.view.slice();
        if self.fan_outs.last().is_none_or(|last| last.slice != slice) {
            self.fan_outs.push(FanOut::new(slice, shred.leader, shred.next_leader, self.datagram_bytes, self.received));
        }
        let fan_out = self.fan_outs.last_mut().expect("one was pushed if there was none");
        fan_out.positions.insert(shred.position);
    }

    /// Copies its data to its slice.
    pub(crate) fn assemble(&mut self, shred: &Shred<'_>, verified: Verified) {
        match self.assembler.insert(&shred.view, verified, self.received) {
            Inserted::Stored => {}
            Inserted::Complete => {
                let slice = shred.view.slice();
                if self.completed.last() != Some(&slice) {
                    self.completed.push(slice);
                }
            }
            Inserted::Duplicate => self.counters.add(Counter::ShredsSurplus, 1),
            Inserted::Malformed => self.counters.add(Counter::ShredMalformedSlice, 1),
            Inserted::Evicted => self.counters.add(Counter::ShredEvicted, 1),
        }
    }

    /// What is to be relayed of the buffer at hand.
    pub(crate) fn fan_outs(&mut self) -> impl Iterator<Item = FanOut> + '_ {
        self.fan_outs.drain(..)
    }

    /// Decodes the next of the slices that the buffer at hand has completed.
    pub(crate) fn decode(&mut self) -> Option<FromShard> {
        while let Some(slice) = self.completed.pop() {
            let first = self.assembler.first_received(slice);
            let decoded = self.assembler.decode(slice);
            let now = clock::now();
            match decoded {
                Some(Decoded::Slice(slice)) => {
                    self.counters.add(Counter::SlicesDecoded, 1);
                    self.stages.record_between(Stage::SliceAssembly, first.unwrap_or(now), now);
                    self.stages.record_between(Stage::SliceDissemination, Time(slice.leader_stamp_ns), now);
                    return Some(FromShard::Slice { slice, decoded: now });
                }
                Some(Decoded::Malformed(malformed)) => return Some(FromShard::MalformedSlice(malformed)),
                None => {}
            }
        }
        None
    }

    /// Forgets slices that nobody wants any more.
    pub(crate) fn follow_horizon(&mut self) {
        let closed_through = self.horizon.closed_through();
        if closed_through > self.closed_through {
            self.closed_through = closed_through;
            self.assembler.close(closed_through);
        }
    }

    fn drop_one<T>(&self, reason: Counter) -> Option<T> {
        self.counters.add(reason, 1);
        None
    }
}
