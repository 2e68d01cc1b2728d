//! What a run shall be, checked.

use std::net::SocketAddr;
use std::num::NonZero;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use alpenglow_rotor::parameters::CodingParameters;
use alpenglow_rotor::schedule::EpochSeed;
use alpenglow_rotor::types::{Slot, Stake, ValidatorIndex};

use super::placement::Placement;
use super::table::thousands;
use crate::config::{Durability, EnginePolicy, KernelPolicy, NewConfig};
use crate::encoding::hex;
use crate::epoch_stakes::EpochParameters;
use crate::genesis::{ClusterParameters, ScheduleName};
use crate::new_cluster::NewValidator;

/// Slices that a block is cut into by time, with the default interval and the default block time. A longer block has longer
/// slices, not more of them: what all nodes have to do goes with their number.
const SLICES_PER_BLOCK: u64 = 40;
/// What a flooding node sends, in datagrams per second.
const FLOOD_PER_S: u32 = 10_000;

/// Slots between a late start and the end of the run: a window to start in, and two to catch up and vote.
const SLOTS_TO_JOIN: u64 = 12;

/// A run as ordered.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Number of validators.
    pub(crate) nodes: usize,
    /// The slots 1 to this are wanted.
    pub(crate) slots: u64,
    /// Load; 0 for none.
    pub(crate) transactions_per_s: u32,
    /// Bytes of each transaction.
    pub(crate) transaction_bytes: usize,
    /// delta_block; delta_timeout is three times that.
    pub(crate) block_time: Duration,
    /// Of each validator in epoch 0.
    pub(crate) stakes: Vec<Stake>,
    /// How long epochs are, and the stakes of later ones.
    pub(crate) epochs: EpochParameters,
    /// How leaders follow each other.
    pub(crate) schedule: ScheduleName,
    /// What leaders and relays are drawn from.
    pub(crate) seed: EpochSeed,
    /// Where the nodes' threads run.
    pub(crate) placement: Placement,
    /// How slices are cut.
    pub(crate) coding: CodingParameters,
    /// How the nodes talk to the kernel.
    pub(crate) engine: EnginePolicy,
    /// What the nodes compute the erasure code with.
    pub(crate) kernel: KernelPolicy,
    /// Most that each node sends, in Mbit/s; 0 for no limit.
    pub(crate) egress_mbit: u32,
    /// What nodes remember their votes through.
    pub(crate) durability: Durability,
    /// Whether nodes skip windows whose leaders show no sign of life.
    pub(crate) crashed_leader_timer: bool,
    /// Most of each node's block log; 0 for none.
    pub(crate) block_log_mib: u64,
    /// Whom to kill when.
    pub(crate) kills: Vec<NodeAtSlot>,
    /// Whom to start when: for the first time, or again after a kill.
    pub(crate) starts: Vec<NodeAtSlot>,
    /// Who never relays.
    pub(crate) silent_relays: Vec<u16>,
    /// Who drops every shred.
    pub(crate) drop_shreds: Vec<u16>,
    /// Who sends two versions of every own slice.
    pub(crate) equivocators: Vec<u16>,
    /// Who floods the others.
    pub(crate) floods: Vec<u16>,
    /// Nobody keeps a vote log.
    pub(crate) no_vote_log: bool,
    /// Folder for everything.
    pub(crate) out: PathBuf,
}

