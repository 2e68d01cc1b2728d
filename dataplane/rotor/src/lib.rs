//! The pure part of Rotor: what a shred is, how a slice becomes shreds and shreds become a slice again, and which
//! validator relays which shred. No network, no clock, no thread.

pub mod assembler;
mod draw;
pub mod erasure;
pub mod merkle;
pub mod parameters;
pub mod sampling;
pub mod schedule;
pub mod shred;
pub mod shredder;
pub mod signature;
pub mod slice;
pub mod types;
pub mod validators;
