//! Hundreds to thousands of whole control cores in virtual time, spread over the world as Solana mainnet is: how long a
//! block takes to be spread, notarized and final, by the stake that has got so far.
//!
//! **What is real.** Every validator is a [`Control`](alpenglow_control::control::Control) with Votor, Pool, Blokstor,
//! production and repair; votes are signed and checked in the [`stand_in`](alpenglow_control::bls) scheme, slices are
//! encoded and hashed by the shredder, relays are those the sampler draws.
//!
//! **What is computed.** Shreds do not travel one by one. A relay has its shred one way after the leader sent it,
//! everybody else one way after that, and a slice is there with the gamma-th of its shreds. Validators of one place
//! hear a message at the same time: a broadcast is one event for each place. Nothing is lost. Without further options
//! nodes send and compute in no time, as in the white paper's own simulation (network delay only).

mod chart;
mod latencies;
mod network;
mod oracle;
pub mod report;
mod world;

use std::num::NonZero;
use std::time::Duration;

pub use self::report::Report;
use self::world::World;

/// Most validators of a simulation: as many as the protocol allows.
pub const VALIDATORS_MAX: usize = alpenglow_rotor::types::VALIDATORS_MAX;
/// Fewer cannot be spread over the places.
pub const VALIDATORS_MIN: usize = 4;

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leader {
    /// A validator drawn by stake for each window.
    Random,
    /// A validator of the place at this position of [`Metros`](super::mainnet::Metros), drawn by stake; if nobody is
    /// there, the smallest validator moves there first.
    Metro(usize),
}

/// What signatures are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Signatures {
    /// Numbers that cost nothing.
    #[default]
    StandIn,
    /// BLS12-381, as nodes do: for a few validators only.
    Curve,
}

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Study {
    /// [`VALIDATORS_MIN`] to [`VALIDATORS_MAX`].
    pub validators: usize,
    /// Slots from slot 1 on that are measured.
    pub slots: u64,
    /// Who leads.
    pub leader: Leader,
    /// Everything random follows from it.
    pub seed: u64,
    /// Stake in Europe in percent, if not as much as there is.
    pub europe_percent: Option<u8>,
    /// How fast each validator sends, in Mbit/s; as fast as it likes if `None`.
    pub egress_mbit: Option<NonZero<u32>>,
    /// How long each check of signatures takes.
    pub check: Duration,
    /// Bytes of transactions in each block.
    pub block_bytes: usize,
    /// What signatures are made of.
    pub signatures: Signatures,
}

impl Study {
    /// A study of mainnet's own delays, with small blocks.
    #[must_use]
    pub const fn new(validators: usize, slots: u64, leader: Leader, seed: u64) -> Self {
        Self {
            validators,
            slots,
            leader,
            seed,
            europe_percent: None,
            egress_mbit: None,
            check: Duration::ZERO,
            block_bytes: 16_000,
            signatures: Signatures::StandIn,
        }
    }

    /// Runs it until every validator has decided every slot, or it takes twice as long as it may.
    ///
    /// # Panics
    /// If `validators` is out of range or there are no slots.
    #[must_use]
    pub fn run(&self) -> Report {
        self.run_traced(|_| {})
    }

    /// As [`Self::run`], and gives every vote, certificate and decision in the order in which they come, a line each.
    ///
    /// # Panics
    /// As [`Self::run`].
    pub fn run_traced(&self, trace: impl FnMut(&dyn std::fmt::Display)) -> Report {
        assert!((VALIDATORS_MIN..=VALIDATORS_MAX).contains(&self.validators) && self.slots > 0);
        let mut world = World::new(self, trace);
        world.run();
        world.report()
    }
}
