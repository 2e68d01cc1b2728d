//! One run: nodes, the network between them, and what goes wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use alpenglow_control::block::{SliceBuilder, SliceContent};
use alpenglow_control::bls::SecretKey;
use alpenglow_control::checker::{CheckJob, CheckVerdict, Checker};
use alpenglow_control::control::{Control, ControlConfig};
use alpenglow_control::input::Input;
use alpenglow_control::message::{Message, decode_certificate, decode_vote};
use alpenglow_control::output::{Output, ShredHorizon};
use alpenglow_control::production::{OutgoingSlice, SliceSent};
use alpenglow_control::repair::{RepairMessage, decode_answer, decode_request};
use alpenglow_control::stakes::Stakes;
use alpenglow_control::vote::{Vote, VotePayload};
use alpenglow_control::voting_keys::VotingKeys;
use alpenglow_rotor::assembler::{Assembler, Decoded, Inserted, Reject};
use alpenglow_rotor::parameters::{Code, CodingParameters};
use alpenglow_rotor::sampling::RelaySampler;
use alpenglow_rotor::schedule::{EpochSeed, LeaderSchedule, ScheduleKind};
use alpenglow_rotor::shred::{self, ShredView};
use alpenglow_rotor::shredder::{Shredded, Shredder};
use alpenglow_rotor::signer::SliceSigner;
use alpenglow_rotor::types::{BlockId, ClusterId, Hash, Slot, Stake, Time, ValidatorIndex};
use alpenglow_rotor::validators::ValidatorSet;
use ed25519_dalek::SigningKey;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::oracle::Oracle;
use super::scenario::{Fault, HEALED_MS};

const MS: u64 = 1_000_000;
const START: Time = Time(7_000_000_000);
const CLUSTER: ClusterId = ClusterId([42; 32]);
const CHECKING: Duration = Duration::from_millis(1);
/// From the order to send a slice to the report that it was sent.
const SENDING: Duration = Duration::from_micros(100);
/// Longest time for one way between two nodes, without jitter.
const DELAY_NS_MAX: u64 = 40 * MS;
const JITTER_NS: u64 = 10 * MS;
/// One of so many datagrams comes twice.
const DUPLICATED: u64 = 50;
const ASSEMBLER_BYTES: usize = 4 << 20;
/// Windows within which every correct node finalizes a later slot once all is well again.
const RECOVERY_WINDOWS: u64 = 16;
const WINDOW_MS: u64 = 1_600;

enum Happening {
    Input(Box<Input>),
    Shred { from: usize, bytes: Arc<[u8]> },
    Message { from: usize, body: Arc<[u8]> },
    Certificate { from: usize, body: Arc<[u8]> },
    Repair { from: usize, is_request: bool, body: Arc<[u8]> },
}

struct Node {
    control: Control,
    checker: Checker,
    assembler: Assembler,
    horizon: ShredHorizon,
}

pub(super) struct World {
    pub(super) oracle: Oracle,
    pub(super) trace: Option<String>,
    now: Time,
    faults: Vec<Fault>,
    random: ChaCha8Rng,
    real_checks: bool,
    coding: CodingParameters,
    validators: ValidatorSet,
    schedule: LeaderSchedule,
    sampler: RelaySampler,
    shredder: Shredder,
    delays_ns: Vec<u64>,
    nodes: Vec<Option<Node>>,
    paused: BTreeSet<usize>,
    queue: BTreeMap<(Time, u64), (usize, Happening)>,
    queued: u64,
}

fn identity(node: usize) -> SigningKey {
    let mut seed = [9; 32];
    seed[..8].copy_from_slice(&(node as u64).to_le_bytes());
    SigningKey::from_bytes(&seed)
}

fn secret(node: usize) -> SecretKey {
    let mut seed = [8; 32];
    seed[..8].copy_from_slice(&(node as u64).to_le_bytes());
    SecretKey::from_entropy(&seed)
}

/// Keys of `nodes` validators, the same in all runs.
pub(super) fn voting_keys(nodes: usize) -> Arc<VotingKeys> {
    let keys: Vec<_> =
        (0..nodes).map(|node| (secret(node).public_key().to_bytes(), secret(node).prove_possession())).collect();
    Arc::new(VotingKeys::new(&keys).expect("distinct keys with their proofs"))
}

