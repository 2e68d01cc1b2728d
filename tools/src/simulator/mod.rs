//! What the protocol does in worlds that this machine is not.

pub mod attack;
pub mod mainnet;
pub mod rotor_study;
pub mod samplings;
pub mod scale;
