//! The pure part of consensus: no socket, file, thread, clock or random source in it.

mod assembly;
pub mod block;
pub mod blokstor;
pub mod bls;
pub mod certificate;
pub mod checker;
pub mod consensus;
pub mod message;
pub mod production;
pub mod stakes;
pub mod transactions;
pub mod vote;
pub mod voting_keys;
