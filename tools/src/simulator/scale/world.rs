//! The validators, and what is on its way between them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::fmt::Display;
use std::sync::Arc;
use std::time::Instant;

use alpenglow_control::bls::SecretKey;
use alpenglow_control::certificate::{Certificate, Statement, UnverifiedCertificate};
use alpenglow_control::checker::{CheckVerdict, Checker};
use alpenglow_control::control::{Control, ControlConfig};
use alpenglow_control::input::{Input, JobId};
use alpenglow_control::message::Message;
use alpenglow_control::output::{Decision, Event, Output, ShredHorizon};
use alpenglow_control::production::{OutgoingSlice, SliceSent};
use alpenglow_control::repair::RepairMessage;
use alpenglow_control::stakes::Stakes;
use alpenglow_control::transactions::TransactionSource;
use alpenglow_control::vote::UnverifiedVote;
use alpenglow_control::voting_keys::VotingKeys;
use alpenglow_rotor::parameters::{Code, CodingParameters};
use alpenglow_rotor::sampling::RelaySampler;
use alpenglow_rotor::schedule::{EpochSeed, LeaderSchedule, ScheduleKind};
use alpenglow_rotor::shred;
use alpenglow_rotor::shredder::{Shredded, Shredder};
use alpenglow_rotor::signer::SliceSigner;
use alpenglow_rotor::slice::Slice;
use alpenglow_rotor::types::{ClusterId, Slot, Stake, Time, ValidatorIndex, WINDOW_SLOTS};
use alpenglow_rotor::validators::ValidatorSet;
use ed25519_dalek::SigningKey;

use super::latencies::{Latencies, Stage};
use super::network::{Dissemination, Network};
use super::oracle::Oracle;
use super::{Leader, Report, Signatures, Study};
use crate::simulator::{mainnet, rotor_study};

const START: Time = Time(7_000_000_000);
const CLUSTER: ClusterId = ClusterId([42; 32]);
/// Bytes of a datagram around a message: IP, UDP, and the header with the sender's MAC.
const OVERHEAD_BYTES: usize = 28 + 32;
const TRANSACTION_BYTES: usize = 1_000;
/// Statements whose holders are remembered: those of the slots in flight.
const STATEMENTS_REMEMBERED: usize = 256;
/// What a validator keeps of final blocks for others to repair: the memory of thousands is this machine's.
const RETAINED_BYTES: usize = 64 << 10;
const FINALIZED_IDS_MAX: usize = 2_048;
/// The run ends after so many times what its slots take, and this long after that.
const PATIENCE: u64 = 2;
const PATIENCE_NS: u64 = 10_000_000_000;

enum Happening {
    /// A vote reaches all validators of a place.
    Vote { vote: Box<UnverifiedVote>, metro: usize },
    /// A certificate reaches all validators of a place.
    Certificate { certificate: Arc<Certificate>, sender: ValidatorIndex, metro: usize },
    /// A validator has enough shreds of a slice.
    Slice { slice: Arc<Slice>, to: ValidatorIndex },
    /// Something for one validator.
    Input { input: Box<Input>, to: ValidatorIndex },
    /// A validator's time may be up.
    Timeout(ValidatorIndex),
}

/// Ordered by time, and by the order in which they were put on the way.
struct Due {
    time: Time,
    number: u64,
    what: Happening,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.time, self.number).cmp(&(other.time, other.number))
    }
}

struct Node {
    control: Control,
    horizon: ShredHorizon,
    /// Slots up to here are closed to votes and certificates.
    closed_through: Slot,
    /// When its next [`Happening::Timeout`] is due, if one is on its way.
    wakes: Option<Time>,
}

/// How much happened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Messages, slices and verdicts that reached a validator.
    pub(super) deliveries: u64,
    /// Those among them that its control core had to look at.
    pub(super) handled: u64,
    pub(super) repair_messages: u64,
}

