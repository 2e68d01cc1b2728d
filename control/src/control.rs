//! Everything joined: what comes in goes to the part it concerns, and what follows from it comes out, in order.

mod config;
mod keeping;
mod leading;
mod recording;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use alpenglow_rotor::recoder::Recoder;
use alpenglow_rotor::schedule::LeaderSchedule;
use alpenglow_rotor::types::{BlockId, Slot, Time, ValidatorIndex};

use crate::block::{Block, InvalidBlock};
use crate::block_log::Archive;
use crate::blokstor::{Blokstor, BlokstorEvent};
use crate::certificate::{Certificate, Statement};
use crate::checker::CheckVerdict;
use crate::checking::Checking;
use crate::consensus::{Consensus, ConsensusConfig, ConsensusEvent, Finalization, Horizon};
use crate::counters::Counters;
use crate::evidence::{Ledger, Proof};
use crate::input::Input;
use crate::message::Message;
use crate::output::{Decision, Event, Output, ShredHorizon};
use crate::production::{Production, ProductionConfig, SliceSent};
use crate::repair::{
    Need, RepairConfig, RepairMessage, RepairStatistics, Repaired, RequestLimits, Requester, Responder,
};
use crate::standstill::Standstill;
use crate::transactions::Transactions;
use crate::vote::Vote;
use crate::vote_record::{Entry, Live, Restoration};

pub use self::config::{ControlConfig, ControlConfigError};

/// Blocks whose notarization is remembered, so that it is reported once: more than can be notarized and not yet
/// final.
const NOTARIZED_REMEMBERED: usize = 256;

/// The control core of a node. See the crate's documentation for how to drive it.
pub struct Control {
    own: ValidatorIndex,
    schedule: Arc<LeaderSchedule>,
    consensus: Consensus,
    blokstor: Blokstor,
    transactions: Transactions,
    production: Production,
    checking: Checking,
    standstill: Standstill,
    requester: Requester,
    responder: Responder,
    archive: Archive,
    proofs: Ledger,
    record: Live,
    counters: Counters,
    outputs: VecDeque<Output>,
    /// First slot of the highest window that is ready.
    window: Slot,
    shred_horizon: Option<ShredHorizon>,
    notarized: BTreeSet<BlockId>,
    expired_before: u64,
}

impl Control {
    /// A node at genesis that keeps no record of its votes, so that it must never start again with the same keys.
    /// `start` is the later of the node's start and the cluster's: window 0 runs from then.
    ///
    /// # Errors
    /// [`ControlConfigError`] names the value that cannot work.
    pub fn new(config: ControlConfig, start: Time) -> Result<Self, ControlConfigError> {
        Self::at_start(config, start, None)
    }

    /// A node that goes on from what it kept, see [`crate::vote_record`], at `start`: the later of the node's start and
    /// the cluster's.
    ///
    /// # Errors
    /// [`ControlConfigError`] names the value that cannot work.
    pub fn restore(config: ControlConfig, start: Time, restoration: &Restoration) -> Result<Self, ControlConfigError> {
        Self::at_start(config, start, Some(restoration))
    }

