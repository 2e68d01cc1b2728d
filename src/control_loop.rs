//! What the control thread does: it takes what shards and verifiers have left, lets [`Control`] decide, and carries out
//! what comes back. A round is a list of small duties, each bounded, so that no kind of input starves another or the
//! timers.

mod remembering;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use alpenglow_control::consensus::Finalization;
use alpenglow_control::control::Control;
use alpenglow_control::input::Input;
use alpenglow_control::message::{self, Message};
use alpenglow_control::output::{Decision, Event, Output};
use alpenglow_control::production::{OutgoingSlice, SliceSent};
use alpenglow_control::repair::{self, RepairMessage};
use alpenglow_control::transactions::TransactionSource;
use alpenglow_control::vote::VotePayload;
use alpenglow_dataplane::datagram::Kind;
use alpenglow_dataplane::{FromShard, Horizon, InboundMessage, MessageBytes, ShardLink, ToShard, clock};
use alpenglow_rotor::slice::SlicePayload;
use alpenglow_rotor::types::{Slot, Time, ValidatorIndex};
use crossbeam::channel::Sender;

use crate::application::Finalized;
use crate::block_times::BlockTimes;
use crate::evidence::Evidence;
use crate::failpoint::{FailPoints, Point};
use crate::report::{How, NodeEvent, RepairCounts, Stage};
use crate::storage::block_log::BlockLogHandle;
use crate::storage::vote_log::Recorder;
use crate::telemetry::Events;
use crate::verifier::Verifiers;

/// Inputs taken in a round from one queue before the others have their turn.
const ROUND_INPUTS: usize = 64;
/// Times that each queue has its turn before a timer that is due fires, unless all are empty before: what came before
/// the timer is taken (the longest queue holds as much), and what goes on coming cannot put it off.
const TURNS_BEFORE_TIMER: usize = 64;
/// Messages of repair that may wait to be sent: all answers to the requests that one node has under way. Others are
/// lost, as on the way.
const REPAIR_BACKLOG: usize = 2_048;
/// Longest wait. Nothing depends on it: every input wakes and every timer is waited for; it bounds what a defect costs.
const WAIT_MAX: Duration = Duration::from_millis(100);
/// Far more than a shard takes to send a few datagrams.
const SHARDS_SEND_WITHIN: Duration = Duration::from_millis(10);

/// What the control thread works with.
pub(crate) struct ControlParts {
    /// What decides.
    pub(crate) control: Control,
    /// Where its record goes; none for a node that keeps none.
    pub(crate) recorder: Option<Recorder>,
    /// Where it is to end at once.
    pub(crate) fail_points: FailPoints,
    /// Whether the shards are never told that any shred is wanted, so that they drop them all.
    pub(crate) drop_shreds: bool,
    /// Whether a second version of every own slice is sent after the first one.
    pub(crate) equivocate: bool,
    /// Validators in the set.
    pub(crate) validators: usize,
    /// The shards, in order.
    pub(crate) links: Vec<ShardLink>,
    /// What tells the shards which slots are wanted.
    pub(crate) horizon: Arc<Horizon>,
    /// What checks signatures.
    pub(crate) verifiers: Verifiers,
    /// Where finalized blocks go.
    pub(crate) application: Sender<Finalized>,
    /// The block log, if there is one.
    pub(crate) block_log: Option<BlockLogHandle>,
    /// Where proofs go.
    pub(crate) evidence: Evidence,
    /// Where events go.
    pub(crate) events: Events,
}

/// What the control thread leaves when it ends.
pub(crate) struct ControlReport {
    /// Times it measured.
    pub(crate) times: BlockTimes,
    /// What it dropped, by reason.
    pub(crate) drops: BTreeMap<&'static str, u64>,
    /// Blocks fetched from others and given to them.
    pub(crate) repair: RepairCounts,
    /// Whether everything that was said is in the vote log.
    pub(crate) is_recorded: bool,
}

/// See the module.
pub(crate) struct ControlLoop {
    parts: ControlParts,
    /// Orders that found a shard's queue full, with the shard. While there are any, nothing is decided, so they are
    /// those of one input and one tick at most.
    backlog: VecDeque<(usize, ToShard)>,
    /// Messages of repair, which leave when a shard has little else to send.
    repair_backlog: VecDeque<(ValidatorIndex, RepairMessage)>,
    /// The shard that sends the next message.
    next_shard: usize,
    times: BlockTimes,
    drops: BTreeMap<&'static str, u64>,
}

impl ControlLoop {
    pub(crate) fn new(parts: ControlParts) -> Self {
        Self {
            parts,
            backlog: VecDeque::new(),
            repair_backlog: VecDeque::new(),
            next_shard: 0,
            times: BlockTimes::default(),
            drops: BTreeMap::new(),
        }
    }