pub(super) struct World<Trace> {
    study: Study,
    trace: Trace,
    now: Time,
    began: Instant,
    nodes: Vec<Node>,
    checker: Checker,
    schedule: Arc<LeaderSchedule>,
    sampler: RelaySampler,
    coding: CodingParameters,
    shredder: Shredder,
    signer: SliceSigner,
    network: Network,
    /// By statement, who holds a certificate of it or of more.
    holders: BTreeMap<Statement, Vec<bool>>,
    due: BinaryHeap<Reverse<Due>>,
    put: u64,
    oracle: Oracle,
    latencies: Latencies,
    counts: Counts,
}

fn entropy(validator: u16) -> [u8; 32] {
    let mut bytes = [8; 32];
    bytes[..2].copy_from_slice(&validator.to_le_bytes());
    bytes
}

impl Signatures {
    fn key(self, validator: u16) -> SecretKey {
        match self {
            Self::StandIn => SecretKey::stand_in(&entropy(validator)),
            Self::Curve => SecretKey::from_entropy(&entropy(validator)),
        }
    }

    fn set(self, validators: u16) -> VotingKeys {
        let keys = (0..validators).map(|validator| self.key(validator));
        match self {
            Self::StandIn => VotingKeys::stand_in(keys.map(|key| key.public_key()).collect()),
            Self::Curve => {
                let entries: Vec<_> = keys.map(|key| (key.public_key().to_bytes(), key.prove_possession())).collect();
                VotingKeys::new(&entries).expect("distinct keys with their proofs")
            }
        }
    }
}

/// Who leads when. A leader of one place is drawn as any, among stakes of which nearly all is there.
fn schedule(study: &Study, network: &Network, validators: &ValidatorSet, seed: EpochSeed) -> LeaderSchedule {
    const OTHERS: u64 = 1_000_000_000;
    match study.leader {
        Leader::Random => LeaderSchedule::new(ScheduleKind::StakeWeighted, seed, validators),
        Leader::Metro(metro) => {
            let members = network.members(metro);
            let largest = members.iter().map(|&member| validators.stake(ValidatorIndex(member as u16)).0).max();
            let unit = OTHERS * study.validators as u64 / largest.unwrap_or(1).max(1) + 1;
            let stake_of = |validator: usize| {
                let stake = validators.stake(ValidatorIndex(validator as u16)).0;
                Stake(if members.contains(&validator) { stake * unit } else { 1 })
            };
            let stakes: Vec<_> = (0..study.validators).map(stake_of).collect();
            LeaderSchedule::new(ScheduleKind::StakeWeighted, seed, &rotor_study::validator_set(&stakes))
        }
    }
}

impl<Trace: FnMut(&dyn Display)> World<Trace> {
    pub(super) fn new(study: &Study, trace: Trace) -> Self {
        let began = Instant::now();
        let stakes = mainnet::stakes(study.validators);
        let metros = match study.europe_percent {
            Some(percent) => mainnet::metros().with_europes_share(f64::from(percent) / 100.0),
            None => mainnet::metros(),
        };
        let network = Network::new(metros, &stakes, &study.leader, study.egress_mbit, study.seed);
        let validators = rotor_study::validator_set(&stakes);
        let mut seed = EpochSeed([0; 32]);
        seed.0[..8].copy_from_slice(&study.seed.to_le_bytes());
        let schedule = Arc::new(schedule(study, &network, &validators, seed));
        let coding = CodingParameters::fitting(Code::Rs8, 32, 64, 1_232).expect("the default code");
        let keys = Arc::new(study.signatures.set(study.validators as u16));
        let by_slot = Arc::new(Stakes::new(stakes.clone()));
        let node_of = |own: u16| {
            let key = study.signatures.key(own);
            let mut config = ControlConfig::new(
                ValidatorIndex(own),
                key,
                Arc::clone(&by_slot),
                Arc::clone(&schedule),
                CLUSTER,
                coding,
            );
            config.blokstor.retained_bytes = RETAINED_BYTES;
            config.transactions.finalized_ids_max = FINALIZED_IDS_MAX;
            config.repair.seed = entropy(own);
            let control = Control::new(config, START).expect("a valid configuration");
            let horizon = ShredHorizon { closed_through: Slot::GENESIS, shreds_through: Slot::GENESIS };
            Node { control, horizon, closed_through: Slot::GENESIS, wakes: None }
        };
        let mut world = Self {
            study: study.clone(),
            trace,
            now: START,
            began,
            nodes: (0..study.validators as u16).map(node_of).collect(),
            checker: Checker::new(CLUSTER, keys, by_slot),
            schedule,
            sampler: RelaySampler::new(&validators, seed, coding.total_shreds()),
            coding,
            shredder: Shredder::new(coding, CLUSTER),
            signer: SliceSigner::new(&SigningKey::from_bytes(&entropy(0))),
            network,
            holders: BTreeMap::new(),
            due: BinaryHeap::new(),
            put: 0,
            oracle: Oracle::new(stakes.clone()),
            latencies: Latencies::new(stakes, study.slots),
            counts: Counts::default(),
        };
        world.all().for_each(|node| world.carry_out(node));
        world
    }

