//! What a run shall be, checked.

mod error;
mod flags;
#[cfg(test)]
pub(crate) mod tests;

use std::net::SocketAddr;
use std::num::NonZero;
use std::path::PathBuf;
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

pub(crate) use self::error::PlanError;
pub(crate) use self::flags::{CoreList, NodeAtSlot};

/// Slices that a block is cut into by time, with the default interval and the default block time. A longer block has
/// longer slices, not more of them: what all nodes have to do goes with their number.
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