    /// One round of all duties; how much there was to do. Timers come last: a thread that was held up must not skip a
    /// slot whose block waits in its queue.
    pub(crate) fn round(&mut self) -> usize {
        let mut done = self.offer_backlog();
        if self.backlog.is_empty() {
            let is_due = self.is_timer_due(clock::now());
            done += self.take_recorded(clock::now()) + self.carry_out(clock::now());
            for _ in 0..if is_due { TURNS_BEFORE_TIMER } else { 1 } {
                let taken = self.take_slices() + self.take_verdicts() + self.take_messages() + self.take_log_answers();
                done += taken;
                if taken == 0 {
                    break;
                }
            }
            if is_due && !self.is_behind() {
                self.decide(clock::now(), Input::Tick);
                done += 1;
            }
            done += self.send_repair();
        }
        for link in &self.parts.links {
            link.flush();
        }
        if done > 0 {
            self.parts.fail_points.pass_after(Point::AfterSend, || thread::sleep(SHARDS_SEND_WITHIN));
        }
        done
    }

    /// Whether the next round has something to take. Asked after the thread has called itself parked.
    pub(crate) fn has_input(&self) -> bool {
        let is_asked = || {
            !self.repair_backlog.is_empty()
                || !self.parts.verifiers.is_empty()
                || self.parts.block_log.as_ref().is_some_and(|log| !log.is_empty())
                || self.parts.links.iter().any(|link| !link.is_empty())
        };
        !self.backlog.is_empty()
            || self.parts.recorder.as_ref().is_some_and(|recorder| !recorder.is_idle())
            || !self.is_behind() && is_asked()
    }

    /// How long a wait may last.
    pub(crate) fn time_to_wait(&self, now: Time) -> Duration {
        let due = self.parts.control.next_timeout().filter(|_| !self.is_behind());
        due.map_or(WAIT_MAX, |due| due.since(now).min(WAIT_MAX))
    }

    fn is_timer_due(&self, now: Time) -> bool {
        self.parts.control.next_timeout().is_some_and(|due| due <= now)
    }

    /// Whether nothing may be decided now.
    fn is_held_up(&self) -> bool {
        !self.backlog.is_empty() || self.is_behind()
    }

    fn take_slices(&mut self) -> usize {
        let mut taken = 0;
        for shard in 0..self.parts.links.len() {
            for _ in 0..ROUND_INPUTS {
                if self.is_held_up() {
                    return taken;
                }
                let Some(event) = self.parts.links[shard].pop_slice() else { break };
                let now = clock::now();
                let input = match event {
                    FromShard::Slice { slice, decoded } => {
                        self.times.stages.record_ns(Stage::Handoff, now.0.saturating_sub(decoded.0));
                        Input::Slice(slice)
                    }
                    FromShard::SliceSent { id, root, signature, leader_stamp_ns, .. } => {
                        Input::SliceSent(SliceSent { id, root, signature, leader_stamp_ns })
                    }
                    FromShard::LeaderSeen(slot) => Input::LeaderSeen(slot),
                    FromShard::MalformedSlice(malformed) => Input::MalformedSlice(malformed),
                    FromShard::Equivocation(equivocation) => Input::Equivocation(equivocation),
                };
                self.decide(now, input);
                taken += 1;
            }
        }
        taken
    }

    fn take_verdicts(&mut self) -> usize {
        let mut taken = 0;
        while !self.is_held_up()
            && let Some((id, verdict)) = self.parts.verifiers.pop()
        {
            self.decide(clock::now(), Input::Checked { id, verdict });
            taken += 1;
        }
        taken
    }

    fn take_messages(&mut self) -> usize {
        let mut taken = 0;
        for shard in 0..self.parts.links.len() {
            for _ in 0..ROUND_INPUTS {
                if self.is_held_up() {
                    return taken;
                }
                let Some(message) = self.parts.links[shard].pop_message() else { break };
                match read(&message, self.parts.validators) {
                    Ok(input) => self.decide(clock::now(), input),
                    Err(reason) => self.count(reason),
                }
                taken += 1;
            }
        }
        taken
    }

    fn take_log_answers(&mut self) -> usize {
        let mut taken = 0;
        while !self.is_held_up()
            && taken < ROUND_INPUTS
            && let Some(answer) = self.parts.block_log.as_ref().and_then(BlockLogHandle::pop)
        {
            self.decide(clock::now(), Input::BlockLog(answer));
            taken += 1;
        }
        taken
    }

    fn decide(&mut self, now: Time, input: Input) {
        self.parts.control.handle(now, input);
        self.carry_out(now);
    }