impl Plan {
    /// Checks what the flags name against the size of the run.
    ///
    /// # Errors
    /// [`PlanError`].
    pub(crate) fn check(&self) -> Result<(), PlanError> {
        let (nodes, slots, kills) = (self.nodes, self.slots, &self.kills);
        let killed = kills.iter().map(|kill| ("--kill", kill.node.0));
        let started = self.starts.iter().map(|start| ("--start", start.node.0));
        let silent = self.silent_relays.iter().map(|&index| ("--silent-relay", index));
        let dropping = self.drop_shreds.iter().map(|&index| ("--drop-shreds", index));
        let flooding = self.floods.iter().map(|&index| ("--flood", index));
        let equivocating = self.equivocators.iter().map(|&index| ("--equivocate", index));
        let named = killed.chain(started).chain(silent).chain(dropping).chain(flooding).chain(equivocating);
        for (flag, index) in named {
            if usize::from(index) >= nodes {
                return Err(PlanError::NoSuchNode { flag, index, nodes });
            }
        }
        for (position, kill) in kills.iter().enumerate() {
            if kill.slot == Slot::GENESIS || kill.slot.0 > slots {
                return Err(PlanError::KillSlot { node: kill.node.0, slot: kill.slot.0, slots });
            }
            if kills[..position].iter().any(|earlier| earlier.node == kill.node) {
                return Err(PlanError::KilledTwice(kill.node.0));
            }
        }
        let stays = |index: &u16| kills.iter().chain(&self.starts).all(|at| at.node.0 != *index);
        let takes_load = (0u16..).take(nodes).any(|index| stays(&index));
        if self.transactions_per_s > 0 && !takes_load {
            return Err(PlanError::NobodyStays);
        }
        if !(0u16..).take(nodes).map(ValidatorIndex).any(|node| self.starts_with_the_run(node)) {
            return Err(PlanError::NobodyBegins);
        }
        if self.no_vote_log && self.starts.iter().any(|start| self.is_restart(start)) {
            return Err(PlanError::RestartWithoutVoteLog);
        }
        self.check_starts()
    }

    /// Each node that is started late has to be there to be started: its slot has to be reached, with room after it.
    fn check_starts(&self) -> Result<(), PlanError> {
        let Self { starts, slots, .. } = self;
        for start in starts {
            let (node, slot) = (start.node.0, start.slot.0);
            if starts.iter().filter(|other| other.node == start.node).count() > 1 {
                return Err(PlanError::StartedTwice(node));
            }
            if slot == 0 || slot.saturating_add(SLOTS_TO_JOIN) > *slots {
                return Err(PlanError::StartSlot { node, slot, slots: *slots });
            }
            if self.kills.iter().any(|kill| kill == start) {
                return Err(PlanError::KilledAndStarted { node, slot });
            }
        }
        for start in starts.iter().filter(|start| !self.is_restart(start)) {
            let (running, total) = self.stake_before(start.slot);
            if 5 * running < 3 * total {
                let (node, slot) = (start.node.0, start.slot.0);
                return Err(PlanError::TooFewToReach { node, slot, running, total });
            }
        }
        Ok(())
    }

    /// Whether that starts a node again which was killed before.
    fn is_restart(&self, start: &NodeAtSlot) -> bool {
        self.kills.iter().any(|kill| kill.node == start.node && kill.slot < start.slot)
    }

    /// The starts that no slot leads to: the nodes that run until then decide nothing. They come at their slots' times.
    pub(crate) fn starts_by_time(&self) -> impl Iterator<Item = NodeAtSlot> {
        self.starts.iter().filter(|start| self.stands_still_before(start.slot)).copied()
    }

    /// Whom to start when `slot` is decided.
    pub(crate) fn starts_by_slot(&self, slot: Slot) -> impl Iterator<Item = ValidatorIndex> {
        let starts = self.starts.iter().filter(move |start| start.slot == slot);
        starts.filter(|start| !self.stands_still_before(start.slot)).map(|start| start.node)
    }

    fn stands_still_before(&self, slot: Slot) -> bool {
        let (running, total) = self.stake_before(slot);
        5 * running < 3 * total
    }

    /// The last slot of the run that `node` has stake in, if there is any.
    pub(crate) fn votes_through(&self, node: ValidatorIndex) -> Option<Slot> {
        let later = self.epochs.later.iter().map(|(epoch, stakes)| (epoch.saturating_mul(self.epochs.slots), stakes));
        let sets: Vec<(u64, &Vec<Stake>)> = std::iter::once((0, &self.stakes)).chain(later).collect();
        let ends = sets[1..].iter().map(|(first, _)| first.saturating_sub(1)).chain([u64::MAX]);
        let of_node = sets.iter().zip(ends).filter(|((first, stakes), _)| {
            *first <= self.slots && stakes.get(node.get()).is_some_and(|stake| *stake > Stake(0))
        });
        of_node.map(|(_, end)| Slot(end.min(self.slots))).max()
    }