    fn at_start(
        config: ControlConfig,
        start: Time,
        restoration: Option<&Restoration>,
    ) -> Result<Self, ControlConfigError> {
        config.check()?;
        let ControlConfig { own, schedule, stakes, .. } = config;
        let production = Production::new(ProductionConfig {
            delta_block: config.delta_block,
            slice_interval: config.slice_interval,
            slice_payload_bytes: config.coding.slice_payload_bytes(),
            slices_max: config.blokstor.block_slices_max(),
            in_flight_max: config.slices_in_flight_max,
        });
        let consensus_config = ConsensusConfig {
            own,
            secret_key: config.secret_key,
            stakes: stakes.clone(),
            cluster: config.cluster,
            delta_block: config.delta_block,
            delta_timeout: config.delta_timeout,
            standstill_interval: config.standstill_interval,
            crashed_leader: config.crashed_leader_timer.then_some(config.slice_interval),
        };
        let consensus = Consensus::new(consensus_config, start);
        let tip = config.tip.filter(|tip| tip.is_final(&stakes));
        let RepairConfig { bytes_max, asking, serving, seed, kernel } = config.repair;
        let recoder = || Recoder::with_kernel(config.coding, config.cluster, kernel);
        let requests =
            RequestLimits { grace: config.delta_block / 4, answer_timeout: config.delta_block / 2, bytes_max, asking };
        let mut control = Self {
            own,
            schedule,
            blokstor: Blokstor::new(config.blokstor, consensus.horizon().shreds_through),
            consensus,
            transactions: Transactions::new(own, config.transactions),
            production,
            standstill: Standstill::new(config.standstill_interval, stakes.len(), start),
            requester: Requester::new(requests, config.coding, recoder(), own, &stakes, seed),
            responder: Responder::new(serving, config.coding, recoder(), stakes.len()),
            archive: Archive::new(config.keeps_blocks),
            checking: Checking::new(config.checking, stakes),
            proofs: Ledger::new(),
            record: restoration.map(Live::restored).unwrap_or_default(),
            counters: Counters::default(),
            outputs: VecDeque::new(),
            window: Slot(1),
            shred_horizon: None,
            notarized: BTreeSet::new(),
            expired_before: 0,
        };
        if let Some(tip) = tip {
            control.go_on_from(start, tip);
        }
        if let Some(restoration) = restoration {
            control.consensus.restore(start, restoration);
        }
        control.begin_window(start, Slot(1), BlockId::GENESIS);
        control.resume(start);
        Ok(control)
    }

