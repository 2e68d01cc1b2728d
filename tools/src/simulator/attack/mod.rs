//! Whole nodes' pure parts, shred by shred in virtual time, under attack: every delay and every fault comes from a
//! seed, and everything the nodes say is watched by oracles that know nothing of how they decide.
//!
//! - [`scenario`]: the kinds of runs, and what a seed makes of each: stakes, topology, [`fault`]s.
//! - `world`: one run. `node`s over a `network`, each with a `disk` and a `block_log`; `dissemination` is what shards
//!   do with shreds.
//! - `adversary`: what liars send in place of what their nodes say.
//! - `oracle`: the rules, restated; none of it comes from the code that decides.
//! - [`campaign`]: many runs, faults dropped from a run that fails until each is needed, and what [`happened`] in all.

mod adversary;
mod block_log;
pub mod campaign;
mod cluster;
mod disk;
mod dissemination;
pub mod fault;
pub mod happened;
mod network;
mod node;
mod oracle;
pub mod scenario;
mod world;
