//! Nodes' control cores in virtual time: time goes from one happening to the next, and every delay comes from a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use alpenglow_control::block_log::{BlockLogAnswer, BlockLogOrder};
use alpenglow_control::bls::{SecretKey, SignatureBytes};
use alpenglow_control::checker::{CheckJob, CheckVerdict, Checker};
use alpenglow_control::control::{Control, ControlConfig};
use alpenglow_control::evidence::{Authority, Proof};
use alpenglow_control::input::Input;
use alpenglow_control::message::{Message, decode_certificate, decode_vote};
use alpenglow_control::output::Output;
use alpenglow_control::production::{OutgoingSlice, SliceSent};
use alpenglow_control::repair::{RepairAnswer, RepairMessage, decode_answer, decode_request};
use alpenglow_control::stakes::Stakes;
use alpenglow_control::transactions::TransactionSource;
use alpenglow_control::vote::{Vote, VotePayload};
use alpenglow_control::vote_record::Restoration;
use alpenglow_control::voting_keys::VotingKeys;
use alpenglow_rotor::assembler::MalformedSlice;
use alpenglow_rotor::parameters::CodingParameters;
use alpenglow_rotor::recoder::Recoder;
use alpenglow_rotor::schedule::{EpochSeed, LeaderSchedule, ScheduleKind};
use alpenglow_rotor::signature::SignedRoot;
use alpenglow_rotor::signer::SliceSigner;
use alpenglow_rotor::slice::{Slice, SliceId};
use alpenglow_rotor::types::{BlockId, ClusterId, Hash, Slot, Stake, Time, ValidatorIndex};
use alpenglow_rotor::validators::ValidatorSet;
use ed25519_dalek::SigningKey;

use crate::block_log::BlockLog;
use crate::oracle::Oracle;
use crate::restarts::{Disk, Left, Records};

pub(crate) const MS: u64 = 1_000_000;
/// When the cluster starts. Not zero, so that nobody takes the clock's origin for it.
pub(crate) const START: Time = Time(7_000_000_000);
pub(crate) const CLUSTER: ClusterId = ClusterId([42; 32]);
/// From the order to send a slice to the report that it was sent.
const SENDING: Duration = Duration::from_micros(100);
/// From an order to the block log to its answer.
const LOG_DELAY: Duration = Duration::from_millis(1);
/// From a job to its verdict.
const CHECKING: Duration = Duration::from_millis(1);

/// SplitMix64: small, seeded, and good enough to shuffle delays.
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// How long messages take and which are lost.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) delay: Duration,
    /// Up to this much is added to each delay.
    pub(crate) jitter: Duration,
    pub(crate) messages_lost_percent: u64,
    /// Up to this much is added to the time of each check, so that checks end in any order.
    pub(crate) checking_jitter: Duration,
    pub(crate) slices_lost_percent: u64,
    /// Nodes hear only nodes of their own group.
    pub(crate) group_of: BTreeMap<usize, usize>,
}

impl Default for Network {
    /// Every message takes 2 ms and none is lost: fast and slow are exact.
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(2),
            jitter: Duration::ZERO,
            messages_lost_percent: 0,
            checking_jitter: Duration::ZERO,
            slices_lost_percent: 0,
            group_of: BTreeMap::new(),
        }
    }
}

impl Network {
    fn delay(&self, random: &mut Random, from: usize, to: usize, lost_percent: u64) -> Option<Duration> {
        let delay = self.delay + Duration::from_nanos(random.below(self.jitter.as_nanos() as u64 + 1));
        let lost = random.percent(lost_percent) || self.group_of.get(&from) != self.group_of.get(&to);
        (!lost).then_some(delay)
    }
}

/// What a node really answers in repair; nothing, if it gives `None`.
pub(crate) type RepairLie = fn(RepairAnswer) -> Option<RepairAnswer>;

/// What a leader really sends to a node instead of a slice.
pub(crate) type Tamper = fn(to: usize, OutgoingSlice) -> Vec<OutgoingSlice>;

/// What is found in the shreds of a leader's slice, if that is none.
pub(crate) type Malform = fn(&OutgoingSlice) -> Option<MalformedSlice>;

