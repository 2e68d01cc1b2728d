//! Nodes that crash at any moment, with their process or with their machine's power, and start again from what is left
//! on their disks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use alpenglow_control::control::Control;
use alpenglow_control::input::Input;
use alpenglow_control::message::Message;
use alpenglow_control::output::Output;
use alpenglow_control::production::OutgoingSlice;
use alpenglow_control::vote::VotePayload;
use alpenglow_control::vote_record::{Doubt, Durable, Entry, Found, FoundLog, Host, Kept, Restoration};
use alpenglow_rotor::slice::SliceId;
use alpenglow_rotor::types::{Slot, Time, ValidatorIndex};

use crate::block_log::BlockLog;
use crate::world::{MS, Network, Random, START, Setup, World, config};

const NODES: usize = 6;

/// What a cluster's nodes keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Records {
    /// Nothing, and no node starts again.
    None,
    /// What they have to.
    Kept,
    /// Nothing, though nodes start again: what the record is there for.
    Forgotten,
    /// The log alone, which is trusted after a power loss.
    Trusted,
}

/// A node's disk.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) durable: Durable,
    pub(crate) log: Vec<Entry>,
    pub(crate) blocks: BlockLog,
    machine: u8,
    boot: u8,
    spoilt: bool,
}

impl Disk {
    pub(crate) fn new() -> Self {
        let (durable, blocks) = (Durable::new(), BlockLog::default());
        Self { durable, log: Vec::new(), blocks, machine: 7, boot: 1, spoilt: false }
    }

    fn host(&self) -> Host {
        Host { machine: [self.machine; 16], boot: [self.boot; 16] }
    }

    /// What a node may do that starts now; it finds the durable part and then the log as a start writes them.
    pub(crate) fn start(&mut self, records: Records) -> Restoration {
        if records == Records::Forgotten {
            return Restoration::fresh();
        }
        let log = std::mem::take(&mut self.log);
        let log = if self.spoilt { FoundLog::Corrupt(log) } else { FoundLog::Whole(log) };
        let restoration = Restoration::of(Found { durable: Some(self.durable), log }, self.host(), false);
        self.durable = restoration.durable();
        self.log = restoration.entries().cloned().collect();
        self.spoilt = false;
        restoration
    }

    /// The power fails: a part of the log at its end is gone, and the rest may be spoilt.
    fn lose_power(&mut self, random: &mut Random, records: Records) {
        self.log.truncate(random.below(self.log.len() as u64 + 1) as usize);
        self.spoilt = random.percent(20);
        if records != Records::Trusted {
            self.boot += 1;
        }
    }
}

/// What has left each node in all its lives.
#[derive(Default)]
pub(crate) struct Left {
    votes: BTreeMap<(usize, Slot), Vec<VotePayload>>,
    slices: BTreeMap<SliceId, OutgoingSlice>,
    /// What must never happen.
    pub(crate) conflicts: Vec<String>,
}

fn exclude(one: &VotePayload, other: &VotePayload) -> bool {
    use VotePayload::{Final, Notar, NotarFallback, Skip, SkipFallback};
    match (one, other) {
        (Notar(one), Notar(other)) => one != other,
        (Notar(_), Skip(_)) | (Final(_), Skip(_) | SkipFallback(_) | NotarFallback(_)) => true,
        _ => false,
    }
}

impl Left {
    pub(crate) fn broadcast(&mut self, from: usize, message: &Message) {
        match message {
            Message::Vote(vote) => {
                let votes = self.votes.entry((from, vote.payload.slot())).or_default();
                let conflict =
                    votes.iter().find(|before| exclude(before, &vote.payload) || exclude(&vote.payload, before));
                self.conflicts.extend(conflict.map(|before| format!("node {from}: {before:?} and {:?}", vote.payload)));
                if !votes.contains(&vote.payload) {
                    votes.push(vote.payload);
                }
            }
            Message::Certificate(certificate) if certificate.signers.contains(ValidatorIndex(from as u16)) => {
                let payload = certificate.statement.payload();
                if !self.votes.get(&(from, payload.slot())).is_some_and(|votes| votes.contains(&payload)) {
                    self.conflicts.push(format!("node {from}: {payload:?} is certified with a vote that never left"));
                }
            }
            Message::Certificate(_) => {}
        }
    }

