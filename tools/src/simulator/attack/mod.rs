//! Whole nodes' pure parts, shred by shred in virtual time, under attack: every delay and every fault comes from a seed,
//! and everything the nodes say is watched by oracles that know nothing of how they decide.

pub mod campaign;
mod oracle;
pub mod scenario;
mod world;