/// What a cluster is like at its start.
pub(crate) struct Setup {
    pub(crate) nodes: usize,
    pub(crate) seed: u64,
    pub(crate) network: Network,
    /// Check real signatures; otherwise they are taken for good.
    pub(crate) real_checks: bool,
    /// Whether checks never end.
    pub(crate) checks_hang: bool,
    /// Changes to each node's configuration.
    pub(crate) configure: fn(&mut ControlConfig),
    pub(crate) records: Records,
    /// Whether nodes keep a block log.
    pub(crate) block_logs: bool,
    /// From the order to reserve slots to the report that it is done, at most.
    pub(crate) disk_delay: Duration,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            nodes: 5,
            seed: 1,
            network: Network::default(),
            real_checks: true,
            checks_hang: false,
            configure: |_| {},
            records: Records::None,
            block_logs: false,
            disk_delay: Duration::from_millis(40),
        }
    }
}

struct Node {
    control: Control,
    checker: Checker,
}

impl Node {
    fn new(
        setup: &Setup,
        keys: &Arc<VotingKeys>,
        node: usize,
        now: Time,
        restoration: Option<&Restoration>,
        blocks: &BlockLog,
    ) -> Self {
        let mut config = config(setup.nodes, node);
        config.keeps_blocks = setup.block_logs;
        config.tip = blocks.tip();
        (setup.configure)(&mut config);
        let checker = Checker::new(CLUSTER, keys.clone(), config.stakes.clone());
        let control = match restoration {
            Some(restoration) => Control::restore(config, now, restoration),
            None => Control::new(config, now),
        };
        Self { control: control.expect("a valid configuration"), checker }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Vote,
    Certificate,
    RepairRequest,
    RepairAnswer,
}

enum Happening {
    Input(Box<Input>),
    Message { from: usize, kind: Kind, body: Arc<[u8]> },
    Reserved(Slot),
}

fn secret(node: usize) -> SecretKey {
    SecretKey::from_entropy(&[node as u8 + 1; 32])
}

pub(crate) fn identity(node: usize) -> SigningKey {
    SigningKey::from_bytes(&[node as u8 + 1; 32])
}

fn validators(nodes: usize) -> ValidatorSet {
    let validators = (0..nodes).map(|node| (identity(node).verifying_key().to_bytes(), Stake(1_000))).collect();
    ValidatorSet::new(validators).expect("valid identities and stakes")
}

/// The configuration of one of `nodes`.
pub(crate) fn config(nodes: usize, own: usize) -> ControlConfig {
    let validators = validators(nodes);
    let schedule = Arc::new(LeaderSchedule::new(ScheduleKind::RoundRobin, EpochSeed([1; 32]), &validators));
    let stakes = Arc::new(Stakes::new(vec![Stake(1_000); nodes]));
    let (own, secret_key) = (ValidatorIndex(own as u16), secret(own));
    ControlConfig::new(own, secret_key, stakes, schedule, CLUSTER, CodingParameters::default())
}

/// See the module's documentation.
pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) network: Network,
    pub(crate) oracle: Oracle,
    pub(crate) tampers: BTreeMap<usize, Tamper>,
    pub(crate) schedule: Arc<LeaderSchedule>,
    /// Nodes whose votes carry the signature of another vote of theirs.
    pub(crate) forgers: BTreeMap<usize, Option<SignatureBytes>>,
    /// When each own slice left: slot, slice, last, time.
    pub(crate) slices_sent: Vec<(SliceId, bool, Time)>,
    /// Nodes that no slice reaches.
    pub(crate) deaf: BTreeSet<usize>,
    /// Nodes that lie in repair.
    pub(crate) repair_lies: BTreeMap<usize, RepairLie>,
    /// Extra delay of everything a slot's leader sends of its blocks.
    pub(crate) late_slots: BTreeMap<Slot, Duration>,
    /// Leaders of whose slices some turn out to be none.
    pub(crate) malformers: BTreeMap<usize, Malform>,
    /// Nodes that send a vote that excludes theirs beside each first and each final one.
    pub(crate) double_voters: BTreeSet<usize>,
    /// What each node was told to keep.
    pub(crate) proofs: Vec<(usize, Arc<Proof>)>,
    signers: Vec<SliceSigner>,
    voting_keys: Arc<VotingKeys>,
    /// What left nodes that may start again.
    pub(crate) left: Left,
    disks: Vec<Disk>,
    /// Nodes that crash when they have carried out so many outputs more.
    crashing: BTreeMap<usize, usize>,
    setup: Setup,
    random: Random,
    real_checks: bool,
    configure: fn(&mut ControlConfig),
    recoder: Recoder,
    nodes: Vec<Option<Node>>,
    queue: BTreeMap<(Time, u64), (usize, Happening)>,
    queued: u64,
}