impl World {
    pub(super) fn new(keys: &Arc<VotingKeys>, seed: u64, faults: Vec<Fault>, real_checks: bool) -> Self {
        let nodes = keys.len();
        let coding = CodingParameters::new(Code::Rs8, 8, 16, 256, 1_232).expect("a small code");
        let set = (0..nodes).map(|node| (identity(node).verifying_key().to_bytes(), Stake(1_000))).collect();
        let validators = ValidatorSet::new(set).expect("distinct identities with stake");
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut epoch_seed = EpochSeed([0; 32]);
        random.fill_bytes(&mut epoch_seed.0);
        let schedule = Arc::new(LeaderSchedule::new(ScheduleKind::RoundRobin, epoch_seed, &validators));
        let stakes = Arc::new(Stakes::new(vec![Stake(1_000); nodes]));
        let node_of = |node: usize| {
            let own = ValidatorIndex(node as u16);
            let config =
                ControlConfig::new(own, secret(node), Arc::clone(&stakes), Arc::clone(&schedule), CLUSTER, coding);
            Some(Node {
                control: Control::new(config, START).expect("a valid configuration"),
                checker: Checker::new(CLUSTER, Arc::clone(keys), Arc::clone(&stakes)),
                assembler: Assembler::new(coding, CLUSTER, ASSEMBLER_BYTES),
                horizon: ShredHorizon { closed_through: Slot::GENESIS, shreds_through: Slot::GENESIS },
            })
        };
        let delays_ns = (0..nodes * nodes).map(|_| MS + random.next_u64() % (DELAY_NS_MAX - MS)).collect();
        let liars = faults.iter().filter_map(Fault::liar).collect();
        let mut world = Self {
            oracle: Oracle::new(nodes, liars),
            trace: None,
            now: START,
            faults,
            random,
            real_checks,
            coding,
            sampler: RelaySampler::new(&validators, epoch_seed, coding.total_shreds()),
            validators,
            schedule: LeaderSchedule::clone(&schedule),
            shredder: Shredder::new(coding, CLUSTER),
            delays_ns,
            nodes: (0..nodes).map(node_of).collect(),
            paused: BTreeSet::new(),
            queue: BTreeMap::new(),
            queued: 0,
        };
        (0..nodes).for_each(|node| world.carry_out(node));
        world
    }

    /// Runs until everything that ends has ended and every correct node has finalized a later slot, or a rule is broken.
    pub(super) fn run(&mut self) {
        self.run_until(HEALED_MS);
        let alive: Vec<_> = (0..self.nodes.len()).filter(|&node| self.nodes[node].is_some()).collect();
        let highest = alive.iter().map(|&node| self.oracle.finalized(node)).max().unwrap_or(Slot::GENESIS);
        let liars: BTreeSet<_> = self.faults.iter().filter_map(Fault::liar).collect();
        let correct: Vec<_> = alive.into_iter().filter(|node| !liars.contains(node)).collect();
        let lags = |world: &Self| correct.iter().find(|&&node| world.oracle.finalized(node) <= highest).copied();
        for window in 1..=RECOVERY_WINDOWS {
            if lags(self).is_none() || self.oracle.violation.is_some() {
                return;
            }
            self.run_until(HEALED_MS + window * WINDOW_MS);
        }
        if let Some(node) = lags(self) {
            let what = format!("node {node} finalized nothing past {highest} in {RECOVERY_WINDOWS} windows of calm");
            self.oracle.violated(what);
        }
    }

    fn run_until(&mut self, end_ms: u64) {
        let end = Time(START.0 + end_ms * MS);
        while self.oracle.violation.is_none()
            && let Some(time) = self.next_time().filter(|time| *time <= end)
        {
            self.now = self.now.max(time);
            self.begin_faults();
            while let Some(entry) = self.queue.first_entry()
                && entry.key().0 <= self.now
            {
                let (node, happening) = entry.remove();
                self.happen(node, happening);
            }
            for node in 0..self.nodes.len() {
                let due = |node: &Node| node.control.next_timeout().is_some_and(|due| due <= self.now);
                if !self.paused.contains(&node) && self.nodes[node].as_ref().is_some_and(due) {
                    self.handle(node, Input::Tick);
                }
            }
        }
        self.now = end;
        self.begin_faults();
    }