    /// The stake of the nodes that run when `slot` is about to be decided, and all stake.
    fn stake_before(&self, slot: Slot) -> (u128, u128) {
        let epoch = slot.0 / self.epochs.slots;
        let later = self.epochs.later.iter().rev().find(|(first_epoch, _)| *first_epoch <= epoch);
        let stakes = later.map_or(&self.stakes, |(_, stakes)| stakes);
        let by_then = |events: &[NodeAtSlot], node| {
            let slots = events.iter().filter(|at| at.node == node && at.slot < slot).map(|at| at.slot);
            slots.max()
        };
        let runs = |node| match (by_then(&self.starts, node), by_then(&self.kills, node)) {
            (start, Some(kill)) => start.is_some_and(|start| start > kill),
            (start, None) => start.is_some() || self.starts_with_the_run(node),
        };
        let sum = |counts: &dyn Fn(ValidatorIndex) -> bool| -> u128 {
            let stakes = (0u16..).map(ValidatorIndex).zip(stakes);
            stakes.filter(|(node, _)| counts(*node)).map(|(_, stake)| u128::from(stake.0)).sum()
        };
        (sum(&runs), sum(&|_| true))
    }

    /// Whether a node is there from the beginning.
    pub(crate) fn starts_with_the_run(&self, node: ValidatorIndex) -> bool {
        self.starts.iter().all(|start| start.node != node || self.is_restart(start))
    }

    /// The run in a line.
    pub(crate) fn title(&self) -> String {
        let load = match self.transactions_per_s {
            0 => "no load".to_owned(),
            rate => format!("{} transactions/s of {} bytes", thousands(rate.into()), self.transaction_bytes),
        };
        let (nodes, slots, block_ms) = (self.nodes, self.slots, self.block_time.as_millis());
        format!("Alpenglow cluster: {nodes} nodes on this host, {slots} slots of {block_ms} ms, {load}")
    }

    /// What the validators agree on, with a first slot that starts at `start_time`.
    pub(crate) fn parameters(&self, start_time: SystemTime) -> ClusterParameters {
        ClusterParameters {
            schedule: self.schedule,
            seed: self.seed,
            epochs: self.epochs.clone(),
            coding: self.coding,
            delta_block: self.block_time,
            delta_timeout: 3 * self.block_time,
            start_time,
        }
    }

    /// The validators, each at one of `addresses`.
    pub(crate) fn validators(&self, addresses: &[SocketAddr]) -> Vec<NewValidator> {
        let validators = addresses.iter().zip(&self.stakes).zip(0u16..).map(|((&address, &stake), index)| {
            let mut config = NewConfig::at(address);
            self.placement.apply(index.into(), &mut config);
            let slice_interval_ms = self.block_time.as_millis() as u64 / SLICES_PER_BLOCK;
            config.slice_interval_ms = config.slice_interval_ms.max(slice_interval_ms);
            config.engine = self.engine;
            config.kernel = self.kernel;
            config.egress_mbit = self.egress_mbit;
            config.durability = self.durability;
            config.crashed_leader_timer = self.crashed_leader_timer;
            // All load comes from one address, and after kills to the nodes that are left.
            if let Some(rate) = NonZero::new(self.transactions_per_s) {
                config.clients.of_source_per_s = config.clients.of_source_per_s.max(rate);
                config.clients.total_per_s = config.clients.total_per_s.max(rate);
            }
            config.block_log_mib = self.block_log_mib;
            // Keys made for one run are no secret, and who runs it may want to profile.
            config.debuggable = true;
            config.silent_relay = self.silent_relays.contains(&index);
            config.drop_shreds = self.drop_shreds.contains(&index);
            config.equivocate = self.equivocators.contains(&index);
            if self.floods.contains(&index) {
                config.flood_per_s = FLOOD_PER_S;
            }
            NewValidator { stake, config }
        });
        validators.collect()
    }