impl World {
    /// A cluster of equal stakes whose leaders take turns, unless it is configured otherwise: node `w % nodes` leads
    /// window `w`.
    pub(crate) fn new(setup: Setup) -> Self {
        let keys: Vec<_> = (0..setup.nodes)
            .map(|node| (secret(node).public_key().to_bytes(), secret(node).prove_possession()))
            .collect();
        let keys = Arc::new(VotingKeys::new(&keys).expect("valid keys and proofs"));
        let mut first = config(setup.nodes, 0);
        (setup.configure)(&mut first);
        let schedule = first.schedule;
        let mut disks = vec![Disk::new(); setup.nodes];
        let nodes = (0..setup.nodes).map(|node| {
            let restoration = (setup.records != Records::None).then(|| disks[node].start(setup.records));
            Some(Node::new(&setup, &keys, node, START, restoration.as_ref(), &disks[node].blocks))
        });
        let nodes = nodes.collect();
        let mut world = Self {
            now: START,
            network: setup.network.clone(),
            oracle: Oracle::new(setup.nodes, setup.seed),
            tampers: BTreeMap::new(),
            forgers: BTreeMap::new(),
            schedule,
            slices_sent: Vec::new(),
            deaf: BTreeSet::new(),
            repair_lies: BTreeMap::new(),
            late_slots: BTreeMap::new(),
            malformers: BTreeMap::new(),
            double_voters: BTreeSet::new(),
            proofs: Vec::new(),
            signers: (0..setup.nodes).map(|node| SliceSigner::new(&identity(node))).collect(),
            voting_keys: keys,
            left: Left::default(),
            disks,
            crashing: BTreeMap::new(),
            random: Random(setup.seed),
            real_checks: setup.real_checks,
            configure: setup.configure,
            setup: Setup { network: setup.network.clone(), ..setup },
            recoder: recoder(),
            nodes,
            queue: BTreeMap::new(),
            queued: 0,
        };
        (0..world.nodes.len()).for_each(|node| world.carry_out(node));
        world
    }

    /// Seconds, milliseconds since the start.
    pub(crate) fn at_ms(ms: u64) -> Time {
        Time(START.0 + ms * MS)
    }