    fn next_time(&self) -> Option<Time> {
        let queued = self.queue.first_key_value().map(|((time, _), _)| *time);
        let awake = self.nodes.iter().enumerate().filter(|(node, _)| !self.paused.contains(node));
        let timeouts = awake.filter_map(|(_, node)| node.as_ref()?.control.next_timeout());
        queued.into_iter().chain(timeouts).min()
    }

    fn now_ms(&self) -> u64 {
        (self.now.0 - START.0) / MS
    }

    fn begin_faults(&mut self) {
        let now_ms = self.now_ms();
        let mut paused = BTreeSet::new();
        for fault in &self.faults {
            match *fault {
                Fault::Crash { node, at_ms } if at_ms <= now_ms && self.nodes[node].is_some() => {
                    self.nodes[node] = None;
                    self.oracle.happened.crashes += 1;
                }
                Fault::Pause { node, from_ms, to_ms } if (from_ms..to_ms).contains(&now_ms) => {
                    paused.insert(node);
                }
                _ => {}
            }
        }
        self.oracle.happened.pauses += paused.difference(&self.paused).count() as u64;
        self.paused = paused;
    }

    fn happen(&mut self, node: usize, happening: Happening) {
        if self.nodes[node].is_none() {
            return;
        }
        if self.paused.contains(&node) {
            self.queue_in(Duration::from_millis(5), node, happening);
            return;
        }
        self.oracle.happened.events += 1;
        let sender = |from: usize| ValidatorIndex(from as u16);
        let input = match happening {
            Happening::Input(input) => Some(*input),
            Happening::Shred { from, bytes } => self.shred(node, from, &bytes),
            Happening::Message { from, body } => decode_vote(&body, sender(from)).ok().map(Input::Vote),
            Happening::Certificate { from, body } => decode_certificate(&body, self.nodes.len())
                .ok()
                .map(|certificate| Input::Certificate { certificate, sender: sender(from) }),
            Happening::Repair { from, is_request: true, body } => decode_request(&body)
                .ok()
                .map(|request| Input::Repair { message: RepairMessage::Request(request), sender: sender(from) }),
            Happening::Repair { from, body, .. } => decode_answer(&body)
                .ok()
                .map(|answer| Input::Repair { message: RepairMessage::Answer(answer), sender: sender(from) }),
        };
        if let Some(input) = input {
            self.handle(node, input);
        }
    }

    /// What a shard does with a shred: checks whose it is, relays it, and gives the slice if it is complete.
    fn shred(&mut self, own: usize, from: usize, bytes: &Arc<[u8]>) -> Option<Input> {
        let shred = ShredView::parse(bytes, &self.coding).ok()?;
        let id = shred.slice();
        let leader = self.schedule.leader(id.slot);
        let relay = self.relays(id)[shred.index().get()].get();
        let is_relay = from == leader.get() && relay == own;
        let node = self.nodes[own].as_mut()?;
        let is_wanted = id.slot > node.horizon.closed_through && id.slot <= node.horizon.shreds_through;
        if !is_wanted || leader.get() == own || !(is_relay || from == relay) {
            return None;
        }
        let identity = self.validators.identity(leader);
        let verified = match node.assembler.verify(&shred, None, ValidatorIndex(from as u16), identity) {
            Ok(verified) => verified,
            Err(Reject::Equivocation) => return node.assembler.equivocation(id).map(Input::Equivocation),
            Err(_) => return None,
        };
        let relays = is_relay && node.assembler.claim_relay(&verified);
        let decoded = match node.assembler.insert(&shred, verified, self.now) {
            Inserted::Complete => node.assembler.decode(id),
            _ => None,
        };
        if relays {
            self.relay(own, leader.get(), bytes);
        }
        decoded.map(|decoded| match decoded {
            Decoded::Slice(slice) => Input::Slice(slice),
            Decoded::Malformed(malformed) => Input::MalformedSlice(malformed),
        })
    }

    fn relay(&mut self, own: usize, leader: usize, bytes: &Arc<[u8]>) {
        if self.faults.contains(&Fault::SilentRelay { node: own }) {
            self.oracle.happened.relays_silent += 1;
            return;
        }
        for to in (0..self.nodes.len()).filter(|&to| to != own && to != leader) {
            self.send(own, to, Duration::ZERO, || Happening::Shred { from: own, bytes: Arc::clone(bytes) });
        }
    }

    fn relays(&self, id: alpenglow_rotor::slice::SliceId) -> Vec<ValidatorIndex> {
        let mut relays = vec![ValidatorIndex::default(); self.coding.total_shreds()];
        self.sampler.sample(id, &mut relays);
        relays
    }