    pub(crate) fn slice(&mut self, slice: &OutgoingSlice) {
        let before = self.slices.entry(slice.id).or_insert_with(|| slice.clone());
        if (before.is_last, before.payload.as_ref()) != (slice.is_last, slice.payload.as_ref()) {
            self.conflicts.push(format!("two contents of slice {:?}", slice.id));
        }
    }
}

/// What happened in some runs.
#[derive(Debug, Default)]
struct Counts {
    crashes: usize,
    power_losses: usize,
    replayed: usize,
    barred: usize,
    conflicts: usize,
    finalized: usize,
}

/// Nodes crash and start again for a while, then all of them run on. With odd seeds no machine loses its power: only
/// then is it sure that in every slot enough nodes may still vote.
fn run(seed: u64, records: Records, counts: &mut Counts) -> World {
    let network = Network {
        jitter: Duration::from_millis(150),
        messages_lost_percent: 10,
        slices_lost_percent: 5,
        ..Network::default()
    };
    let setup = Setup { nodes: NODES, seed, network, real_checks: false, records, ..Setup::default() };
    let (mut world, mut random) = (World::new(setup), Random(seed ^ 0x5eed));
    let mut number = 0_u64;
    let mut at = world.now;
    for _ in 0..24 {
        for node in world.alive() {
            number += 1;
            world.submit(node, number.to_le_bytes().repeat(20));
        }
        let all = random.percent(10);
        for node in world.alive() {
            if all || random.percent(20) {
                world.crash_after(node, random.below(12) as usize);
            }
        }
        at = at.after(Duration::from_millis(50 + random.below(900)));
        world.run_until(at);
        for node in world.crashed() {
            counts.crashes += 1;
            if seed.is_multiple_of(2) && random.percent(40) {
                counts.power_losses += 1;
                world.disk(node).lose_power(&mut random, records);
            }
        }
        at = at.after(Duration::from_millis(random.below(300)));
        world.run_until(at);
        for node in world.crashed() {
            let before = world.disk(node).log.clone();
            let restoration = world.restart(node);
            counts.barred += usize::from(restoration.doubt().is_some());
            let votes = before.iter().filter(|entry| matches!(entry, Entry::Vote(_))).count();
            counts.replayed += usize::from(restoration.doubt().is_none() && votes > 0);
        }
        if !world.left.conflicts.is_empty() {
            counts.conflicts += 1;
            return world;
        }
    }
    world.network = Network::default();
    world.spare();
    let finalized = |world: &World| (0..NODES).map(|node| world.control(node).highest_finalized().slot).min();
    world.run_until(at.after(Duration::from_secs(25)));
    let before = finalized(&world);
    world.run_until(at.after(Duration::from_secs(40)));
    counts.conflicts += usize::from(!world.left.conflicts.is_empty());
    if records == Records::Kept && !seed.is_multiple_of(2) {
        let after = finalized(&world);
        assert!(after > before, "nothing final after {before:?}, {}", world.oracle.replay());
    }
    counts.finalized += (0..NODES).map(|node| world.oracle.finalized_count(node)).sum::<usize>();
    world
}

#[test]
fn nobody_signs_twice_through_crashes_and_power_losses() {
    let mut counts = Counts::default();
    let seeds = crate::seeds(24);
    let whole = seeds.clone().count() >= 24;
    for seed in seeds {
        let world = run(seed, Records::Kept, &mut counts);
        assert_eq!(world.left.conflicts, [""; 0], "{}", world.oracle.replay());
    }
    if whole {
        let Counts { crashes, power_losses, replayed, barred, finalized, .. } = counts;
        let least = [crashes, power_losses, replayed, barred, finalized].into_iter().min();
        assert!(least >= Some(24), "hardly anything happened: {counts:?}");
    }
}

#[test]
fn without_the_record_or_with_trust_in_a_log_that_lost_its_end_somebody_signs_twice() {
    for records in [Records::Forgotten, Records::Trusted] {
        let mut counts = Counts::default();
        for seed in 1..=24 {
            run(seed, records, &mut counts);
            if counts.conflicts > 0 {
                break;
            }
        }
        assert!(counts.conflicts > 0, "{records:?}: the test does not notice, {counts:?}");
    }
}

