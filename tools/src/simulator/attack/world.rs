//! One run: nodes, what reaches them when, and when they stop and start.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use alpenglow_control::input::Input;
use alpenglow_control::message::{Message, decode_certificate, decode_vote};
use alpenglow_control::output::{Event, Output};
use alpenglow_control::repair::{RepairMessage, decode_answer, decode_request};
use alpenglow_control::transactions::TransactionSource;
use alpenglow_control::voting_keys::VotingKeys;
use alpenglow_rotor::schedule::EpochSeed;
use alpenglow_rotor::shredder::Shredder;
use alpenglow_rotor::slice::{SliceId, SliceSignature};
use alpenglow_rotor::types::{BlockId, Slot, Time, ValidatorIndex};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::adversary::Forger;
use super::block_log::Record;
use super::cluster::{CLUSTER, Cluster};
use super::disk::Disk;
use super::fault::{Fault, Loses};
use super::network::{MS, Network, Sent};
use super::node::{Clock, Node};
use super::oracle::Oracle;
use super::scenario::Plan;

const CHECKING: Duration = Duration::from_millis(1);
const CLOCK_START_NS: u64 = 7_000_000_000;
/// Windows within which every correct node finalizes a later slot once all is well again.
const RECOVERY_WINDOWS: u64 = 16;
const WINDOW_MS: u64 = 1_600;
const TRANSACTION_BYTES_MAX: u64 = 400;

#[derive(Clone)]
pub(super) enum Datagram {
    Shred(Arc<[u8]>),
    Vote(Arc<[u8]>),
    Certificate(Arc<[u8]>),
    RepairRequest(Arc<[u8]>),
    RepairAnswer(Arc<[u8]>),
    Transaction(Arc<[u8]>),
}

impl Datagram {
    fn body(&self) -> &Arc<[u8]> {
        match self {
            Self::Shred(body)
            | Self::Vote(body)
            | Self::Certificate(body)
            | Self::RepairRequest(body)
            | Self::RepairAnswer(body)
            | Self::Transaction(body) => body,
        }
    }
}

/// What happens to a node.
pub(super) enum Happening {
    /// Something inside it is done.
    Input(Box<Input>),
    Arrives {
        from: usize,
        datagram: Datagram,
    },
    /// A client has a transaction for it.
    Submitted,
    /// Its reservation is on disk.
    Reserved(Slot),
    /// Its block log's thread writes this, …
    Writes(Record),
    /// … reads this block, …
    Reads(BlockId),
    /// … and finds that one cannot be read.
    Spoils,
    /// It stops after so many outputs more, and perhaps comes back.
    Stops {
        outputs: u64,
        within_ms: u64,
        loses: Loses,
        back_ms: Option<u64>,
    },
    /// It stops now, if it is about to.
    StopsAnyway,
    Starts,
}

/// A node that is about to stop.
struct Stopping {
    outputs: u64,
    loses: Loses,
    back_ms: Option<u64>,
}

pub(super) struct World {
    pub(super) oracle: Oracle,
    pub(super) trace: Option<String>,
    pub(super) cluster: Cluster,
    pub(super) faults: Vec<Fault>,
    pub(super) random: ChaCha8Rng,
    pub(super) shredder: Shredder,
    pub(super) forger: Forger,
    /// Of slices that were signed twice, the second signature.
    pub(super) second_versions: BTreeMap<SliceId, SliceSignature>,
    pub(super) nodes: Vec<Option<Node>>,
    pub(super) plan: Plan,
    /// Since the beginning.
    pub(super) now: Time,
    clocks: Vec<Clock>,
    pub(super) disks: Vec<Disk>,
    network: Network,
    /// Blocks that logs of nodes which still run have lost.
    pub(super) lost_blocks: BTreeSet<(usize, BlockId)>,
    stopping: BTreeMap<usize, Stopping>,
    /// When a node is to be woken.
    wakes: Vec<Option<Time>>,
    queue: BTreeMap<(Time, u64), (usize, Happening)>,
    queued: u64,
}

