//! Instruments around the node that are no part of it.

pub mod conformance;
pub mod fuzzing;
pub mod simulator;