    /// Takes in one thing that happened at `now`, which never goes back. Fetch the outputs afterwards.
    pub fn handle(&mut self, now: Time, input: Input) {
        let result = match input {
            Input::Slice(slice) => {
                self.requester.slice_came(now, slice.id.slot);
                self.take_slice(slice)
            }
            Input::SliceSent(sent) => self.slice_sent(&sent),
            Input::LeaderSeen(slot) => {
                self.consensus.leader_seen(slot);
                Ok(())
            }
            Input::MalformedSlice(malformed) => {
                let signed = malformed.signed;
                self.keep_proof(Proof::malformed(self.schedule.leader(signed.id.slot), malformed));
                self.blokstor.insert_malformed(signed).map_err(|refusal| refusal.name())
            }
            Input::Equivocation(equivocation) => {
                self.blokstor.equivocation(equivocation);
                Ok(())
            }
            Input::Vote(vote) => self.checking.vote(now, vote, &mut self.consensus),
            Input::Certificate { certificate, sender } => {
                self.checking.certificate(now, certificate, sender, &self.consensus)
            }
            Input::Repair { message, sender } => self.repair_message(now, message, sender),
            Input::Transaction { bytes, source } => {
                self.transactions.add(now, bytes, source).map(drop).map_err(|refusal| refusal.name())
            }
            Input::Checked { id, verdict } => {
                self.count_wrong(&verdict);
                let barred = self.checking.verdict(now, id, verdict, &mut self.consensus);
                if let Some([first, second]) = self.checking.take_proven() {
                    self.keep_proof(Proof::votes(first, second));
                }
                barred.map(|barred| self.report_barred(&barred))
            }
            Input::ReservationDurable(slot) => {
                self.record.durable(slot, &mut self.outputs);
                self.consensus.reserved(now, slot);
                Ok(())
            }
            Input::BlockLog(answer) => self.log_answered(now, answer),
            Input::Tick => {
                self.tick(now);
                Ok(())
            }
        };
        if let Err(reason) = result {
            self.counters.count(reason);
        }
        self.settle(now);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Tick`] is due, if nothing else happens before.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        [
            self.consensus.next_timeout(),
            self.production.next_timeout(),
            self.transactions.next_timeout(),
            self.checking.next_timeout(),
            self.requester.next_timeout(),
            Some(self.standstill.next_timeout()),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// What was dropped, by reason.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The highest block that is final by certificate.
    #[must_use]
    pub fn highest_finalized(&self) -> BlockId {
        self.consensus.highest_finalized()
    }

    /// Transactions pending in the pool.
    #[must_use]
    pub fn pending_transactions(&self) -> usize {
        self.transactions.len()
    }

    /// Memory of slices held, in bytes, by the reckoning of [`crate::blokstor::BlokstorConfig::bytes_max`].
    #[must_use]
    pub const fn held_bytes(&self) -> usize {
        self.blokstor.bytes()
    }

    /// What repair fetched since the start.
    #[must_use]
    pub const fn repair_statistics(&self) -> RepairStatistics {
        self.requester.statistics()
    }

    /// Requests of others that were answered since the start.
    #[must_use]
    pub const fn repair_requests_served(&self) -> u64 {
        self.responder.served()
    }

    fn repair_message(
        &mut self,
        now: Time,
        message: RepairMessage,
        sender: ValidatorIndex,
    ) -> Result<(), &'static str> {
        match message {
            RepairMessage::Request(request) => self.repair_requested(now, request, sender),
            RepairMessage::Answer(answer) => {
                self.requester.answer(now, answer, sender, &self.blokstor, &mut self.counters)
            }
        }
    }

    fn slice_sent(&mut self, sent: &SliceSent) -> Result<(), &'static str> {
        let slice = self.production.slice_sent(sent).ok_or("slice_sent_unknown")?;
        self.take_slice(slice)
    }

    fn tick(&mut self, now: Time) {
        self.consensus.advance(now);
        // What was cast just now is written down before it is said again.
        self.follow(now);
        let (messages, begins) = self.standstill.advance(now, &self.consensus);
        if begins {
            self.observe(Event::Standstill { finalized: self.consensus.highest_finalized().slot });
        }
        self.outputs.extend(messages.into_iter().map(Output::Broadcast));
    }

    /// Lets everything follow that follows from what was just taken in.
    fn settle(&mut self, now: Time) {
        self.follow(now);
        self.advance_repair(now);
        self.transactions.advance(now);
        let expired = self.transactions.expired();
        self.counters.add("transaction_expired", expired - self.expired_before);
        self.expired_before = expired;
        self.production.advance(now, &self.transactions);
        while let Some(slice) = self.production.poll_slice() {
            self.send_slice(slice);
        }
        self.record.renew(self.consensus.highest_voted(), &mut self.outputs);
        while let Some((to, bytes)) = self.transactions.poll_forward() {
            self.outputs.push_back(Output::SendTransaction { to, bytes });
        }
        while let Some((id, job)) = self.checking.next_job(now, &mut self.consensus) {
            self.outputs.push_back(Output::Check { id, job });
        }
        self.update_horizon();
    }

    /// Hands events to and fro until nothing is left to do.
    fn follow(&mut self, now: Time) {
        loop {
            if let Some(event) = self.blokstor.poll() {
                self.blokstor_event(now, event);
            } else if let Some(event) = self.consensus.poll() {
                self.consensus_event(now, event);
            } else if let Some(repaired) = self.requester.poll_repaired() {
                self.repaired(repaired);
            } else {
                self.blokstor.hand_over();
                let Some(event) = self.blokstor.poll() else { break };
                self.blokstor_event(now, event);
            }
        }
    }

    fn advance_repair(&mut self, now: Time) {
        let missing: Vec<BlockId> = self.blokstor.missing().collect();
        for block in missing {
            if self.requester.need(now, block, Need::Final, &mut self.counters) {
                self.look_in_log(block);
            }
        }
        // One that was named before it was needed may be here.
        self.follow(now);
        self.requester.forget_through(self.blokstor.closed_through());
        self.requester.advance(now, &mut self.counters);
        while let Some((to, request)) = self.requester.poll_request() {
            self.outputs.push_back(Output::Repair { to, message: RepairMessage::Request(request) });
        }
    }

    fn repaired(&mut self, Repaired { id, outcome, took, requests, for_log }: Repaired) {
        match outcome {
            Ok(block) => {
                if for_log {
                    self.found_for_log(Arc::clone(&block));
                }
                self.observe(Event::BlockRepaired { block: id, took, requests });
                self.blokstor.insert_repaired(block);
            }
            Err(reason) => self.block_dead(id.slot, Some(id), reason),
        }
    }

    fn block_dead(&mut self, slot: Slot, block: Option<BlockId>, reason: InvalidBlock) {
        self.counters.count(reason.name());
        if let Some(block) = block {
            self.consensus.block_dead(block);
            self.requester.satisfied(block);
        }
        self.observe(Event::BlockDead { slot, block, reason });
    }

    fn blokstor_event(&mut self, now: Time, event: BlokstorEvent) {
        match event {
            BlokstorEvent::Complete(block) => self.block_complete(now, block),
            BlokstorEvent::Repaired(block) => {
                self.hold_in_log(&block);
                self.consensus.block_held(now, block.id, block.parent);
                self.lead_on(now, block.id);
                self.observe(Event::BlockComplete { block, own: false });
            }
            BlokstorEvent::Dead { slot, block, reason } => self.block_dead(slot, block, reason),
            BlokstorEvent::Equivocation(equivocation) => {
                self.counters.count("leader_equivocation");
                let slot = equivocation.first.id.slot;
                self.consensus.equivocation(slot);
                self.keep_proof(Proof::slices(self.schedule.leader(slot), equivocation));
                self.observe(Event::Equivocation(equivocation));
            }
            BlokstorEvent::Evicted(slot) => {
                self.counters.count("slot_evicted");
                self.observe(Event::Evicted(slot));
            }
            BlokstorEvent::HandOver(block) => {
                self.finalize_in_log(&block);
                let repeated = self.transactions.finalized(&block.transaction_ids);
                self.counters.add("transaction_repeated", repeated as u64);
                self.outputs.push_back(Output::Finalized(block));
            }
            BlokstorEvent::Gap { after, through } => {
                self.counters.count("finalized_gap");
                self.outputs.push_back(Output::FinalizedGap { after, through });
            }
            BlokstorEvent::Conflict(_) => self.counters.count("finalized_conflict"),
        }
    }

    fn block_complete(&mut self, now: Time, block: Arc<Block>) {
        let own = self.schedule.leader(block.id.slot) == self.own;
        self.hold_in_log(&block);
        self.requester.satisfied(block.id);
        self.consensus.block_held(now, block.id, block.parent);
        if own {
            self.production.block_complete(now, block.id);
            self.observe_production();
        }
        self.lead_on(now, block.id);
        self.observe(Event::BlockComplete { block, own });
    }

    fn consensus_event(&mut self, now: Time, event: ConsensusEvent) {
        match event {
            ConsensusEvent::Vote(vote) => self.vote_cast(now, vote),
            ConsensusEvent::Withheld(_) => self.counters.count("own_vote_withheld"),
            ConsensusEvent::Certificate(certificate) => self.certificate_stored(certificate),
            ConsensusEvent::BlockNotarized(block) => self.notarized(block),
            ConsensusEvent::ParentReady { slot, parent } => {
                self.observe(Event::ParentReady { slot, parent });
                if slot > self.window {
                    self.begin_window(now, slot, parent);
                }
            }
            ConsensusEvent::Finalized { block, how } => self.finalized(now, block, how),
            ConsensusEvent::Chained { .. } => {}
            ConsensusEvent::SkippedForGood { first, last } => {
                for slot in (first.0..=last.0).map(Slot) {
                    self.observe(Event::Decided { slot, decision: Decision::Skipped });
                }
            }
            ConsensusEvent::RepairNeeded(block) => {
                // Votes are cast when a slot's first block is there, or when its time is over.
                let is_late =
                    block.slot <= self.consensus.highest_finalized().slot || self.consensus.has_voted(block.slot);
                self.requester.need(now, block, if is_late { Need::Now } else { Need::Soon }, &mut self.counters);
                self.look_in_log(block);
                self.observe(Event::RepairNeeded(block));
            }
            ConsensusEvent::Evidence(evidence) => self.observe(Event::Evidence(evidence)),
            ConsensusEvent::Recheck(votes) => self.checking.recheck(now, &votes, &self.consensus),
            ConsensusEvent::Horizon(Horizon { closed_through, .. }) => {
                self.checking.close(closed_through);
                self.requester.close(now, closed_through);
                self.notarized = self.notarized.split_off(&BlockId { slot: closed_through.next(), ..BlockId::GENESIS });
            }
            ConsensusEvent::Contradiction { block, other } => {
                self.counters.count("finalized_contradiction");
                self.observe(Event::Contradiction { block, other });
            }
        }
    }

    fn vote_cast(&mut self, now: Time, vote: Vote) {
        self.requester.hurry(now, vote.payload.slot());
        self.checking.own_vote(vote.payload, self.own, &self.consensus);
        self.outputs.extend(self.record.record(|| Entry::Vote(vote.payload)));
        self.outputs.push_back(Output::Broadcast(Message::Vote(vote)));
        self.observe(Event::VoteCast(vote.payload));
    }

    fn certificate_stored(&mut self, certificate: Arc<Certificate>) {
        let statement = certificate.statement;
        self.outputs.push_back(Output::Broadcast(Message::Certificate(certificate)));
        self.observe(Event::CertificateStored(statement));
        if let Statement::Fast(block) | Statement::Notarization(block) = statement {
            self.notarized(block);
        }
    }

    fn notarized(&mut self, block: BlockId) {
        if self.notarized.insert(block) {
            self.observe(Event::Notarized(block));
        }
        if self.notarized.len() > NOTARIZED_REMEMBERED {
            self.notarized.pop_first();
        }
    }

    fn finalized(&mut self, now: Time, block: BlockId, how: Finalization) {
        self.blokstor.finalized(block);
        if how != Finalization::Ancestor {
            self.archive.certified(block, self.consensus.finalized_by());
            self.standstill.progress(now);
            self.record_finalization();
        }
        if self.production.slot().is_some_and(|slot| slot <= self.consensus.highest_finalized().slot) {
            self.production.stop();
        }
        self.observe(Event::Decided { slot: block.slot, decision: Decision::Finalized { block, how } });
    }

    fn count_wrong(&mut self, verdict: &CheckVerdict) {
        match verdict {
            CheckVerdict::Votes { rejected, .. } => self.counters.add("vote_wrong_signature", rejected.len() as u64),
            CheckVerdict::CertificateRejected { .. } => self.counters.count("certificate_wrong_signature"),
            CheckVerdict::Certificate { .. } => {}
        }
    }

    fn report_barred(&mut self, barred: &[ValidatorIndex]) {
        for &validator in barred {
            self.counters.count("validator_barred");
            if let Some(until) = self.checking.barred_until(validator) {
                self.observe(Event::Barred { validator, until });
            }
        }
    }

    fn update_horizon(&mut self) {
        let shreds_through = self.consensus.horizon().shreds_through;
        self.blokstor.set_window(self.window, shreds_through);
        let horizon = ShredHorizon { closed_through: self.blokstor.closed_through(), shreds_through };
        if self.shred_horizon != Some(horizon) {
            self.shred_horizon = Some(horizon);
            self.outputs.push_back(Output::Horizon(horizon));
        }
    }

    fn keep_proof(&mut self, proof: Proof) {
        match self.proofs.admit(proof) {
            Ok(proof) => self.outputs.push_back(Output::Proof(Arc::new(proof))),
            Err(refusal) => self.counters.count(refusal.name()),
        }
    }

    fn observe(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}