impl World {
    pub(super) fn new(keys: &Arc<VotingKeys>, seed: u64, plan: Plan, faults: Vec<Fault>) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut epoch_seed = EpochSeed([0; 32]);
        random.fill_bytes(&mut epoch_seed.0);
        let cluster = Cluster::new(keys, plan.scheme, plan.stakes.clone(), epoch_seed);
        let nodes = cluster.nodes();
        let drift = |of: usize| {
            let drifts = faults.iter().filter_map(|fault| match *fault {
                Fault::Drift { node, per_million } if node == of => Some(per_million),
                _ => None,
            });
            drifts.sum()
        };
        let liars: BTreeSet<usize> = faults.iter().filter_map(Fault::liar).collect();
        let mut world = Self {
            oracle: Oracle::new(plan.stakes.clone(), liars, plan.crashed_leader_timers, plan.keeps_blocks),
            trace: None,
            shredder: Shredder::new(cluster.coding, CLUSTER),
            forger: Forger::new(cluster.coding, nodes),
            second_versions: BTreeMap::new(),
            nodes: (0..nodes).map(|_| None).collect(),
            now: Time(0),
            clocks: (0..nodes).map(|node| Clock { start_ns: CLOCK_START_NS, per_million: drift(node) }).collect(),
            disks: (0..nodes).map(|_| Disk::new(plan.synced_logs)).collect(),
            lost_blocks: BTreeSet::new(),
            network: Network::new(plan.topology, nodes, &mut random),
            stopping: BTreeMap::new(),
            wakes: vec![None; nodes],
            queue: BTreeMap::new(),
            queued: 0,
            cluster,
            plan,
            random,
            faults,
        };
        world.plan_stops();
        world.plan_transactions();
        (0..nodes).for_each(|node| world.start(node));
        world
    }

    fn plan_stops(&mut self) {
        for index in 0..self.faults.len() {
            match self.faults[index] {
                Fault::Crash { node, at_ms, outputs, within_ms, loses, back_ms } => {
                    self.queue_at(Time(at_ms * MS), node, Happening::Stops { outputs, within_ms, loses, back_ms });
                }
                Fault::SpoilBlock { node, at_ms } => self.queue_at(Time(at_ms * MS), node, Happening::Spoils),
                _ => {}
            }
        }
    }

    fn plan_transactions(&mut self) {
        let per_second = self.plan.transactions_per_second;
        for number in 0..per_second * self.plan.healed_ms / 1_000 {
            let node = self.random.next_u64() as usize % self.nodes.len();
            self.queue_at(Time(number * 1_000 * MS / per_second), node, Happening::Submitted);
        }
    }

    /// Runs until everything that ends has ended and every correct node finalized a later slot, or a rule is broken.
    pub(super) fn run(&mut self) {
        self.run_until(self.plan.healed_ms);
        let alive: Vec<_> = (0..self.nodes.len()).filter(|&node| self.nodes[node].is_some()).collect();
        let highest = alive.iter().map(|&node| self.oracle.finalized(node)).max().unwrap_or(Slot::GENESIS);
        let correct: Vec<_> = alive.into_iter().filter(|node| !self.oracle.is_liar(*node)).collect();
        for window in 1..=RECOVERY_WINDOWS {
            if self.lacks(&correct, highest).is_none() || self.oracle.violation.is_some() {
                break;
            }
            self.run_until(self.plan.healed_ms + window * WINDOW_MS);
        }
        if let Some(what) = self.lacks(&correct, highest) {
            let what = format!("{RECOVERY_WINDOWS} windows after the end of all faults {what}");
            self.oracle.violated(what);
        }
        if let Some(slots) = self.plan.stakes.epoch_slots {
            self.oracle.happened.add("epochs_passed", highest.0 / slots);
        }
        for node in self.nodes.iter().flatten() {
            let seen = node.control.counters().get("repair_ancestors_wrong");
            self.oracle.happened.add("false_ancestors_seen", seen);
        }
        self.oracle.check_availability(self.plan.keeps_blocks.then_some(&self.disks));
        if self.plan.is_calm && self.oracle.happened.times("skip_votes") > 0 {
            self.oracle.violated("somebody votes to skip though nothing goes wrong".to_owned());
        }
    }

    /// What is not well yet with one of these nodes, when `highest` was final before.
    fn lacks(&self, nodes: &[usize], highest: Slot) -> Option<String> {
        // Who starts again without a block log asks for blocks from genesis on, which perhaps nobody has.
        let may_lack = !self.plan.keeps_blocks;
        let lags = nodes.iter().find_map(|&node| {
            let (finalized, handed_over) = (self.oracle.finalized(node), self.oracle.handed_over(node));
            let has = if may_lack && self.oracle.has_restarted(node) { finalized } else { handed_over };
            (has <= highest).then(|| {
                format!("node {node} has finalized {finalized} and handed over {handed_over}, and slot {highest} was final before")
            })
        });
        let lost = |(node, block): &&(usize, BlockId)| nodes.contains(node) && !self.disks[*node].blocks.holds(*block);
        let lost = || self.lost_blocks.iter().find(lost);
        lags.or_else(|| {
            lost().map(|(node, block)| format!("node {node} still has not got back {block}, which its log lost"))
        })
    }

    fn run_until(&mut self, end_ms: u64) {
        let end = Time(end_ms * MS);
        while self.oracle.violation.is_none()
            && let Some(time) = self.next_time().filter(|time| *time <= end)
        {
            self.now = self.now.max(time);
            while let Some(entry) = self.queue.first_entry()
                && entry.key().0 <= self.now
            {
                let (node, happening) = entry.remove();
                self.happen(node, happening);
            }
            for node in 0..self.nodes.len() {
                if self.wakes[node].is_some_and(|due| due <= self.now) {
                    match self.paused_until(node) {
                        Some(end) => self.wakes[node] = Some(end),
                        None => self.handle(node, Input::Tick),
                    }
                }
            }
        }
        self.now = end;
    }

    fn next_time(&self) -> Option<Time> {
        let queued = self.queue.first_key_value().map(|((time, _), _)| *time);
        queued.into_iter().chain(self.wakes.iter().copied().flatten()).min()
    }

    pub(super) const fn now_ms(&self) -> u64 {
        self.now.0 / MS
    }

    /// What a node's clock shows.
    pub(super) fn clock(&self, node: usize) -> Time {
        self.clocks[node].shows(self.now.0)
    }

    fn paused_until(&self, of: usize) -> Option<Time> {
        let now_ms = self.now_ms();
        let ends = self.faults.iter().filter_map(|fault| match *fault {
            Fault::Pause { node, during } if node == of && during.contains(now_ms) => Some(Time(during.to_ms * MS)),
            _ => None,
        });
        ends.max()
    }

    fn happen(&mut self, node: usize, happening: Happening) {
        match happening {
            Happening::Starts if self.nodes[node].is_none() => {
                self.oracle.happened.count("restarts");
                self.start(node);
                return;
            }
            Happening::Stops { outputs, within_ms, loses, back_ms } if self.nodes[node].is_some() => {
                self.stopping.entry(node).or_insert(Stopping { outputs, loses, back_ms });
                self.queue_in(Duration::from_millis(within_ms), node, Happening::StopsAnyway);
                return;
            }
            Happening::StopsAnyway => return self.stop(node),
            _ if self.nodes[node].is_none() => return,
            Happening::Writes(record) => return self.disks[node].blocks.write(record),
            Happening::Reserved(through) => {
                self.disks[node].reserve(through);
                self.handle(node, Input::ReservationDurable(through));
                return;
            }
            _ => {}
        }
        if let Some(end) = self.paused_until(node) {
            self.oracle.happened.count("delayed_by_pauses");
            self.queue_at(end, node, happening);
            return;
        }
        let input = match happening {
            Happening::Input(input) => Some(*input),
            Happening::Arrives { from, datagram } => self.arrives(node, from, &datagram),
            Happening::Submitted => Some(self.transaction()),
            Happening::Reads(block) => Some(self.read_from_log(node, block)),
            Happening::Spoils => self.lose_from_log(node),
            Happening::Reserved(_)
            | Happening::Writes(_)
            | Happening::Stops { .. }
            | Happening::StopsAnyway
            | Happening::Starts => None,
        };
        self.oracle.happened.count("events");
        if let Some(input) = input {
            self.handle(node, input);
        }
    }

    fn transaction(&mut self) -> Input {
        let mut bytes = vec![0; 8 + (self.random.next_u64() % TRANSACTION_BYTES_MAX) as usize];
        self.random.fill_bytes(&mut bytes);
        Input::Transaction { bytes: bytes.into(), source: TransactionSource::Client }
    }

    fn arrives(&mut self, node: usize, from: usize, datagram: &Datagram) -> Option<Input> {
        let sender = ValidatorIndex(from as u16);
        match datagram {
            Datagram::Shred(bytes) => self.shred(node, from, bytes),
            Datagram::Vote(body) => {
                let vote = decode_vote(body, sender).ok()?;
                self.oracle.told(node, from, vote.payload);
                Some(Input::Vote(vote))
            }
            Datagram::Certificate(body) => {
                let certificate = decode_certificate(body, self.nodes.len()).ok()?;
                Some(Input::Certificate { certificate, sender })
            }
            Datagram::RepairRequest(body) => {
                let request = decode_request(body).ok()?;
                if self.forges_answers(node, from, &request) {
                    return None;
                }
                Some(Input::Repair { message: RepairMessage::Request(request), sender })
            }
            Datagram::RepairAnswer(body) => {
                let answer = decode_answer(body).ok()?;
                Some(Input::Repair { message: RepairMessage::Answer(answer), sender })
            }
            Datagram::Transaction(bytes) => {
                Some(Input::Transaction { bytes: Arc::clone(bytes), source: TransactionSource::Validator(sender) })
            }
        }
    }

    fn start(&mut self, node: usize) {
        let restoration = self.disks[node].start();
        if restoration.doubt().is_some() {
            self.oracle.happened.count("logs_lost");
        }
        let (found, tip) = self.disks[node].blocks.start();
        self.oracle.happened.add("held_blocks_found", found);
        let now = self.clock(node);
        let tip_id = tip.as_ref().map(|tip| tip.block.id);
        self.note(node, &format!("starts after {}", tip_id.unwrap_or(BlockId::GENESIS)));
        self.oracle.starts(node, now, self.disks[node].durable.reservation, tip_id);
        let started = Node::start(&self.cluster, node, now, &self.plan, &restoration, tip);
        self.nodes[node] = Some(started);
        self.carry_out(node);
    }

    /// The node stops; what is under way to its disk is done or not.
    fn stop(&mut self, node: usize) {
        let Some(Stopping { loses, back_ms, .. }) = self.stopping.remove(&node) else { return };
        self.disks[node].idle_at = self.now;
        self.lost_blocks.retain(|(of, _)| *of != node);
        self.nodes[node] = None;
        self.wakes[node] = None;
        let inside = |happening: &Happening| {
            use Happening::{Input, Reads, Reserved, Writes};
            matches!(happening, Input(_) | Reserved(_) | Writes(_) | Reads(_))
        };
        let lost: Vec<_> = self.queue.extract_if(.., |_, (of, happening)| *of == node && inside(happening)).collect();
        for (_, (_, happening)) in lost {
            if let Happening::Reserved(through) = happening
                && self.random.next_u64().is_multiple_of(2)
            {
                self.disks[node].reserve(through);
            }
        }
        self.note(node, &format!("stops, loses {loses:?}"));
        match loses {
            Loses::Process => self.oracle.happened.count("process_crashes"),
            Loses::Power => {
                self.disks[node].lose_power(&mut self.random);
                if !self.plan.synced_logs {
                    self.oracle.loses_blocks(node);
                }
                self.oracle.happened.count("power_losses");
            }
        }
        if let Some(back_ms) = back_ms {
            self.queue_at(self.now.max(Time(back_ms * MS)), node, Happening::Starts);
        }
    }

    /// Whether the node stops now, before its next output.
    fn stops(&mut self, node: usize) -> bool {
        match self.stopping.get_mut(&node) {
            Some(Stopping { outputs: 0, .. }) => {
                self.stop(node);
                true
            }
            Some(stopping) => {
                stopping.outputs -= 1;
                false
            }
            None => false,
        }
    }

    pub(super) fn handle(&mut self, node: usize, input: Input) {
        let now = self.clock(node);
        let Some(running) = &mut self.nodes[node] else { return };
        self.oracle.hears(node, now, &input);
        running.control.handle(now, input);
        self.carry_out(node);
    }

    fn carry_out(&mut self, node: usize) {
        let now = self.clock(node);
        while let Some(output) = self.nodes[node].as_mut().and_then(|node| node.control.poll_output()) {
            if self.stops(node) {
                return;
            }
            self.oracle.see(node, now, &output, &self.disks[node]);
            self.write_trace(node, &output);
            match output {
                Output::Record(entry) => self.disks[node].append(entry),
                Output::Reserve(through) => {
                    let takes = self.disk_takes();
                    self.queue_in(takes, node, Happening::Reserved(through));
                }
                Output::Broadcast(Message::Vote(vote)) => self.send_vote(node, &vote),
                Output::Broadcast(Message::Certificate(certificate)) => self.send_certificate(node, &certificate),
                Output::SendSlice(slice) => self.send_slice(node, &slice),
                Output::SendTransaction { to, bytes } => self.send(node, to.get(), 0, Datagram::Transaction(bytes)),
                Output::Repair { to, message } => self.send_repair(node, to.get(), message),
                Output::Check { id, job } => {
                    let verdict = self.nodes[node].as_mut().expect("it runs").checker.check(job);
                    self.queue_in(CHECKING, node, Happening::Input(Box::new(Input::Checked { id, verdict })));
                }
                Output::Horizon(horizon) => {
                    let running = self.nodes[node].as_mut().expect("it runs");
                    running.horizon = horizon;
                    running.assembler.close(horizon.closed_through);
                }
                Output::BlockLog(order) => self.order_log(node, order),
                Output::Finalized(_) | Output::FinalizedGap { .. } | Output::Proof(_) | Output::Event(_) => {}
            }
        }
        let due = self.nodes[node].as_ref().and_then(|node| node.control.next_timeout());
        self.wakes[node] = due.map(|due| Time(self.clocks[node].reaches(due)));
    }

    fn write_trace(&mut self, node: usize, output: &Output) {
        if self.trace.is_none() {
            return;
        }
        let line = match output {
            Output::Broadcast(Message::Vote(vote)) => format!("vote {:?}", vote.payload),
            Output::Broadcast(Message::Certificate(certificate)) => format!("certificate {:?}", certificate.statement),
            Output::SendSlice(slice) => {
                format!("slice {} of slot {}, last: {}", slice.id.index.get(), slice.id.slot, slice.is_last)
            }
            Output::Repair { to, message: RepairMessage::Request(request) } => {
                format!("asks {} for {:?} of {}", to.get(), request.want, request.block)
            }
            Output::Event(Event::Decided { slot, decision }) => format!("decided {slot}: {decision:?}"),
            Output::Event(Event::BlockComplete { block, .. }) => format!("holds {} on {}", block.id, block.parent),
            Output::Reserve(through) => format!("reserves up to {through}"),
            _ => return,
        };
        self.note(node, &line);
    }

    /// A line of the trace.
    fn note(&mut self, node: usize, line: &str) {
        let now_ms = self.now.0 as f64 / MS as f64;
        if let Some(trace) = &mut self.trace {
            writeln!(trace, "{now_ms:10.3} node {node}: {line}").expect("a string takes all");
        }
    }

    /// Sends a datagram, perhaps in vain, perhaps twice.
    pub(super) fn send(&mut self, from: usize, to: usize, later_ns: u64, datagram: Datagram) {
        let at = Time(self.now.0 + later_ns);
        let sent = Sent { from, to, bytes: datagram.body().len(), at, at_ms: self.now_ms() };
        let happened = &mut self.oracle.happened;
        for arrival in self.network.arrivals(&sent, &self.faults, &mut self.random, happened).into_iter().flatten() {
            self.queue_at(arrival, to, Happening::Arrives { from, datagram: datagram.clone() });
        }
    }

    pub(super) fn queue_in(&mut self, delay: Duration, node: usize, happening: Happening) {
        self.queue_at(self.now.after(delay), node, happening);
    }

    pub(super) fn queue_at(&mut self, time: Time, node: usize, happening: Happening) {
        self.queued += 1;
        self.queue.insert((time, self.queued), (node, happening));
    }
}