    /// The run as the object `config` of its outcome.
    pub(crate) fn describe(&self) -> serde_json::Value {
        let written = |at: &NodeAtSlot| format!("{}@{}", at.node.0, at.slot);
        let kills: Vec<String> = self.kills.iter().map(written).collect();
        let starts: Vec<String> = self.starts.iter().map(written).collect();
        let epochs = self.epochs.later.iter().map(|(first_epoch, stakes)| {
            let stakes: Vec<u64> = stakes.iter().map(|stake| stake.0).collect();
            serde_json::json!({ "first_epoch": first_epoch, "stakes": stakes })
        });
        let epochs: Vec<_> = epochs.collect();
        serde_json::json!({
            "nodes": self.nodes,
            "slots": self.slots,
            "tx_rate": self.transactions_per_s,
            "tx_size": self.transaction_bytes,
            "block_ms": self.block_time.as_millis() as u64,
            "stakes": self.stakes.iter().map(|stake| stake.0).collect::<Vec<_>>(),
            "epoch_slots": self.epochs.slots,
            "epochs": epochs,
            "schedule": self.schedule,
            "seed": hex(&self.seed.0),
            "placement": self.placement.describe(),
            "coding": {
                "code": self.coding.code().name(),
                "data_shreds": self.coding.data_shreds(),
                "total_shreds": self.coding.total_shreds(),
                "shred_bytes": self.coding.shred_bytes(),
                "datagram_bytes": self.coding.datagram_bytes(),
            },
            "engine": self.engine.kind().name(),
            "kernel": self.kernel.name(),
            "egress_mbit": self.egress_mbit,
            "durability": self.durability.name(),
            "crashed_leader_timer": self.crashed_leader_timer,
            "block_log_mib": self.block_log_mib,
            "kill": kills,
            "start": starts,
            "silent_relay": self.silent_relays,
            "drop_shreds": self.drop_shreds,
            "equivocate": self.equivocators,
            "flood": self.floods,
            "no_vote_log": self.no_vote_log,
            "out": self.out,
        })
    }
}

/// Something that shall be done to a node as soon as any node has decided a slot. Written `I@SLOT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeAtSlot {
    /// To whom.
    pub(crate) node: ValidatorIndex,
    /// When.
    pub(crate) slot: Slot,
}

/// Text that names no node and slot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected INDEX@SLOT, as in 4@12: node 4, when the first node decides slot 12")]
pub(crate) struct NodeAtSlotError;

impl FromStr for NodeAtSlot {
    type Err = NodeAtSlotError;

    fn from_str(text: &str) -> Result<Self, NodeAtSlotError> {
        let (node, slot) = text.split_once('@').ok_or(NodeAtSlotError)?;
        Ok(Self {
            node: ValidatorIndex(node.parse().map_err(|_| NodeAtSlotError)?),
            slot: Slot(slot.parse().map_err(|_| NodeAtSlotError)?),
        })
    }
}

/// Processor cores, written as numbers and ranges: `0,2-4`. In the order given; not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CoreList(pub(crate) Vec<usize>);

/// Text that is no list of cores.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected core numbers below {CORES_MAX} and ranges of them, as in 0,2-4")]
pub(crate) struct CoreListError;

/// More cores than any host has; bounds what a range can ask for.
const CORES_MAX: usize = 4_096;

impl FromStr for CoreList {
    type Err = CoreListError;

    fn from_str(text: &str) -> Result<Self, CoreListError> {
        let number = |text: &str| text.parse().ok().filter(|core| *core < CORES_MAX).ok_or(CoreListError);
        let mut cores = Vec::new();
        for part in text.split(',') {
            let (from, through) = match part.split_once('-') {
                Some((from, through)) => (number(from)?, number(through)?),
                None => (number(part)?, number(part)?),
            };
            if from > through || (from..=through).any(|core| cores.contains(&core)) {
                return Err(CoreListError);
            }
            cores.extend(from..=through);
        }
        Ok(Self(cores))
    }
}

