//! The pure part of consensus: no socket, file, thread, clock or random source in it.

pub mod block;
pub mod production;
pub mod transactions;
