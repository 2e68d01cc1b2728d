//! What moves a shard's datagrams between its socket and its buffers.
//!
//! A send is queued at once and its slot comes back by itself; buffers received are held by the shard until it releases
//! them. Whatever an engine cannot do now it keeps and tries again, and counts.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;
use std::time::Duration;

use socket2::Socket;

use crate::buffers::{BufferCounts, BufferId, Buffers, SendSlot, SliceBuffer};
use crate::config::StartError;
use crate::counters::Counters;
use crate::link::ControlLink;
use crate::ring::{Ring, RingDepth};
use crate::wake::ControlWaker;

/// What an engine is made of. It owns the socket and the buffers from then on.
pub(crate) struct EngineParts<'a> {
    pub(crate) socket: Socket,
    pub(crate) buffers: BufferCounts,
    /// Where each validator receives.
    pub(crate) peers: &'a [SocketAddr],
    /// Whose waker ends a wait.
    pub(crate) control: ControlLink,
    pub(crate) control_waker: Arc<ControlWaker>,
    pub(crate) counters: Arc<Counters>,
}

/// See the module. Made and used by one thread.
pub(crate) enum Engine {
    IoUring(Ring),
}

impl Engine {
    /// Sets everything up on the calling thread, which must be the one that uses it.
    pub(crate) fn new(depth: RingDepth, parts: EngineParts<'_>) -> Result<Self, StartError> {
        Ring::new(depth, parts).map(Self::IoUring)
    }

    /// Queues the first `length` bytes of the slot's memory for `peer`, cut into datagrams of `segment_bytes`.
    pub(crate) fn send(&mut self, slot: SendSlot, length: usize, peer: usize, segment_bytes: usize) {
        match self {
            Self::IoUring(ring) => ring.send(slot, length, peer, segment_bytes),
        }
    }

    /// Queues a part of a slice buffer for `peer`.
    pub(crate) fn send_slice(
        &mut self,
        slot: SendSlot,
        buffer: &SliceBuffer,
        range: Range<usize>,
        peer: usize,
        segment_bytes: usize,
    ) {
        match self {
            Self::IoUring(ring) => ring.send_slice(slot, buffer, range, peer, segment_bytes),
        }
    }

    /// Wakes control with the next submission, if it is parked. Call it after pushing to its queues.
    pub(crate) fn wake_control(&mut self) {
        match self {
            Self::IoUring(ring) => ring.wake_control(),
        }
    }

    /// Tells the kernel what was queued, without waiting. No system call if there is nothing to tell and nothing to fetch.
    pub(crate) fn submit(&mut self) {
        match self {
            Self::IoUring(ring) => ring.submit(),
        }
    }

    /// Submits, waits up to `wait` for something to happen if nothing has, and takes what came: the buffers received are
    /// appended to `received` in their order.
    pub(crate) fn reap(&mut self, wait: Option<Duration>, received: &mut impl Extend<BufferId>) {
        match self {
            Self::IoUring(ring) => ring.reap(wait, received),
        }
    }
}

/// The buffers, with which a shard does the same whatever moves them.
impl Deref for Engine {
    type Target = Buffers;
    fn deref(&self) -> &Buffers {
        match self {
            Self::IoUring(ring) => ring.buffers(),
        }
    }
}

impl DerefMut for Engine {
    fn deref_mut(&mut self) -> &mut Buffers {
        match self {
            Self::IoUring(ring) => ring.buffers_mut(),
        }
    }
}