    fn carry_out(&mut self, now: Time) -> usize {
        let mut done = 0;
        while !self.is_behind()
            && let Some(output) = self.parts.control.poll_output()
        {
            self.carry_out_one(now, output);
            done += 1;
        }
        done
    }

    fn carry_out_one(&mut self, now: Time, output: Output) {
        match output {
            Output::BlockLog(order) => self.log_block(now, order),
            Output::Record(entry) => self.record(now, entry),
            Output::Reserve(slot) => self.reserve(slot),
            Output::Broadcast(message) => {
                let (kind, body) = write(&message);
                let shard = self.any_shard();
                self.parts.fail_points.pass(Point::BeforeSend);
                self.order(shard, ToShard::Broadcast { kind, body });
            }
            Output::SendTransaction { to, bytes } => {
                let body = body(&bytes);
                let shard = self.any_shard();
                self.order(shard, ToShard::SendTo { to, kind: Kind::ForwardedTransaction, body });
            }
            Output::Repair { to, message } => {
                if self.repair_backlog.len() < REPAIR_BACKLOG {
                    self.repair_backlog.push_back((to, message));
                } else {
                    self.count("repair_backlog_full");
                }
            }
            Output::SendSlice(slice) => self.send_slice(slice),
            Output::Check { id, job } => self.parts.verifiers.push(id, job),
            Output::Horizon(_) if self.parts.drop_shreds => {}
            Output::Horizon(horizon) => {
                self.parts.horizon.closed_through.store(horizon.closed_through.0, Ordering::Relaxed);
                self.parts.horizon.shreds_through.store(horizon.shreds_through.0, Ordering::Relaxed);
            }
            Output::Finalized(block) => {
                let id = block.id;
                if self.parts.application.try_send(Finalized { block, at: now }).is_err() {
                    self.count("application_behind");
                    tracing::error!(block = %id, "the application is behind by a full queue and never gets this block");
                }
            }
            Output::FinalizedGap { after, through } => {
                tracing::warn!(%after, %through, "finalized blocks are missing here: the application goes on after them");
            }
            Output::Proof(proof) => {
                if !self.parts.evidence.offer(proof) {
                    self.count("proof_dropped");
                }
            }
            Output::Event(event) => self.observe(now, event),
        }
    }