/// A plan that cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlanError {
    /// An index that no node has.
    #[error("{flag}: there is no node {index}, the nodes are 0 to {}", nodes - 1)]
    NoSuchNode {
        /// The flag.
        flag: &'static str,
        /// The index given.
        index: u16,
        /// How many nodes there are.
        nodes: usize,
    },
    /// A kill at a slot that the run does not wait for.
    #[error("--kill {node}@{slot}: the run has slots 1 to {slots}")]
    KillSlot {
        /// Whom.
        node: u16,
        /// When.
        slot: u64,
        /// The run's last slot.
        slots: u64,
    },
    /// A node killed twice.
    #[error("--kill: node {0} is named twice")]
    KilledTwice(u16),
    /// Nobody is there all the time.
    #[error(
        "--kill, --start: transactions go to nodes that run from the beginning to the end: leave one out, or give \
         --tx-rate 0"
    )]
    NobodyStays,
    /// Nobody is there at the beginning.
    #[error("--start: one node at least must run from the beginning: leave one out")]
    NobodyBegins,
    /// A node would forget its votes.
    #[error(
        "--no-vote-log: a node that is started again without its vote log signs twice; leave out --start after --kill"
    )]
    RestartWithoutVoteLog,
    /// A start that the run does not reach, or too near to its end.
    #[error(
        "--start {node}@{slot}: a node needs {SLOTS_TO_JOIN} slots to catch up and vote, and the run has slots 1 to \
         {slots}: name an earlier slot, or raise --slots"
    )]
    StartSlot {
        /// Whom.
        node: u16,
        /// When.
        slot: u64,
        /// The run's last slot.
        slots: u64,
    },
    /// A node started twice.
    #[error("--start: node {0} is named twice")]
    StartedTwice(u16),
    /// A node that is killed and started at once.
    #[error("--kill {node}@{slot} --start {node}@{slot}: say which comes first by another slot for one of them")]
    KilledAndStarted {
        /// Whom.
        node: u16,
        /// When.
        slot: u64,
    },
    /// The cluster would stand still before the start.
    #[error(
        "--start {node}@{slot}: the nodes that run until then hold {running} of {total} of the stake, and less than \
         60% decide no slot: start or keep alive more of them, or give them more with --stakes"
    )]
    TooFewToReach {
        /// Whom.
        node: u16,
        /// When.
        slot: u64,
        /// Stake that runs until then.
        running: u128,
        /// All of it.
        total: u128,
    },
}

#[cfg(test)]
pub(crate) mod tests {
    use std::num::NonZero;

    use super::*;
    use crate::config::PollPolicy;

    /// The default run.
    pub(crate) fn plan() -> Plan {
        Plan {
            nodes: 5,
            slots: 40,
            transactions_per_s: 2_000,
            transaction_bytes: 512,
            block_time: Duration::from_millis(400),
            stakes: vec![Stake(1); 5],
            epochs: EpochParameters::default(),
            schedule: ScheduleName::RoundRobin,
            seed: EpochSeed([7; 32]),
            placement: Placement::plan(5, NonZero::<usize>::MIN, None, PollPolicy::Auto, &[0]).unwrap(),
            coding: CodingParameters::default(),
            engine: EnginePolicy::IoUring,
            kernel: KernelPolicy::Auto,
            egress_mbit: 0,
            durability: Durability::default(),
            crashed_leader_timer: false,
            block_log_mib: 1_024,
            kills: Vec::new(),
            starts: Vec::new(),
            silent_relays: Vec::new(),
            drop_shreds: Vec::new(),
            equivocators: Vec::new(),
            floods: Vec::new(),
            no_vote_log: false,
            out: "runs/1".into(),
        }
    }

    fn at(node: u16, slot: u64) -> NodeAtSlot {
        NodeAtSlot { node: ValidatorIndex(node), slot: Slot(slot) }
    }

    #[test]
    fn kills_and_starts_are_index_at_slot() {
        assert_eq!("4@12".parse(), Ok(at(4, 12)));
        assert_eq!("0@18446744073709551615".parse(), Ok(at(0, u64::MAX)));
        for text in [
            "",
            "@",
            "4",
            "4@",
            "@12",
            "-1@12",
            "4@-2",
            "4@12@1",
            "70000@1",
            " 4@12",
            "four@1",
            "4@18446744073709551616",
        ] {
            assert_eq!(text.parse::<NodeAtSlot>(), Err(NodeAtSlotError), "{text:?}");
        }
    }

    #[test]
    fn core_lists_are_numbers_and_ranges() {
        assert_eq!("0,2-4,1".parse(), Ok(CoreList(vec![0, 2, 3, 4, 1])));
        for text in ["", ",", "1,", "3-1", "a", "0-", "1,1", "0-3,2", "5000", "0-99999999999"] {
            assert_eq!(text.parse::<CoreList>(), Err(CoreListError), "{text:?}");
        }
    }

