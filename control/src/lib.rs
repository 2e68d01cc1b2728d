//! The pure part of consensus: no socket, file, thread, clock or random source in it.

mod assembly;
pub mod block;
pub mod blokstor;
pub mod bls;
pub mod certificate;
pub mod checker;
pub mod checking;
pub mod consensus;
pub mod control;
pub mod counters;
pub mod input;
pub mod message;
pub mod output;
mod pool;
pub mod production;
pub mod stakes;
mod standstill;
pub mod transactions;
pub mod vote;
pub mod voting_keys;
mod votor;
