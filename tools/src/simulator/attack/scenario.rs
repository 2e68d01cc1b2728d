//! What goes wrong in a run: lists of faults, each of which can be left out alone.

use clap::ValueEnum;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::Serialize;

/// All faults that end have ended by then, in milliseconds since the start.
pub(super) const HEALED_MS: u64 = 8_000;

/// One thing that goes wrong. Nodes are validator indices, times are milliseconds since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The node stops and never comes back.
    Crash {
        /// Who.
        node: usize,
        /// When.
        at_ms: u64,
    },
    /// Nodes below `below` and the others do not hear each other.
    Partition {
        /// The first node of the second group.
        below: usize,
        /// From when.
        from_ms: u64,
        /// Until when.
        to_ms: u64,
    },
    /// What reaches the node waits, and so do its timers.
    Pause {
        /// Who.
        node: usize,
        /// From when.
        from_ms: u64,
        /// Until when.
        to_ms: u64,
    },
    /// This share of all datagrams is lost.
    Loss {
        /// How many of a hundred.
        percent: u64,
        /// From when.
        from_ms: u64,
        /// Until when.
        to_ms: u64,
    },
    /// The node signs two versions of each slice, one for every other relay.
    Equivocate {
        /// Who.
        node: usize,
    },
    /// The node sends of each slice one shred fewer than it can be rebuilt from.
    Withhold {
        /// Who.
        node: usize,
    },
    /// The node's slices leave this much later than they should.
    Late {
        /// Who.
        node: usize,
        /// How much.
        by_ms: u64,
    },
    /// The node relays nothing.
    SilentRelay {
        /// Who.
        node: usize,
    },
    /// The node's votes reach only validators with even indices.
    SelectiveVote {
        /// Who.
        node: usize,
    },
    /// The node signs a skip vote beside each notar vote, and the other way round.
    DoubleVote {
        /// Who.
        node: usize,
    },
}

impl Fault {
    /// The node that breaks the protocol with it; a node that crashed does not.
    pub(super) const fn liar(&self) -> Option<usize> {
        match *self {
            Self::Crash { .. } | Self::Partition { .. } | Self::Pause { .. } | Self::Loss { .. } => None,
            Self::Equivocate { node }
            | Self::Withhold { node }
            | Self::Late { node, .. }
            | Self::SilentRelay { node }
            | Self::SelectiveVote { node }
            | Self::DoubleVote { node } => Some(node),
        }
    }
}

/// A kind of run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// Nothing goes wrong, and every signature is checked
    Calm,
    /// A quarter of the stake crashes, a node at a time
    Crashes,
    /// Partitions, pauses and losses, which end
    Partitions,
    /// Leaders sign two versions of their blocks
    Equivocation,
    /// Leaders send too few shreds
    Withholding,
    /// Leaders send just when others give up
    LateLeaders,
    /// Relays are silent, and votes reach only some or contradict each other
    Voters,
}

/// What was counted in runs: how often each thing really happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "their names say it")]
pub struct Happened {
    pub events: u64,
    pub fast_finalizations: u64,
    pub slow_finalizations: u64,
    pub skipped_slots: u64,
    pub notar_fallback_votes: u64,
    pub skip_fallback_votes: u64,
    pub repaired_blocks: u64,
    pub certificates_checked: u64,
    pub crashes: u64,
    pub datagrams_cut_off: u64,
    pub datagrams_lost: u64,
    pub pauses: u64,
    pub slices_equivocated: u64,
    pub equivocations_seen: u64,
    pub slices_withheld: u64,
    pub slices_late: u64,
    pub relays_silent: u64,
    pub votes_held_back: u64,
    pub votes_doubled: u64,
}

