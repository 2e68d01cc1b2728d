//! The shards: threads that receive, authenticate, relay and decode shreds, and send what this node says.
//!
//! [`Dataplane::start`] is the entrance; each shard runs the loop in `shard.rs`, which is a shred's way in one screen.
//! The protocol's decisions are elsewhere: control tells a shard by [`ToShard`] what to send and by [`Horizon`] which
//! slots it wants, and learns by [`FromShard`] and [`InboundMessage`] what has come.

pub mod auth;
mod buffers;
mod burst;
pub mod clock;
mod config;
mod counters;
pub mod datagram;
mod egress;
mod encode;
mod engine;
mod gate;
mod guard;
mod inbox;
mod intake;
mod letterhead;
mod limits;
mod lineup;
mod link;
pub mod offline;
mod outbox;
mod pacer;
mod probe;
mod relay;
mod ring;
mod shard;
mod socket;
mod stages;
mod steer;
mod sync;
mod syscalls;
mod topology;
mod wake;

pub use config::{DataplaneConfig, EngineKind, Poll, SHARDS_MAX, StartError};
pub use counters::{Counter, Counters};
pub use limits::ClientLimits;
pub use link::{
    FromShard, Horizon, InboundMessage, MESSAGE_BYTES_MAX, MessageBytes, MessageTooLong, ShardLink, ToShard,
};
pub use probe::probe;
pub use stages::{ShardReport, Stage, Stages};
pub use topology::Dataplane;
pub use wake::ControlWaker;