    fn all(&self) -> impl Iterator<Item = ValidatorIndex> + use<Trace> {
        (0..self.nodes.len() as u16).map(ValidatorIndex)
    }

    pub(super) fn run(&mut self) {
        let slots_ns = self.study.slots * 400_000_000;
        let end = Time(START.0 + PATIENCE * slots_ns + PATIENCE_NS);
        while !self.latencies.all_decided()
            && self.oracle.violation.is_none()
            && let Some(Reverse(Due { time, what, .. })) = self.due.pop()
            && time <= end
        {
            self.now = time;
            self.happen(what);
        }
    }

    pub(super) fn report(self) -> Report {
        let Self { study, network, schedule, oracle, latencies, counts, .. } = self;
        let leaders = (0..=study.slots / WINDOW_SLOTS).map(|window| schedule.leader(Slot(window * WINDOW_SLOTS)));
        let leaders = leaders.map(|leader| network.metro_name(leader).to_owned()).collect();
        let simulated_ns = self.now.0 - START.0;
        Report::new(&study, &latencies, leaders, counts, simulated_ns, self.began.elapsed(), oracle.violation)
    }

    fn put(&mut self, time: Time, what: Happening) {
        self.put += 1;
        self.due.push(Reverse(Due { time, number: self.put, what }));
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Vote { vote, metro } => self.vote_arrives(&vote, metro),
            Happening::Certificate { certificate, sender, metro } => {
                self.certificate_arrives(&certificate, sender, metro);
            }
            Happening::Slice { slice, to } => {
                self.counts.deliveries += 1;
                let horizon = self.nodes[to.get()].horizon;
                if slice.id.slot > horizon.closed_through && slice.id.slot <= horizon.shreds_through {
                    self.handle(to, Input::Slice(Slice::clone(&slice)));
                }
            }
            Happening::Input { input, to } => {
                self.counts.deliveries += 1;
                self.handle(to, *input);
            }
            Happening::Timeout(to) => {
                let node = &mut self.nodes[to.get()];
                if node.wakes == Some(self.now) {
                    node.wakes = None;
                    if node.control.next_timeout().is_some_and(|due| due <= self.now) {
                        self.handle(to, Input::Tick);
                    } else {
                        self.wake_later(to);
                    }
                }
            }
        }
    }

    fn vote_arrives(&mut self, vote: &UnverifiedVote, metro: usize) {
        let slot = vote.payload.slot();
        for place in 0..self.network.members(metro).len() {
            let to = self.network.members(metro)[place];
            if to == vote.signer.get() {
                continue;
            }
            self.counts.deliveries += 1;
            if slot > self.nodes[to].closed_through {
                self.handle(ValidatorIndex(to as u16), Input::Vote(*vote));
            }
        }
    }

    fn certificate_arrives(&mut self, certificate: &Arc<Certificate>, sender: ValidatorIndex, metro: usize) {
        let statement = certificate.statement;
        for place in 0..self.network.members(metro).len() {
            let to = self.network.members(metro)[place];
            if to == sender.get() {
                continue;
            }
            self.counts.deliveries += 1;
            let is_held = self.holders.get(&statement).is_some_and(|holders| holders[to]);
            if statement.slot() > self.nodes[to].closed_through && !is_held {
                let certificate = UnverifiedCertificate(Certificate::clone(certificate));
                self.handle(ValidatorIndex(to as u16), Input::Certificate { certificate, sender });
            }
        }
    }

    fn handle(&mut self, to: ValidatorIndex, input: Input) {
        self.counts.handled += 1;
        self.nodes[to.get()].control.handle(self.now, input);
        self.carry_out(to);
    }

    /// Does what a validator wants done, with checks that take no time right away.
    fn carry_out(&mut self, own: ValidatorIndex) {
        let mut verdicts: VecDeque<(JobId, CheckVerdict)> = VecDeque::new();
        loop {
            while let Some(output) = self.nodes[own.get()].control.poll_output() {
                match output {
                    Output::Check { id, job } => {
                        let verdict = self.checker.check(job);
                        if self.study.check.is_zero() {
                            verdicts.push_back((id, verdict));
                        } else {
                            let input = Box::new(Input::Checked { id, verdict });
                            self.put(self.now.after(self.study.check), Happening::Input { input, to: own });
                        }
                    }
                    Output::Broadcast(message) => self.broadcast(own, message),
                    Output::SendSlice(slice) => self.send_slice(own, &slice),
                    Output::Repair { to, message } => self.send_repair(own, to, message),
                    Output::Horizon(horizon) => self.nodes[own.get()].horizon = horizon,
                    Output::Event(event) => self.event(own, &event),
                    Output::Finalized(block) => self.oracle.handed_over(own, block.id, block.parent),
                    Output::FinalizedGap { through, .. } => self.oracle.gave_up(own, through),
                    _ => {}
                }
            }
            let Some((id, verdict)) = verdicts.pop_front() else { break };
            self.counts.deliveries += 1;
            self.counts.handled += 1;
            self.nodes[own.get()].control.handle(self.now, Input::Checked { id, verdict });
        }
        let node = &mut self.nodes[own.get()];
        node.closed_through = node.control.highest_finalized().slot;
        self.wake_later(own);
    }

    fn wake_later(&mut self, own: ValidatorIndex) {
        let node = &mut self.nodes[own.get()];
        if let Some(due) = node.control.next_timeout()
            && node.wakes.is_none_or(|wakes| due < wakes)
        {
            node.wakes = Some(due);
            self.put(due, Happening::Timeout(own));
        }
    }

    fn broadcast(&mut self, own: ValidatorIndex, message: Message) {
        let bytes = message.encode().len() + OVERHEAD_BYTES;
        let arrivals = self.network.broadcast(self.now, own, bytes);
        match message {
            Message::Vote(vote) => {
                let vote = UnverifiedVote { payload: vote.payload, signer: own, signature: vote.signature };
                for (time, metro) in arrivals {
                    self.put(time, Happening::Vote { vote: Box::new(vote), metro });
                }
            }
            Message::Certificate(certificate) => {
                self.oracle.certificate(&certificate);
                self.remember_holder(own, certificate.statement);
                for (time, metro) in arrivals {
                    let certificate = Arc::clone(&certificate);
                    self.put(time, Happening::Certificate { certificate, sender: own, metro });
                }
            }
        }
    }

    fn remember_holder(&mut self, own: ValidatorIndex, statement: Statement) {
        let validators = self.nodes.len();
        self.holders.entry(statement).or_insert_with(|| vec![false; validators])[own.get()] = true;
        if self.holders.len() > STATEMENTS_REMEMBERED {
            let oldest = self.holders.keys().map(|statement| statement.slot()).min();
            self.holders.retain(|statement, _| Some(statement.slot()) != oldest);
        }
    }

    fn send_slice(&mut self, own: ValidatorIndex, outgoing: &OutgoingSlice) {
        let OutgoingSlice { id, is_last, payload } = outgoing;
        let shred_bytes = shred::wire_bytes(&self.coding, self.shredder.shred_len(payload.len()));
        let offsets: Vec<_> = (0..self.coding.total_shreds()).map(|index| index * shred_bytes).collect();
        let mut shreds = vec![0; shred_bytes * offsets.len()];
        let stamp_ns = self.now.0;
        let Shredded { root, signature } =
            self.shredder.shred(*id, *is_last, stamp_ns, payload, &self.signer, &mut shreds, &offsets);
        let payload = payload.clone();
        let slice = Slice { id: *id, is_last: *is_last, root, signature, leader_stamp_ns: stamp_ns, payload };
        let mut relays = vec![ValidatorIndex::default(); self.coding.total_shreds()];
        self.sampler.sample(*id, &mut relays);
        let dissemination = Dissemination {
            leader: own,
            next_leader: self.schedule.leader(id.slot.window_last().next()),
            relays: &relays,
            data_shreds: self.coding.data_shreds(),
            datagram_bytes: shred_bytes + OVERHEAD_BYTES,
        };
        let arrivals = self.network.disseminate(self.now, &dissemination);
        let slice = Arc::new(slice);
        for (to, time) in self.all().zip(arrivals).filter(|(to, _)| *to != own) {
            self.put(time, Happening::Slice { slice: Arc::clone(&slice), to });
        }
        if *is_last {
            self.latencies.sent(self.now, id.slot);
            for to in self.all() {
                let time = Time(self.now.0 + self.network.delay_ns(own, to));
                self.latencies.reached(time, id.slot, to, Stage::Network);
            }
        }
        let sent = SliceSent { id: *id, root, signature, leader_stamp_ns: stamp_ns };
        self.put(self.now, Happening::Input { input: Box::new(Input::SliceSent(sent)), to: own });
    }

    fn send_repair(&mut self, own: ValidatorIndex, to: ValidatorIndex, message: RepairMessage) {
        self.counts.repair_messages += 1;
        let time = self.network.send(self.now, own, to, message.encode().len() + OVERHEAD_BYTES);
        let input = Box::new(Input::Repair { message, sender: own });
        self.put(time, Happening::Input { input, to });
    }

    fn event(&mut self, own: ValidatorIndex, event: &Event) {
        let now = self.now;
        match event {
            Event::VoteCast(payload) => self.oracle.cast(own, *payload),
            Event::BlockComplete { block, .. } => self.latencies.reached(now, block.id.slot, own, Stage::Rotor),
            Event::Notarized(block) => self.latencies.reached(now, block.slot, own, Stage::Notarized),
            Event::Decided { slot, decision } => {
                self.oracle.decided(own, *slot, *decision);
                let how = match decision {
                    Decision::Finalized { how, .. } => Some(*how),
                    Decision::Skipped => None,
                };
                if how.is_some() {
                    self.latencies.reached(now, *slot, own, Stage::Finalized);
                }
                self.latencies.decided(*slot, how);
            }
            Event::ProductionBegan(slot) => self.offer_transactions(own, *slot),
            Event::CertificateStored(_) => {}
            _ => return,
        }
        let time_ms = (now.0 - START.0) as f64 / 1e6;
        match event {
            Event::VoteCast(payload) => (self.trace)(&format_args!("{time_ms} {} votes {payload:?}", own.0)),
            Event::CertificateStored(statement) => {
                (self.trace)(&format_args!("{time_ms} {} holds {statement:?}", own.0))
            }
            Event::Decided { slot, decision } => (self.trace)(&format_args!("{time_ms} {} {slot} {decision:?}", own.0)),
            _ => {}
        }
    }

    /// Gives a leader the transactions of a block, evenly over its time.
    fn offer_transactions(&mut self, leader: ValidatorIndex, slot: Slot) {
        let count = self.study.block_bytes / TRANSACTION_BYTES;
        for number in 0..count {
            let mut bytes = vec![0; TRANSACTION_BYTES];
            bytes[..8].copy_from_slice(&slot.0.to_le_bytes());
            bytes[8..16].copy_from_slice(&(number as u64).to_le_bytes());
            let source = TransactionSource::Validator(leader);
            let input = Box::new(Input::Transaction { bytes: bytes.into(), source });
            let time = Time(self.now.0 + 400_000_000 * number as u64 / count as u64);
            self.put(time, Happening::Input { input, to: leader });
        }
    }
}
