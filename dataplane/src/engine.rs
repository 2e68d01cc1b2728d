//! What moves a shard's datagrams between its socket and its buffers.
//!
//! A send is queued at once and its slot comes back by itself; buffers received are held by the shard until it releases
//! them. Whatever an engine cannot do now it keeps and tries again, and counts.

use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockAddr, Socket};

use crate::buffers::{BufferCounts, BufferId, Buffers, PreparedSend, SendSlot, SliceBuffer};
use crate::config::{EngineKind, StartError};
use crate::counters::{Counter, Counters};
use crate::link::{ControlLink, Neighbour};
use crate::ring::{Ring, RingDepth};
use crate::syscalls::Syscalls;
use crate::wake::ControlWaker;

/// What an engine is made of. It owns the socket and the buffers from then on.
pub(crate) struct EngineParts {
    pub(crate) socket: Socket,
    pub(crate) buffers: BufferCounts,
    /// Where each validator receives.
    pub(crate) peers: Box<[SockAddr]>,
    /// Whose waker ends a wait.
    pub(crate) control: ControlLink,
    pub(crate) control_waker: Arc<ControlWaker>,
    /// All shards of the node, which it wakes.
    pub(crate) neighbours: Arc<[Neighbour]>,
    pub(crate) counters: Arc<Counters>,
}

/// See the module. Made and used by one thread.
#[expect(clippy::large_enum_variant, reason = "there is one for each shard; a box would be one more pointer to follow")]
pub(crate) enum Engine {
    IoUring(Ring),
    Syscalls(Syscalls),
}

impl Engine {
    /// Sets everything up on the calling thread, which must be the one that uses it.
    pub(crate) fn new(kind: EngineKind, depth: RingDepth, parts: EngineParts) -> Result<Self, StartError> {
        match kind {
            EngineKind::IoUring => Ring::new(depth, parts).map(Self::IoUring),
            EngineKind::Syscalls => Syscalls::new(parts).map(Self::Syscalls),
        }
    }

    /// Queues the first `length` bytes of the slot's memory for `peer`, cut into datagrams of `segment_bytes`.
    pub(crate) fn send(&mut self, slot: SendSlot, length: usize, peer: usize, segment_bytes: usize) {
        let prepared = self.prepare(slot, length, peer, segment_bytes);
        self.queue(prepared);
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
        let prepared = self.prepare_slice(slot, buffer, range, peer, segment_bytes);
        self.queue(prepared);
    }

    fn queue(&mut self, prepared: PreparedSend) {
        match self {
            Self::IoUring(ring) => ring.queue(prepared),
            Self::Syscalls(syscalls) => syscalls.queue(prepared),
        }
    }

    /// Wakes control with the next submission, if it is parked. Call it after pushing to its queues.
    pub(crate) fn wake_control(&mut self) {
        match self {
            Self::IoUring(ring) => ring.wake_control(),
            Self::Syscalls(syscalls) => syscalls.wake_control(),
        }
    }

    /// Wakes another shard with the next submission, if it is parked. Call it after handing something over.
    pub(crate) fn wake_shard(&mut self, shard: usize) {
        match self {
            Self::IoUring(ring) => ring.wake_shard(shard),
            Self::Syscalls(syscalls) => syscalls.wake_shard(shard),
        }
    }

    /// Tells the kernel what was queued, without waiting. No system call if there is nothing to tell and nothing to
    /// fetch.
    pub(crate) fn submit(&mut self) {
        match self {
            Self::IoUring(ring) => ring.submit(),
            Self::Syscalls(syscalls) => syscalls.submit(),
        }
    }

    /// Submits and takes back the slots of sends that are done. What has arrived in the meantime may be appended to
    /// `received`.
    pub(crate) fn recycle(&mut self, received: &mut impl Extend<BufferId>) {
        match self {
            Self::IoUring(ring) => ring.reap(None, received),
            Self::Syscalls(syscalls) => syscalls.submit(),
        }
    }

    /// Submits, waits up to `wait` for something to happen if nothing has, and takes what came: the buffers received
    /// are appended to `received` in their order.
    pub(crate) fn reap(&mut self, wait: Option<Duration>, received: &mut impl Extend<BufferId>) {
        match self {
            Self::IoUring(ring) => ring.reap(wait, received),
            Self::Syscalls(syscalls) => syscalls.reap(wait, received),
        }
    }
}

/// The buffers, with which a shard does the same whatever moves them. They are lent for their methods: whoever put
/// others in their place would take memory from under the kernel.
impl Deref for Engine {
    type Target = Buffers;
    fn deref(&self) -> &Buffers {
        match self {
            Self::IoUring(ring) => ring.buffers(),
            Self::Syscalls(syscalls) => syscalls.buffers(),
        }
    }
}

impl DerefMut for Engine {
    fn deref_mut(&mut self) -> &mut Buffers {
        match self {
            Self::IoUring(ring) => ring.buffers_mut(),
            Self::Syscalls(syscalls) => syscalls.buffers_mut(),
        }
    }
}

/// The slot's send has ended, with an error code or without: the slot is free, and what became of its datagrams is
/// counted.
pub(crate) fn send_ended(buffers: &mut Buffers, counters: &Counters, slot: u16, error: Option<i32>) {
    let datagrams = buffers.sends.done(slot);
    match error {
        None => {
            counters.add(Counter::SendsCompleted, 1);
            counters.add(Counter::DatagramsSent, datagrams);
        }
        Some(libc::EMSGSIZE) => counters.add(Counter::SendTooLong, datagrams),
        Some(_) => counters.add(Counter::SendFailed, datagrams),
    }
}

#[cfg(test)]
pub(crate) mod tests;