    #[test]
    fn a_node_can_vote_through_the_last_epoch_that_it_is_a_member_of() {
        let stakes = |of: [u64; 3]| of.map(Stake).to_vec();
        let later = vec![(2, stakes([0, 1, 0])), (4, stakes([1, 1, 0])), (9, stakes([1, 1, 1]))];
        let plan = Plan { stakes: stakes([1, 1, 1]), epochs: EpochParameters { slots: 8, later }, slots: 40, ..plan() };
        let through = [0, 1, 2, 3].map(|node| plan.votes_through(ValidatorIndex(node)));
        assert_eq!(through, [Some(Slot(40)), Some(Slot(40)), Some(Slot(15)), None]);
    }

    #[test]
    fn what_names_no_node_or_no_slot_of_the_run_is_refused() {
        let check = |nodes, kills: &[NodeAtSlot], silent: &[u16]| {
            Plan { nodes, kills: kills.to_vec(), silent_relays: silent.to_vec(), ..plan() }.check()
        };
        assert_eq!(check(5, &[at(4, 12), at(3, 40)], &[0, 1]), Ok(()));
        assert_eq!(check(5, &[at(5, 1)], &[]), Err(PlanError::NoSuchNode { flag: "--kill", index: 5, nodes: 5 }));
        let silent = check(5, &[], &[9]);
        assert_eq!(silent, Err(PlanError::NoSuchNode { flag: "--silent-relay", index: 9, nodes: 5 }));
        let dropping = Plan { drop_shreds: vec![5], ..plan() }.check();
        assert_eq!(dropping, Err(PlanError::NoSuchNode { flag: "--drop-shreds", index: 5, nodes: 5 }));
        let equivocating = Plan { equivocators: vec![6], ..plan() }.check();
        assert_eq!(equivocating, Err(PlanError::NoSuchNode { flag: "--equivocate", index: 6, nodes: 5 }));
        assert!(matches!(check(5, &[at(1, 0)], &[]), Err(PlanError::KillSlot { .. })));
        assert!(matches!(check(5, &[at(1, 41)], &[]), Err(PlanError::KillSlot { .. })));
        assert_eq!(check(5, &[at(1, 1), at(1, 2)], &[]), Err(PlanError::KilledTwice(1)));
        assert_eq!(check(2, &[at(0, 1), at(1, 2)], &[]), Err(PlanError::NobodyStays));
        let nobody = Plan { transactions_per_s: 0, kills: vec![at(0, 1), at(1, 2)], nodes: 2, ..plan() };
        assert_eq!(nobody.check(), Ok(()));
    }

    #[test]
    fn late_starts_that_cannot_work_are_refused_with_the_fix() {
        let check = |kills: &[NodeAtSlot], starts: &[NodeAtSlot]| {
            Plan { kills: kills.to_vec(), starts: starts.to_vec(), ..plan() }.check()
        };
        assert_eq!(check(&[], &[at(4, 12), at(3, 28)]), Ok(()));
        assert_eq!(check(&[at(4, 13)], &[at(4, 12)]), Ok(()), "killed after it was started");
        assert_eq!(check(&[], &[at(5, 1)]), Err(PlanError::NoSuchNode { flag: "--start", index: 5, nodes: 5 }));
        for slot in [0, 29, u64::MAX] {
            assert_eq!(check(&[], &[at(1, slot)]), Err(PlanError::StartSlot { node: 1, slot, slots: 40 }));
        }
        assert_eq!(check(&[], &[at(1, 2), at(1, 3)]), Err(PlanError::StartedTwice(1)));
        assert_eq!(check(&[at(4, 3)], &[at(4, 12)]), Ok(()), "started again");
        let refused = Err(PlanError::KilledAndStarted { node: 4, slot: 12 });
        assert_eq!(check(&[at(4, 12)], &[at(4, 12)]), refused);
        let everybody: Vec<NodeAtSlot> = (0..5).map(|node| at(node, 5)).collect();
        assert_eq!(check(&[], &everybody), Err(PlanError::NobodyStays));
        assert_eq!(check(&everybody[..2], &everybody[2..]), Err(PlanError::NobodyStays));
        let too_few = |node, slot, running| Err(PlanError::TooFewToReach { node, slot, running, total: 5 });
        assert_eq!(check(&[], &everybody[..3]), too_few(0, 5, 2));
        assert_eq!(check(&[at(0, 4), at(1, 4)], &[at(4, 5)]), too_few(4, 5, 2));
        assert_eq!(check(&[at(0, 8), at(1, 8)], &[at(4, 5), at(3, 9)]), too_few(3, 9, 2));
        assert_eq!(check(&[at(0, 4)], &[at(4, 5), at(3, 4)]), Ok(()));
        let nobody = Plan { transactions_per_s: 0, starts: everybody, ..plan() };
        assert_eq!(nobody.check(), Err(PlanError::NobodyBegins));
    }