#[test]
fn all_nodes_at_once_lose_their_processes_and_the_chain_goes_on() {
    let setup = Setup { nodes: NODES, records: Records::Kept, ..Setup::default() };
    let mut world = World::new(setup);
    assert!(world.run_until_decided(9, World::at_ms(9 * 400 + 3_000)));
    (0..NODES).for_each(|node| world.crash(node));
    assert_eq!(world.crashed().len(), NODES);
    let before: Vec<Arc<[Entry]>> = (0..NODES).map(|node| world.disk(node).log.clone().into()).collect();
    (0..NODES).for_each(|node| assert_eq!(world.restart(node).doubt(), None));
    for (node, log) in before.iter().enumerate() {
        let kept: Kept = log.iter().cloned().collect();
        assert!(kept.entries().count() < 40, "a log of open slots is short");
        assert!(world.control(node).highest_finalized().slot >= Slot(8));
    }
    let from = world.now;
    world.run_until(from.after(Duration::from_secs(20)));
    for node in 0..NODES {
        let finalized = world.control(node).highest_finalized().slot;
        assert!(finalized >= Slot(40), "node {node}: {finalized} after {} ms", (world.now.0 - from.0) / MS);
    }
    assert_eq!(world.left.conflicts, [""; 0]);
}

/// What it said since its data folder was copied, nobody knows.
#[test]
fn a_node_on_another_machine_neither_votes_nor_leads_up_to_the_horizon_of_what_it_sees_first() {
    let setup = Setup { nodes: NODES, real_checks: false, records: Records::Kept, ..Setup::default() };
    let mut world = World::new(setup);
    assert!(world.run_until_decided(6, World::at_ms(6_000)));
    let moved = 2;
    world.crash(moved);
    world.disk(moved).machine += 1;
    let said = |world: &World| -> BTreeSet<Slot> {
        let votes = world.left.votes.keys().filter(|(node, _)| *node == moved).map(|(_, slot)| *slot);
        let led = |slot: &Slot| world.schedule.leader(*slot).get() == moved;
        votes.chain(world.left.slices.keys().map(|id| id.slot).filter(led)).collect()
    };
    let before = said(&world);
    assert_eq!(world.restart(moved).doubt(), Some(Doubt::OtherMachine));
    let restored = world.control(moved).highest_finalized().slot;
    world.run_until(Time(world.now.0 + 40_000 * MS));
    let after: Vec<Slot> = said(&world).difference(&before).copied().collect();
    let (first, horizon) = (after[0], restored.0 + 40);
    assert!(first.0 > horizon && first.0 <= horizon + 10, "{first}, {restored} was known at the start");
    let leads = |slot: u64| world.schedule.leader(Slot(slot)).get() == moved;
    assert!((restored.0 + 1..=horizon).any(leads), "it would have led meanwhile");
    let led = |slot: &&Slot| world.left.slices.keys().any(|id| id.slot == **slot) && leads(slot.0);
    assert!(after.iter().filter(led).count() >= 4, "it leads again");
    assert_eq!(world.left.conflicts, [""; 0]);
}

/// A node that was held up takes in with one tick that its timers fired and that nothing was finalized for long.
#[test]
fn a_vote_cast_in_the_tick_that_says_everything_again_is_written_down_before_it_leaves() {
    let mut control = Control::restore(config(NODES, 5), START, &Restoration::fresh()).expect("a valid configuration");
    control.handle(START, Input::ReservationDurable(Slot(8)));
    control.handle(World::at_ms(10_000), Input::Tick);
    let (mut written, mut left) = (Vec::new(), 0);
    while let Some(output) = control.poll_output() {
        match output {
            Output::Record(Entry::Vote(payload)) => written.push(payload),
            Output::Broadcast(Message::Vote(vote)) => {
                assert!(written.contains(&vote.payload), "{:?} is not written down", vote.payload);
                left += 1;
            }
            _ => {}
        }
    }
    assert!(written.len() == 3 && left >= 3, "{written:?}, {left} left");
}

#[test]
fn a_disk_that_answers_late_holds_votes_back_and_nothing_else() {
    let setup = Setup { nodes: NODES, records: Records::Kept, disk_delay: Duration::from_secs(6), ..Setup::default() };
    let mut world = World::new(setup);
    world.run_until(World::at_ms(5_800));
    assert!(world.left.votes.is_empty() && world.left.slices.is_empty(), "nothing is reserved yet");
    world.run_until(World::at_ms(30_000));
    for node in 0..NODES {
        assert!(world.control(node).highest_finalized().slot > Slot(8), "node {node}");
    }
    assert_eq!(world.left.conflicts, [""; 0]);
}