impl Happened {
    pub(super) fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.fast_finalizations += other.fast_finalizations;
        self.slow_finalizations += other.slow_finalizations;
        self.skipped_slots += other.skipped_slots;
        self.notar_fallback_votes += other.notar_fallback_votes;
        self.skip_fallback_votes += other.skip_fallback_votes;
        self.repaired_blocks += other.repaired_blocks;
        self.certificates_checked += other.certificates_checked;
        self.crashes += other.crashes;
        self.datagrams_cut_off += other.datagrams_cut_off;
        self.datagrams_lost += other.datagrams_lost;
        self.pauses += other.pauses;
        self.slices_equivocated += other.slices_equivocated;
        self.equivocations_seen += other.equivocations_seen;
        self.slices_withheld += other.slices_withheld;
        self.slices_late += other.slices_late;
        self.relays_silent += other.relays_silent;
        self.votes_held_back += other.votes_held_back;
        self.votes_doubled += other.votes_doubled;
    }
}

impl Scenario {
    /// The faults of one run with `nodes` validators of equal stake. Liars are the most nodes below a fifth.
    #[must_use]
    pub fn faults(self, seed: u64, nodes: usize) -> Vec<Fault> {
        let mut random = ChaCha8Rng::seed_from_u64(seed ^ 0x6661_756c_7473);
        let mut below = |limit: u64| random.next_u64() % limit;
        // Leaders take turns: these lead one of the first windows.
        let first = 1 + below(3) as usize;
        let chosen = |count: usize| (0..count).map(move |index| (first + index) % nodes);
        let liars = (nodes - 1) / 5;
        match self {
            Self::Calm => Vec::new(),
            Self::Crashes => chosen(nodes / 4).map(|node| Fault::Crash { node, at_ms: below(2_500) }).collect(),
            Self::Partitions => {
                let from_ms = below(3_000);
                // Every other run leaves a majority that goes on without the others.
                let middle =
                    if seed.is_multiple_of(2) { 1 + below(nodes as u64 / 5) } else { 2 + below(nodes as u64 - 3) };
                let cut = Fault::Partition { below: middle as usize, from_ms, to_ms: from_ms + 1_500 + below(3_500) };
                let loss = Fault::Loss { percent: 1 + below(15), from_ms: below(2_000), to_ms: HEALED_MS };
                let pause = |node, from_ms| Fault::Pause { node, from_ms, to_ms: from_ms + 2_000 };
                vec![cut, loss, pause(first, below(4_000)), pause((first + 1) % nodes, below(4_000))]
            }
            Self::Equivocation => chosen(liars).map(|node| Fault::Equivocate { node }).collect(),
            Self::Withholding => chosen(liars).map(|node| Fault::Withhold { node }).collect(),
            Self::LateLeaders => chosen(liars).map(|node| Fault::Late { node, by_ms: 1_100 + below(60) }).collect(),
            Self::Voters => {
                let kinds =
                    |node| [Fault::SilentRelay { node }, Fault::SelectiveVote { node }, Fault::DoubleVote { node }];
                chosen(liars).flat_map(kinds).collect()
            }
        }
    }

    /// What a run of this kind is for and how often it happened: none of it may be 0.
    #[must_use]
    pub fn purpose(self, happened: &Happened) -> Vec<(&'static str, u64)> {
        match self {
            Self::Calm => vec![("fast_finalizations", happened.fast_finalizations)],
            Self::Crashes => vec![
                ("crashes", happened.crashes),
                ("slow_finalizations", happened.slow_finalizations),
                ("skipped_slots", happened.skipped_slots),
            ],
            Self::Partitions => vec![
                ("datagrams_cut_off", happened.datagrams_cut_off),
                ("datagrams_lost", happened.datagrams_lost),
                ("pauses", happened.pauses),
                ("skipped_slots", happened.skipped_slots),
                ("repaired_blocks", happened.repaired_blocks),
            ],
            Self::Equivocation => vec![
                ("slices_equivocated", happened.slices_equivocated),
                ("equivocations_seen", happened.equivocations_seen),
            ],
            Self::Withholding => {
                vec![("slices_withheld", happened.slices_withheld), ("skipped_slots", happened.skipped_slots)]
            }
            Self::LateLeaders => vec![
                ("slices_late", happened.slices_late),
                ("notar_fallback_votes", happened.notar_fallback_votes),
                ("skip_fallback_votes", happened.skip_fallback_votes),
            ],
            Self::Voters => vec![
                ("relays_silent", happened.relays_silent),
                ("votes_held_back", happened.votes_held_back),
                ("votes_doubled", happened.votes_doubled),
            ],
        }
    }
}
