//! Kinds of runs: what goes wrong in them, and what must have happened for them to show anything.

mod draft;
mod plans;

use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use self::draft::Draft;
use super::cluster::{Scheme, StakeTable};
use super::fault::{Fault, Nodes};
use super::happened::Happened;
use super::network::Topology;

/// A kind of run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// Nothing goes wrong, blocks have many slices, and every signature is checked
    Calm,
    /// Up to a fifth of the stake crashes for good, a node at a time
    Crashes,
    /// Partitions, pauses, losses, doubled and reordered datagrams, which end
    Partitions,
    /// Leaders sign two versions of their blocks, and the network shows them to different halves
    Equivocation,
    /// Leaders send too few shreds
    Withholding,
    /// Leaders send just when others give up
    LateLeaders,
    /// Leaders build on parents that they must not build on, and on ones that are not ready
    Parents,
    /// Relays are silent; votes reach only some, contradict each other, or are spam; certificates are short
    Voters,
    /// The network holds back shreds and votes so that the stake splits, and liars vote differently to each side
    Split,
    /// Blocks must be repaired, and some lie in repair
    Repair,
    /// Nodes crash at any moment and start again
    Restarts,
    /// All nodes crash at once, in the midst of what they say, and start again
    MassCrashes,
    /// Machines lose their power, and their nodes start again without the end of their logs
    PowerLosses,
    /// Most machines lose their power at once, and logs that were synced let their nodes go on where they were
    PowerOutages,
    /// Clocks drift, and what is sent queues up
    Clocks,
    /// Members and stakes change with the epochs
    Epochs,
    /// A fifth of the stake lies in all ways, another fifth crashes, and the network is bad
    Everything,
}

/// What a run is made of besides its faults.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) stakes: StakeTable,
    pub(super) topology: Topology,
    pub(super) transactions_per_second: u64,
    /// Longest time for a reservation to be on disk.
    pub(super) disk_us_max: u64,
    /// Whether votes' logs outlive a power loss.
    pub(super) synced_logs: bool,
    /// What votes are signed with.
    pub(super) scheme: Scheme,
    pub(super) standstill_interval: Duration,
    /// Whether nodes keep block logs.
    pub(super) keeps_blocks: bool,
    /// Who has a crashed-leader timer.
    pub(super) crashed_leader_timers: Nodes,
    /// Whether nobody has a reason to skip a slot if there are no faults.
    pub(super) is_calm: bool,
    /// When all faults that end have ended.
    pub(super) healed_ms: u64,
}

impl Scenario {
    /// What votes are signed with: what nodes use in one scenario, something cheaper in the others.
    pub(super) fn scheme(self) -> Scheme {
        if self == Self::Calm { Scheme::Curve } else { Scheme::StandIn }
    }

    /// What a seed makes of it, for so many validators.
    pub(super) fn plan(self, seed: u64, nodes: usize) -> (Plan, Vec<Fault>) {
        let mut draft = Draft::new(seed, nodes);
        let topology = draft.one_of(&[Topology::Uniform, Topology::Matrix, Topology::Matrix, Topology::Mainnet]);
        let standstill_interval = Duration::from_secs(draft.one_of(&[3, 3, 10]));
        if !matches!(self, Self::Calm | Self::Crashes) {
            draft.uneven();
        }
        if self.may_change_epochs() && draft.below(4) == 0 {
            draft.epochs(12, 3);
        }
        let mut plan = Plan {
            stakes: draft.table.clone(),
            topology,
            transactions_per_second: 0,
            disk_us_max: 5_000,
            synced_logs: false,
            scheme: self.scheme(),
            standstill_interval,
            keeps_blocks: false,
            crashed_leader_timers: Nodes::default(),
            is_calm: self == Self::Calm,
            healed_ms: 6_400,
        };
        let faults = plans::faults(self, &mut draft, &mut plan);
        let percents: &[u64] = if self == Self::Crashes { &[50, 100] } else { &[0, 50, 100] };
        let percent = draft.one_of(percents);
        plan.crashed_leader_timers = draft.share(percent);
        plan.keeps_blocks = self == Self::MassCrashes || draft.below(4) > 0;
        plan.stakes = draft.table;
        (plan, faults)
    }

    /// Whether members and stakes change in some of the runs.
    const fn may_change_epochs(self) -> bool {
        matches!(
            self,
            Self::Voters
                | Self::Split
                | Self::Repair
                | Self::Restarts
                | Self::MassCrashes
                | Self::PowerLosses
                | Self::Everything
        )
    }

    /// What a run of this kind is for: none of it may never have happened.
    #[must_use]
    pub const fn purpose(self) -> &'static [&'static str] {
        match self {
            Self::Calm => &["fast_finalizations"],
            Self::Crashes => &["process_crashes", "slow_finalizations", "skipped_slots", "windows_given_up_early"],
            Self::Partitions => &[
                "datagrams_cut_off",
                "datagrams_lost",
                "datagrams_doubled",
                "datagrams_reordered",
                "delayed_by_pauses",
                "skipped_slots",
                "repaired_blocks",
                "standstills",
            ],
            Self::Equivocation => {
                &["slices_equivocated", "equivocations_seen", "notar_fallback_votes", "skip_fallback_votes"]
            }
            Self::Withholding => &["slices_withheld", "skipped_slots"],
            Self::LateLeaders => &["slices_late", "notar_fallback_votes", "skip_fallback_votes"],
            Self::Parents => &["wrong_parents_stated", "dead_blocks", "skipped_slots", "parents_changed"],
            Self::Voters => &[
                "relays_silent",
                "votes_held_back",
                "votes_doubled",
                "conflicts_proven",
                "fallback_spam",
                "short_certificates",
            ],
            Self::Split => &[
                "shreds_held_back",
                "messages_held_back",
                "votes_split",
                "notar_fallback_votes",
                "skip_fallback_votes",
                "slow_finalizations",
                "skipped_slots",
            ],
            Self::Repair => &[
                "repair_requests",
                "repair_lies",
                "repaired_blocks",
                "ancestors_named",
                "ancestors_falsified",
                "logged_blocks_lost",
                "lost_blocks_found",
            ],
            Self::Restarts => &["process_crashes", "restarts", "repaired_blocks"],
            Self::MassCrashes => &[
                "process_crashes",
                "restarts",
                "held_blocks_found",
                "blocks_read",
                "logged_blocks_lost",
                "lost_blocks_found",
            ],
            Self::PowerLosses => &["power_losses", "restarts", "logs_lost"],
            Self::PowerOutages => &["power_losses", "restarts", "votes_within_reservation"],
            Self::Clocks => &["datagrams_queued", "fast_finalizations"],
            Self::Epochs => &["epochs_passed", "process_crashes", "skipped_slots", "slow_finalizations"],
            Self::Everything => &[
                "datagrams_cut_off",
                "restarts",
                "epochs_passed",
                "process_crashes",
                "notar_fallback_votes",
                "skip_fallback_votes",
                "repaired_blocks",
                "slow_finalizations",
                "skipped_slots",
                "repair_lies",
                "votes_split",
                "slices_equivocated",
            ],
        }
    }

    /// What of it never happened.
    #[must_use]
    pub fn missing(self, happened: &Happened) -> Vec<&'static str> {
        self.purpose().iter().copied().filter(|what| happened.times(what) == 0).collect()
    }
}