    pub(crate) fn alive(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|&node| self.nodes[node].is_some()).collect()
    }

    pub(crate) fn control(&self, node: usize) -> &Control {
        &self.nodes[node].as_ref().expect("the node is alive").control
    }

    /// The node is gone for good, and what is on its way to it with it.
    pub(crate) fn kill(&mut self, node: usize) {
        self.nodes[node] = None;
    }

    /// A node that was killed before it said anything starts now, for the first time as far as anybody can tell.
    pub(crate) fn join(&mut self, node: usize) {
        assert!(self.nodes[node].is_none() && self.oracle.events.iter().all(|(seen_by, ..)| *seen_by != node));
        let mut config = config(self.nodes.len(), node);
        (self.configure)(&mut config);
        let checker = Checker::new(CLUSTER, self.voting_keys.clone(), config.stakes.clone());
        let control = Control::new(config, self.now).expect("a valid configuration");
        self.nodes[node] = Some(Node { control, checker });
        self.carry_out(node);
    }

    /// The node crashes between two outputs, when it has carried out so many more.
    pub(crate) fn crash_after(&mut self, node: usize, outputs: usize) {
        self.crashing.insert(node, outputs);
    }

    /// The nodes that do not run.
    pub(crate) fn crashed(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|&node| self.nodes[node].is_none()).collect()
    }

    pub(crate) fn disk(&mut self, node: usize) -> &mut Disk {
        &mut self.disks[node]
    }

    /// Starts a node again that crashed; what it may do.
    pub(crate) fn restart(&mut self, node: usize) -> Restoration {
        let restoration = self.disks[node].start(self.setup.records);
        let blocks = &self.disks[node].blocks;
        self.oracle.forget(node, blocks.tip().map(|tip| tip.block.id));
        self.nodes[node] = Some(Node::new(&self.setup, &self.voting_keys, node, self.now, Some(&restoration), blocks));
        self.carry_out(node);
        restoration
    }

    /// No node crashes any more.
    pub(crate) fn spare(&mut self) {
        self.crashing.clear();
    }

    /// The node crashes; what is under way to its disk is done or not.
    pub(crate) fn crash(&mut self, node: usize) {
        self.crashing.remove(&node);
        self.nodes[node] = None;
        for (_, (_, happening)) in self.queue.extract_if(.., |_, (to, _)| *to == node) {
            if let Happening::Reserved(slot) = happening
                && self.random.percent(50)
            {
                self.disks[node].durable = self.disks[node].durable.renewed(slot);
            }
        }
    }

    /// Whether the node crashes now.
    fn crashes(&mut self, node: usize) -> bool {
        match self.crashing.get_mut(&node) {
            Some(0) => {
                self.crash(node);
                true
            }
            Some(outputs) => {
                *outputs -= 1;
                false
            }
            None => false,
        }
    }

    pub(crate) fn submit(&mut self, node: usize, bytes: Vec<u8>) {
        let input = Input::Transaction { bytes: bytes.into(), source: TransactionSource::Client };
        self.handle(node, input);
    }

    /// Lets time pass until `end`.
    pub(crate) fn run_until(&mut self, end: Time) {
        while let Some(time) = self.next_time().filter(|&time| time <= end) {
            self.now = self.now.max(time);
            self.deliver_due();
            self.tick_due();
        }
        self.now = end;
    }

    /// Lets time pass until every node that is alive has decided `slot`, or until `end`.
    pub(crate) fn run_until_decided(&mut self, slot: u64, end: Time) -> bool {
        while self.now < end && !self.alive().iter().all(|&node| self.oracle.has_decided(node, Slot(slot))) {
            self.run_until(Time(self.now.0 + 5 * MS));
        }
        self.alive().iter().all(|&node| self.oracle.has_decided(node, Slot(slot)))
    }

    fn next_time(&self) -> Option<Time> {
        let queued = self.queue.first_key_value().map(|((time, _), _)| *time);
        let timeouts = self.nodes.iter().flatten().filter_map(|node| node.control.next_timeout());
        queued.into_iter().chain(timeouts).min()
    }

    fn deliver_due(&mut self) {
        while let Some(entry) = self.queue.first_entry()
            && entry.key().0 <= self.now
        {
            let (node, happening) = entry.remove();
            if self.nodes[node].is_none() {
                continue;
            }
            match happening {
                Happening::Input(input) => self.handle(node, *input),
                Happening::Message { from, kind, body } => {
                    let input = self.decode(from, kind, &body);
                    self.handle(node, input);
                }
                Happening::Reserved(slot) => {
                    self.disks[node].durable = self.disks[node].durable.renewed(slot);
                    self.handle(node, Input::ReservationDurable(slot));
                }
            }
        }
    }

    fn tick_due(&mut self) {
        for node in self.alive() {
            let mut ticks = 0;
            while self.nodes[node].is_some() && self.control(node).next_timeout().is_some_and(|due| due <= self.now) {
                self.handle(node, Input::Tick);
                ticks += 1;
                assert!(ticks < 1_000, "node {node} wants to be woken for ever, {}", self.oracle.replay());
            }
        }
    }

    fn handle(&mut self, node: usize, input: Input) {
        let now = self.now;
        self.nodes[node].as_mut().expect("the node is alive").control.handle(now, input);
        self.carry_out(node);
    }

    fn carry_out(&mut self, node: usize) {
        while let Some(output) = self.nodes[node].as_mut().and_then(|node| node.control.poll_output()) {
            if self.crashes(node) {
                return;
            }
            self.oracle.see(node, self.now, &output);
            match output {
                Output::Broadcast(message) => self.broadcast(node, &message),
                Output::SendTransaction { to, bytes } => self.forward(node, to.get(), bytes),
                Output::SendSlice(slice) => self.send_slice(node, slice),
                Output::Check { .. } if self.setup.checks_hang => {}
                Output::Check { id, job } => {
                    let verdict = self.check(node, job);
                    let delay = CHECKING + self.checking_jitter();
                    self.queue_in(delay, node, Happening::Input(Box::new(Input::Checked { id, verdict })));
                }
                Output::Repair { to, message } => self.send_repair(node, to.get(), message),
                Output::Proof(proof) => self.proofs.push((node, proof)),
                Output::Record(entry) => self.disks[node].log.push(entry),
                Output::Reserve(slot) => {
                    let most = self.setup.disk_delay;
                    let delay = most - Duration::from_nanos(self.random.below(1 + most.as_nanos() as u64 / 40));
                    self.queue_in(delay, node, Happening::Reserved(slot));
                }
                Output::BlockLog(order) => self.order_log(node, order),
                Output::Horizon(_) | Output::Finalized(_) | Output::FinalizedGap { .. } | Output::Event(_) => {}
            }
        }
    }

    fn order_log(&mut self, node: usize, order: BlockLogOrder) {
        if let Some(answer) = self.disks[node].blocks.carry_out(order) {
            self.queue_in(LOG_DELAY, node, Happening::Input(Box::new(Input::BlockLog(answer))));
        }
    }

    /// Tells a node that its block log lacks a block.
    pub(crate) fn tell_lost(&mut self, node: usize, block: BlockId) {
        let answer = BlockLogAnswer::Lost(block);
        self.queue_in(LOG_DELAY, node, Happening::Input(Box::new(Input::BlockLog(answer))));
    }

    fn checking_jitter(&mut self) -> Duration {
        match self.network.checking_jitter.as_nanos() as u64 {
            0 => Duration::ZERO,
            most_ns => Duration::from_nanos(self.random.below(most_ns)),
        }
    }

    fn queue_in(&mut self, delay: Duration, node: usize, happening: Happening) {
        self.queued += 1;
        self.queue.insert((self.now.after(delay), self.queued), (node, happening));
    }

    fn others(&self, node: usize) -> Vec<usize> {
        self.alive().into_iter().filter(|&other| other != node).collect()
    }

    fn broadcast(&mut self, from: usize, message: &Message) {
        if self.setup.records != Records::None {
            self.left.broadcast(from, message);
        }
        let body: Arc<[u8]> = message.encode().into();
        let kind = if matches!(message, Message::Vote(_)) { Kind::Vote } else { Kind::Certificate };
        let other = if self.double_voters.contains(&from) { excluded_by(from, message) } else { None };
        for to in self.others(from) {
            for body in [Some(&body), other.as_ref()].into_iter().flatten() {
                if let Some(delay) = self.message_delay(from, to) {
                    self.queue_in(delay, to, Happening::Message { from, kind, body: body.clone() });
                }
            }
        }
    }

    fn send_repair(&mut self, from: usize, to: usize, message: RepairMessage) {
        assert_ne!(from, to, "a node does not ask itself");
        let (kind, message) = match message {
            RepairMessage::Request(_) => (Kind::RepairRequest, Some(message)),
            RepairMessage::Answer(answer) => {
                let answer =
                    self.repair_lies.get(&from).map_or_else(|| Some(answer.clone()), |lie| lie(answer.clone()));
                (Kind::RepairAnswer, answer.map(RepairMessage::Answer))
            }
        };
        if let (Some(message), Some(delay)) = (message, self.message_delay(from, to)) {
            self.queue_in(delay, to, Happening::Message { from, kind, body: message.encode().into() });
        }
    }

    fn forward(&mut self, from: usize, to: usize, bytes: Arc<[u8]>) {
        assert_ne!(from, to, "a node does not forward to itself");
        let source = TransactionSource::Validator(ValidatorIndex(from as u16));
        if let Some(delay) = self.message_delay(from, to) {
            self.queue_in(delay, to, Happening::Input(Box::new(Input::Transaction { bytes, source })));
        }
    }

    fn message_delay(&mut self, from: usize, to: usize) -> Option<Duration> {
        self.network.delay(&mut self.random, from, to, self.network.messages_lost_percent)
    }

    fn send_slice(&mut self, from: usize, slice: OutgoingSlice) {
        assert_eq!(self.schedule.leader(slice.id.slot).get(), from, "only a slot's leader makes its block");
        if self.setup.records != Records::None {
            self.left.slice(&slice);
        }
        self.slices_sent.push((slice.id, slice.is_last, self.now));
        let late = self.late_slots.get(&slice.id.slot).copied().unwrap_or_default();
        let audience = Arc::clone(self.schedule.epochs());
        let audience = audience.audience(slice.id.slot);
        for to in self.others(from).into_iter().filter(|to| audience.iter().any(|v| v.get() == *to)) {
            let tamper = self.tampers.get(&from);
            let sent = tamper.map_or_else(|| vec![slice.clone()], |tamper| tamper(to, slice.clone()));
            for slice in sent {
                let lost_percent = self.network.slices_lost_percent;
                let delay = self.network.delay(&mut self.random, from, to, lost_percent);
                if let Some(delay) = delay.filter(|_| !self.deaf.contains(&to)) {
                    let input = match self.malformers.get(&from).and_then(|malform| malform(&slice)) {
                        Some(malformed) => Input::MalformedSlice(malformed),
                        None => Input::Slice(self.decoded(&slice)),
                    };
                    self.queue_in(SENDING + delay + late, to, Happening::Input(Box::new(input)));
                }
            }
        }
        let Slice { id, root, signature, leader_stamp_ns, .. } = self.decoded(&slice);
        let sent = SliceSent { id, root, signature, leader_stamp_ns };
        self.queue_in(SENDING, from, Happening::Input(Box::new(Input::SliceSent(sent))));
    }

    fn decode(&mut self, from: usize, kind: Kind, body: &[u8]) -> Input {
        let sender = ValidatorIndex(from as u16);
        match kind {
            Kind::Vote => {
                let mut vote = decode_vote(body, sender).expect("what a node encodes, another can decode");
                if let Some(signature) = self.forgers.get_mut(&from) {
                    vote.signature = *signature.get_or_insert(vote.signature);
                }
                Input::Vote(vote)
            }
            Kind::Certificate => {
                let certificate = decode_certificate(body, self.nodes.len());
                Input::Certificate {
                    certificate: certificate.expect("what a node encodes, another can decode"),
                    sender,
                }
            }
            Kind::RepairRequest => {
                let request = decode_request(body).expect("what a node encodes, another can decode");
                Input::Repair { message: RepairMessage::Request(request), sender }
            }
            Kind::RepairAnswer => {
                let answer = decode_answer(body).expect("what a node encodes, another can decode");
                Input::Repair { message: RepairMessage::Answer(answer), sender }
            }
        }
    }

    fn check(&mut self, node: usize, job: CheckJob) -> CheckVerdict {
        if self.real_checks {
            let checker = &mut self.nodes[node].as_mut().expect("the node is alive").checker;
            let verdict = checker.check(job);
            if let CheckVerdict::CertificateRejected { reason, sender } = &verdict {
                panic!("a certificate from node {} is refused: {reason}, {}", sender.0, self.oracle.replay());
            }
            return verdict;
        }
        job.assume_checked()
    }

    /// The slice as another node decodes it.
    fn decoded(&mut self, slice: &OutgoingSlice) -> Slice {
        let OutgoingSlice { id, is_last, payload } = slice.clone();
        let root = self.recoder.root(0, &payload);
        let signer = &self.signers[self.schedule.leader(id.slot).get()];
        let signature = SignedRoot::sign(signer, CLUSTER, id, is_last, root).signature;
        Slice { id, is_last, root, signature, leader_stamp_ns: 0, payload }
    }

    /// What proofs are checked against.
    pub(crate) fn authority(&self) -> Authority {
        Authority {
            cluster: CLUSTER,
            validators: Arc::new(validators(self.nodes.len())),
            voting_keys: Arc::clone(&self.voting_keys),
            schedule: Arc::clone(&self.schedule),
            coding: CodingParameters::default(),
        }
    }

    /// Transactions handed over by `node`, in order.
    pub(crate) fn finalized_transactions(&self, node: usize) -> Vec<Vec<u8>> {
        self.oracle.chain(node).iter().flat_map(|block| block.transactions().map(<[u8]>::to_vec)).collect()
    }
}

/// A vote that excludes the one in `message`, by the same node.
fn excluded_by(node: usize, message: &Message) -> Option<Arc<[u8]>> {
    let Message::Vote(vote) = message else { return None };
    let payload = match vote.payload {
        VotePayload::Notar(block) => VotePayload::Skip(block.slot),
        VotePayload::Skip(slot) => VotePayload::Notar(BlockId { slot, hash: Hash([node as u8; 32]) }),
        VotePayload::Final(slot) => VotePayload::SkipFallback(slot),
        VotePayload::NotarFallback(_) | VotePayload::SkipFallback(_) => return None,
    };
    let signature = secret(node).sign(&payload.hashed(CLUSTER)).to_bytes();
    Some(Message::Vote(Vote { payload, signature, ..*vote }).encode().into())
}

pub(crate) fn recoder() -> Recoder {
    Recoder::new(CodingParameters::default(), CLUSTER)
}