    fn handle(&mut self, node: usize, input: Input) {
        if let Some(alive) = &mut self.nodes[node] {
            alive.control.handle(self.now, input);
            self.carry_out(node);
        }
    }

    fn carry_out(&mut self, node: usize) {
        while let Some(output) = self.nodes[node].as_mut().and_then(|node| node.control.poll_output()) {
            self.write_trace(node, &output);
            self.oracle.see(node, &output);
            match output {
                Output::Broadcast(Message::Vote(vote)) => self.send_vote(node, &vote),
                Output::Broadcast(message @ Message::Certificate(_)) => self.send_certificate(node, &message),
                Output::SendSlice(slice) => self.send_slice(node, &slice),
                Output::Repair { to, message } => {
                    let is_request = matches!(message, RepairMessage::Request(_));
                    let body: Arc<[u8]> = message.encode().into();
                    self.send(node, to.get(), Duration::ZERO, || Happening::Repair {
                        from: node,
                        is_request,
                        body: Arc::clone(&body),
                    });
                }
                Output::Check { id, job } => {
                    let verdict = self.check(node, job);
                    self.queue_in(CHECKING, node, Happening::Input(Box::new(Input::Checked { id, verdict })));
                }
                Output::Horizon(horizon) => {
                    if let Some(node) = &mut self.nodes[node] {
                        node.horizon = horizon;
                        node.assembler.close(horizon.closed_through);
                    }
                }
                _ => {}
            }
        }
    }

    fn write_trace(&mut self, node: usize, output: &Output) {
        let now_ms = (self.now.0 - START.0) as f64 / MS as f64;
        let Some(trace) = &mut self.trace else { return };
        let line = match output {
            Output::Broadcast(Message::Vote(vote)) => format!("vote {:?}", vote.payload),
            Output::Broadcast(Message::Certificate(certificate)) => format!("certificate {:?}", certificate.statement),
            Output::SendSlice(slice) => {
                format!("slice {} of slot {}, last: {}", slice.id.index.get(), slice.id.slot, slice.is_last)
            }
            Output::Repair { to, .. } => format!("repair with {}", to.get()),
            Output::Event(alpenglow_control::output::Event::Decided { slot, decision }) => {
                format!("decided {slot}: {decision:?}")
            }
            _ => return,
        };
        writeln!(trace, "{now_ms:10.3} node {node}: {line}").expect("a string takes all");
    }

    fn send_vote(&mut self, from: usize, vote: &Vote) {
        let mut votes = vec![*vote];
        if self.faults.contains(&Fault::DoubleVote { node: from })
            && let Some(payload) = excluded_by(from, vote.payload)
        {
            let signature = secret(from).sign(&payload.hashed(CLUSTER)).to_bytes();
            votes.push(Vote { payload, signature, ..*vote });
            self.oracle.happened.votes_doubled += 1;
        }
        let is_selective = self.faults.contains(&Fault::SelectiveVote { node: from });
        for vote in votes {
            self.oracle.cast(from, vote.payload);
            let body: Arc<[u8]> = Message::Vote(vote).encode().into();
            for to in (0..self.nodes.len()).filter(|&to| to != from) {
                if is_selective && to % 2 == 1 {
                    self.oracle.happened.votes_held_back += 1;
                } else {
                    self.send(from, to, Duration::ZERO, || Happening::Message { from, body: Arc::clone(&body) });
                }
            }
        }
    }

    fn send_certificate(&mut self, from: usize, message: &Message) {
        if let Message::Certificate(certificate) = message {
            self.oracle.certificate(from, certificate);
        }
        let body: Arc<[u8]> = message.encode().into();
        for to in (0..self.nodes.len()).filter(|&to| to != from) {
            self.send(from, to, Duration::ZERO, || Happening::Certificate { from, body: Arc::clone(&body) });
        }
    }