    fn observe(&mut self, now: Time, event: Event) {
        match event {
            Event::BlockComplete { block, own } => {
                tracing::debug!(block = %block.id, parent = %block.parent, own, "complete");
                self.times.complete(now, block.id.slot, block.id.hash, block.leader_stamp_ns(), !own);
                if own {
                    self.times.began(block.id.slot, block.parent, block.slices[0].leader_stamp_ns);
                }
            }
            Event::BlockRepaired { block, took, requests } => {
                tracing::debug!(%block, ?took, requests, "repaired");
                self.times.stages.record_ns(Stage::Repair, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
            }
            Event::Notarized(block) => self.times.reached(now, Stage::Notarized, block.slot, block.hash),
            Event::Decided { slot, decision } => self.decided(now, slot, decision),
            Event::VoteCast(VotePayload::Notar(block)) => self.parts.events.emit(NodeEvent::Voted { slot: block.slot }),
            Event::Barred { validator, .. } => {
                tracing::warn!(validator = validator.0, "barred for seconds: it sent a wrong signature");
            }
            Event::Standstill { finalized } => {
                tracing::warn!(%finalized, "nothing finalized for long: sending certificates and votes again");
            }
            Event::Contradiction { block, other } => {
                tracing::error!(%block, %other, "two final blocks contradict each other: the stake of liars is too large");
            }
            Event::BlockDead { slot, reason, .. } => tracing::warn!(%slot, %reason, "the leader's block is invalid"),
            event => tracing::debug!(?event),
        }
    }

    fn decided(&mut self, now: Time, slot: Slot, decision: Decision) {
        let (how, hash) = match decision {
            Decision::Skipped => (How::Skipped, None),
            Decision::Finalized { block, how } => {
                self.times.reached(now, Stage::Finalized, slot, block.hash);
                let how = match how {
                    Finalization::Fast => How::Fast,
                    Finalization::Slow => How::Slow,
                    Finalization::Ancestor => How::Ancestor,
                };
                match how {
                    How::Fast => self.times.reached(now, Stage::FinalizedFast, slot, block.hash),
                    How::Slow => self.times.reached(now, Stage::FinalizedSlow, slot, block.hash),
                    How::Ancestor | How::Skipped => {}
                }
                (how, Some(block.hash))
            }
        };
        tracing::debug!(%slot, ?how, "decided");
        self.parts.events.emit(NodeEvent::Decided { slot, how, hash });
    }

    fn send_slice(&mut self, slice: OutgoingSlice) {
        let shard = usize::from(slice.id.lane()) % self.parts.links.len();
        let OutgoingSlice { id, is_last, payload } = slice;
        let second = self.parts.equivocate.then(|| other_version(&payload));
        self.parts.fail_points.pass(Point::BeforeSend);
        for payload in [Some(payload), second].into_iter().flatten() {
            self.order(shard, ToShard::SendSlice { id, is_last, payload });
        }
    }

    fn order(&mut self, shard: usize, order: ToShard) {
        if let Err(order) = self.parts.links[shard].push(order) {
            self.backlog.push_back((shard, order));
        }
    }

    fn offer_backlog(&mut self) -> usize {
        let mut offered = 0;
        while let Some((shard, order)) = self.backlog.pop_front() {
            if let Err(order) = self.parts.links[shard].push(order) {
                self.backlog.push_front((shard, order));
                break;
            }
            offered += 1;
        }
        offered
    }

    fn send_repair(&mut self) -> usize {
        let mut sent = 0;
        while sent < ROUND_INPUTS && !self.repair_backlog.is_empty() {
            let shard = self.any_shard();
            if !self.parts.links[shard].is_idle() {
                break;
            }
            let (to, message) = self.repair_backlog.pop_front().expect("it is not empty");
            let kind = match message {
                RepairMessage::Request(_) => Kind::RepairRequest,
                RepairMessage::Answer(_) => Kind::RepairAnswer,
            };
            self.order(shard, ToShard::SendTo { to, kind, body: body(&message.encode()) });
            sent += 1;
        }
        sent
    }

    /// Messages take turns through the shards: none is burdened with all of them.
    fn any_shard(&mut self) -> usize {
        self.next_shard = (self.next_shard + 1) % self.parts.links.len();
        self.next_shard
    }

    fn count(&mut self, reason: &'static str) {
        *self.drops.entry(reason).or_default() += 1;
    }

    /// Stops the verifiers; what the thread leaves.
    pub(crate) fn finish(mut self) -> ControlReport {
        for (reason, count) in self.parts.control.counters().iter() {
            *self.drops.entry(reason).or_default() += count;
        }
        let events_dropped = self.parts.events.dropped();
        if events_dropped > 0 {
            self.drops.insert("event_queue_full", events_dropped);
        }
        let is_recorded = self.parts.recorder.is_some() && !self.is_behind();
        self.parts.verifiers.stop();
        let statistics = self.parts.control.repair_statistics();
        let repair = RepairCounts {
            requests: statistics.requests,
            not_held: statistics.not_held,
            blocks: statistics.blocks,
            served: self.parts.control.repair_requests_served(),
        };
        ControlReport { times: self.times, drops: self.drops, repair, is_recorded }
    }
}

/// A payload that differs in its last byte.
fn other_version(payload: &SlicePayload) -> SlicePayload {
    let mut bytes = payload.to_vec();
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
    bytes.into()
}

/// Reads a message's body; on failure the reason to count.
fn read(message: &InboundMessage, validators: usize) -> Result<Input, &'static str> {
    let sender = || message.sender.ok_or("message_without_sender");
    match message.kind {
        Kind::Vote => Ok(Input::Vote(message::decode_vote(&message.body, sender()?).map_err(|error| error.name())?)),
        Kind::Certificate => {
            let certificate = message::decode_certificate(&message.body, validators).map_err(|error| error.name())?;
            Ok(Input::Certificate { certificate, sender: sender()? })
        }
        Kind::Transaction => Ok(transaction(&message.body, TransactionSource::Client)),
        Kind::ForwardedTransaction => Ok(transaction(&message.body, TransactionSource::Validator(sender()?))),
        Kind::RepairRequest => {
            let request = repair::decode_request(&message.body).map_err(|error| error.name())?;
            Ok(Input::Repair { message: RepairMessage::Request(request), sender: sender()? })
        }
        Kind::RepairAnswer => {
            let answer = repair::decode_answer(&message.body).map_err(|error| error.name())?;
            Ok(Input::Repair { message: RepairMessage::Answer(answer), sender: sender()? })
        }
        Kind::Shred => Err("shred_among_messages"),
    }
}

fn transaction(bytes: &[u8], source: TransactionSource) -> Input {
    Input::Transaction { bytes: bytes.into(), source }
}

fn write(message: &Message) -> (Kind, MessageBytes) {
    let kind = match message {
        Message::Vote(_) => Kind::Vote,
        Message::Certificate(_) => Kind::Certificate,
    };
    (kind, body(&message.encode()))
}

fn body(bytes: &[u8]) -> MessageBytes {
    MessageBytes::try_from(bytes).expect("every message fits the smallest datagram limit")
}