    #[test]
    fn without_vote_logs_nobody_is_started_again() {
        let without = |starts| Plan { no_vote_log: true, kills: vec![at(4, 3)], starts, ..plan() }.check();
        assert_eq!(without(vec![at(3, 9)]), Ok(()));
        assert_eq!(without(vec![at(4, 9)]), Err(PlanError::RestartWithoutVoteLog));
    }

    #[test]
    fn nodes_that_were_killed_are_started_by_slot_or_where_no_slot_is_decided_by_time() {
        let kills: Vec<NodeAtSlot> = (0..5).map(|node| at(node, 8)).collect();
        let starts: Vec<NodeAtSlot> = (0..5).map(|node| at(node, 16 + u64::from(node))).collect();
        let plan = |count: usize| {
            let (kills, starts) = (kills[..count].to_vec(), starts[..count].to_vec());
            Plan { transactions_per_s: 0, kills, starts, ..plan() }
        };
        for (count, by_time) in [(1, vec![]), (2, vec![]), (3, vec![0]), (5, vec![0, 1, 2])] {
            let plan = plan(count);
            assert_eq!(plan.check(), Ok(()));
            assert!((0..5).map(ValidatorIndex).all(|node| plan.starts_with_the_run(node)));
            let found: Vec<u16> = plan.starts_by_time().map(|start| start.node.0).collect();
            assert_eq!(found, by_time, "{count} killed");
        }
    }

    #[test]
    fn configs_have_silent_relays_engine_and_kernel_and_stakes_are_in_order() {
        let stakes = vec![Stake(9), Stake(1), Stake(2), Stake(3), Stake(4)];
        let (silent_relays, kernel) = (vec![1, 4], KernelPolicy::Portable);
        let engine = EnginePolicy::Syscalls;
        let plan = Plan { silent_relays, drop_shreds: vec![2], engine, kernel, stakes: stakes.clone(), ..plan() };
        let addresses: Vec<SocketAddr> = (1..=5).map(|port| ([127, 0, 0, 1], port).into()).collect();
        let validators = plan.validators(&addresses);
        let silent: Vec<bool> = validators.iter().map(|validator| validator.config.silent_relay).collect();
        assert_eq!(silent, [false, true, false, false, true]);
        let dropping: Vec<bool> = validators.iter().map(|validator| validator.config.drop_shreds).collect();
        assert_eq!(dropping, [false, false, true, false, false]);
        assert!(
            validators.iter().all(|validator| (validator.config.engine, validator.config.kernel) == (engine, kernel))
        );
        assert_eq!(validators.iter().map(|validator| validator.stake).collect::<Vec<_>>(), stakes);
        assert_eq!(validators.iter().map(|validator| validator.config.bind).collect::<Vec<_>>(), addresses);
    }

    #[test]
    fn the_outcome_tells_how_to_run_it_again() {
        let config = Plan { kills: vec![at(4, 12)], starts: vec![at(3, 7)], ..plan() }.describe();
        assert_eq!((&config["seed"], &config["kill"][0]), (&"07".repeat(32).into(), &"4@12".into()));
        assert_eq!(config["start"][0], "3@7");
        assert_eq!((&config["slots"], &config["schedule"]), (&40.into(), &"round-robin".into()));
    }
}