    fn send_slice(&mut self, from: usize, slice: &OutgoingSlice) {
        let (shredded, shreds) = self.shreds(from, slice, &slice.payload);
        let relays = self.relays(slice.id);
        let other = self.faults.contains(&Fault::Equivocate { node: from }).then(|| {
            self.oracle.happened.slices_equivocated += 1;
            self.shreds(from, slice, &another_version(slice)).1
        });
        let late = self.faults.iter().find_map(|fault| match *fault {
            Fault::Late { node, by_ms } if node == from => Some(Duration::from_millis(by_ms)),
            _ => None,
        });
        self.oracle.happened.slices_late += u64::from(late.is_some());
        let withholds = self.faults.contains(&Fault::Withhold { node: from });
        self.oracle.happened.slices_withheld += u64::from(withholds);
        let sent = if withholds { self.coding.data_shreds() - 1 } else { shreds.len() };
        for (index, relay) in relays.iter().enumerate().take(sent) {
            let version = other.as_ref().filter(|_| index % 2 == 1).unwrap_or(&shreds);
            let receivers = if relay.get() == from { 0..self.nodes.len() } else { relay.get()..relay.get() + 1 };
            for to in receivers.filter(|&to| to != from) {
                let bytes = &version[index];
                let late = SENDING + late.unwrap_or_default();
                self.send(from, to, late, || Happening::Shred { from, bytes: Arc::clone(bytes) });
            }
        }
        let Shredded { root, signature } = shredded;
        let sent = SliceSent { id: slice.id, root, signature, leader_stamp_ns: self.now.0 };
        self.queue_in(SENDING, from, Happening::Input(Box::new(Input::SliceSent(sent))));
    }

    fn shreds(&mut self, from: usize, slice: &OutgoingSlice, payload: &[u8]) -> (Shredded, Vec<Arc<[u8]>>) {
        let bytes = shred::wire_bytes(&self.coding, self.shredder.shred_len(payload.len()));
        let offsets: Vec<_> = (0..self.coding.total_shreds()).map(|index| index * bytes).collect();
        let mut out = vec![0; bytes * offsets.len()];
        let signer = SliceSigner::new(&identity(from));
        let shredded = self.shredder.shred(slice.id, slice.is_last, self.now.0, payload, &signer, &mut out, &offsets);
        (shredded, out.chunks_exact(bytes).map(Arc::from).collect())
    }

    /// Sends a datagram, perhaps in vain, perhaps twice.
    fn send(&mut self, from: usize, to: usize, later: Duration, datagram: impl Fn() -> Happening) {
        let now_ms = self.now_ms();
        for index in 0..self.faults.len() {
            match self.faults[index] {
                Fault::Partition { below, from_ms, to_ms }
                    if (from_ms..to_ms).contains(&now_ms) && (from < below) != (to < below) =>
                {
                    self.oracle.happened.datagrams_cut_off += 1;
                    return;
                }
                Fault::Loss { percent, from_ms, to_ms }
                    if (from_ms..to_ms).contains(&now_ms) && self.random.next_u64() % 100 < percent =>
                {
                    self.oracle.happened.datagrams_lost += 1;
                    return;
                }
                _ => {}
            }
        }
        let copies = if self.random.next_u64().is_multiple_of(DUPLICATED) { 2 } else { 1 };
        for _ in 0..copies {
            let delay_ns = self.delays_ns[from * self.nodes.len() + to] + self.random.next_u64() % JITTER_NS;
            self.queue_in(later + Duration::from_nanos(delay_ns), to, datagram());
        }
    }

    fn queue_in(&mut self, delay: Duration, node: usize, happening: Happening) {
        self.queued += 1;
        self.queue.insert((self.now.after(delay), self.queued), (node, happening));
    }

    /// Liars sign what they send, so signatures may be taken for good; a certificate's are those of votes.
    fn check(&mut self, node: usize, job: CheckJob) -> CheckVerdict {
        if self.real_checks
            && let Some(node) = &mut self.nodes[node]
        {
            return node.checker.check(job);
        }
        job.assume_checked()
    }
}

/// The slice with one transaction and nothing else, on the same parent.
fn another_version(slice: &OutgoingSlice) -> Vec<u8> {
    let content = SliceContent::parse(slice.id.index, &slice.payload).expect("a node packs its slices well");
    let mut builder = SliceBuilder::new(content.parent, 1_500);
    assert!(builder.push(b"another version"), "there is room for one transaction");
    builder.finish()
}

/// A vote that excludes this first vote.
fn excluded_by(node: usize, vote: VotePayload) -> Option<VotePayload> {
    match vote {
        VotePayload::Notar(block) => Some(VotePayload::Skip(block.slot)),
        VotePayload::Skip(slot) => Some(VotePayload::Notar(BlockId { slot, hash: Hash([node as u8; 32]) })),
        _ => None,
    }
}
