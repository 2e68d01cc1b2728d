//! A shard's io_uring: one multishot receive, sends in fixed slots, and the two wake-ups.
//!
//! The ring owns the socket and all memory that the kernel touches, and it outlives every operation: dropping it
//! cancels the receive, waits until nothing is in flight, unregisters socket and buffers (so that the port is free at
//! once) and only then unmaps. It stays on the thread that made it.
#![allow(unsafe_code)]

use std::io;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::types::{CancelBuilder, Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use socket2::Socket;

use crate::buffers::{BufferId, Buffers, NAME_BYTES, PreparedSend, ReceiveBuffers};
use crate::config::StartError;
use crate::counters::{Counter, Counters};
use crate::engine::{EngineParts, send_ended};
use crate::link::Neighbour;
use crate::socket::RECEIVE_CONTROL_BYTES;
use crate::wake::ControlWaker;

/// How many operations a ring holds. Fixed at start-up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RingDepth {
    /// Operations that are queued before the kernel is told.
    pub(crate) submissions: u32,
    /// At least as many. Completions that fit before the kernel must keep some itself.
    pub(crate) completions: u32,
}

const BUFFER_GROUP: u16 = 0;
const SOCKET: Fixed = Fixed(0);
const WAKE_EVENT: Fixed = Fixed(1);
const CONTROL_WAKER: Fixed = Fixed(2);
/// Where the events of all shards begin.
const NEIGHBOURS: u32 = 3;

// What a completion belongs to: the upper half of its user data. The lower half is a send's slot.
const RECEIVE: u64 = 1 << 32;
const SEND: u64 = 2 << 32;
const WAKE: u64 = 3 << 32;
const CONTROL: u64 = 4 << 32;
const CANCEL: u64 = 5 << 32;
const SHARD: u64 = 6 << 32;
const KIND: u64 = 0xFFFF_FFFF << 32;

/// How long dropping a ring waits for the kernel to give everything back. A send that waits for a full socket buffer is
/// cancelled too, so that this is not reached; if it is, the memory is leaked and not freed.
const DRAIN: Duration = Duration::from_secs(2);

/// See the module.
pub(crate) struct Ring {
    uring: ManuallyDrop<IoUring>,
    buffers: ManuallyDrop<Buffers>,
    /// Layout of a receive (no memory of its own), and what the wake-ups read and write.
    words: ManuallyDrop<Box<Words>>,
    socket: ManuallyDrop<Socket>,
    control_waker: Arc<ControlWaker>,
    neighbours: Arc<[Neighbour]>,
    counters: Arc<Counters>,
    receiving: bool,
    awaiting_wake: bool,
    waking: usize,
    /// The kernel demands that one thread submits.
    _stays_on_its_thread: PhantomData<*const ()>,
}

struct Words {
    receive: libc::msghdr,
    wake_count: u64,
    control_byte: u8,
    one: u64,
}

impl Ring {
    /// Sets everything up on the calling thread, which must be the one that uses it.
    pub(crate) fn new(depth: RingDepth, parts: EngineParts) -> Result<Self, StartError> {
        let EngineParts { socket, buffers: counts, peers, control, control_waker, neighbours, counters } = parts;
        let uring = build(depth.submissions, depth.completions).map_err(StartError::ring)?;
        let memory = |error| StartError::system("map buffers", error);
        let (receive, ring_address) = ReceiveBuffers::in_ring(counts.receive_buffers).map_err(memory)?;
        let buffers = Buffers::new(counts, receive, peers).map_err(memory)?;
        let mut files =
            vec![socket.as_raw_fd(), control.waker().event().as_raw_fd(), control_waker.writer().as_raw_fd()];
        files.extend(neighbours.iter().map(|neighbour| neighbour.waker().event().as_raw_fd()));
        let register = |error| StartError::system("register socket and buffers with io_uring", error);
        uring.submitter().register_files(&files).map_err(register)?;
        // SAFETY: the ring's memory is mapped for so many entries and is unmapped only in `drop`, after the ring was
        // unregistered or never.
        unsafe {
            uring.submitter().register_buf_ring_with_flags(ring_address, counts.receive_buffers, BUFFER_GROUP, 0)
        }
        .map_err(register)?;
        // SAFETY: all-zero bytes are a valid msghdr.
        let mut layout: libc::msghdr = unsafe { std::mem::zeroed() };
        layout.msg_namelen = NAME_BYTES as u32;
        layout.msg_controllen = RECEIVE_CONTROL_BYTES;
        Ok(Self {
            uring: ManuallyDrop::new(uring),
            buffers: ManuallyDrop::new(buffers),
            words: ManuallyDrop::new(Box::new(Words { receive: layout, wake_count: 0, control_byte: 1, one: 1 })),
            socket: ManuallyDrop::new(socket),
            control_waker,
            neighbours,
            counters,
            receiving: false,
            awaiting_wake: false,
            waking: 0,
            _stays_on_its_thread: PhantomData,
        })
    }

    pub(crate) fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    pub(crate) fn buffers_mut(&mut self) -> &mut Buffers {
        &mut self.buffers
    }

    /// Queues a send of this ring's buffers.
    pub(crate) fn queue(&mut self, PreparedSend { slot, message }: PreparedSend) {
        let entry = opcode::SendMsg::new(SOCKET, message).build().user_data(SEND | u64::from(slot));
        // SAFETY: the header lies in its slot, what it points to in the slot, the slice buffer and the peer table; all
        // of them belong to this ring and stay as they are until the slot's completion (`SendBuffers::done`).
        unsafe { self.push(&entry) };
    }

    /// Writes the byte that wakes control, if it is parked. Call it after pushing to its queues.
    pub(crate) fn wake_control(&mut self) {
        if !self.control_waker.claim() {
            return;
        }
        let byte: *const u8 = &raw const self.words.control_byte;
        let entry = opcode::Write::new(CONTROL_WAKER, byte, 1).build().user_data(CONTROL);
        // SAFETY: the byte is in this ring's box and never changes.
        unsafe { self.push(&entry) };
        self.waking += 1;
    }

    /// Counts up the event that wakes another shard, if it is parked. Call it after handing something over.
    pub(crate) fn wake_shard(&mut self, shard: usize) {
        if !self.neighbours[shard].waker().claim(true) {
            return;
        }
        let count: *const u64 = &raw const self.words.one;
        let entry = opcode::Write::new(Fixed(NEIGHBOURS + shard as u32), count.cast(), size_of::<u64>() as u32).build();
        // SAFETY: the count is in this ring's box and never changes.
        unsafe { self.push(&entry.user_data(SHARD)) };
        self.waking += 1;
    }

    /// # Safety
    /// What the entry points to must stay valid and unchanged until its completion.
    unsafe fn push(&mut self, entry: &squeue::Entry) {
        loop {
            // SAFETY: by the caller's word.
            if unsafe { self.uring.submission().push(entry) }.is_ok() {
                return;
            }
            self.enter(None);
        }
    }

    /// Tells the kernel what was queued, without waiting. No system call if there is nothing to tell and nothing to
    /// fetch.
    pub(crate) fn submit(&mut self) {
        let queue = self.uring.submission();
        if !queue.is_empty() || queue.taskrun() || queue.cq_overflow() {
            drop(queue);
            self.enter(None);
        }
    }

    /// Submits, waits up to `wait` for a completion if there is none, and takes all completions: the buffers received
    /// are appended to `received` in their order.
    pub(crate) fn reap(&mut self, wait: Option<Duration>, received: &mut impl Extend<BufferId>) {
        self.rearm();
        match wait {
            Some(_) if self.uring.completion().is_empty() => self.enter(wait),
            _ => self.submit(),
        }
        while let Some(completion) = self.next_completion() {
            received.extend(self.complete(&completion));
        }
    }

    fn next_completion(&mut self) -> Option<cqueue::Entry> {
        self.uring.completion().next()
    }

    /// Starts what always has to be in flight and is not: a multishot receive ends when buffers run out, on errors and
    /// on empty datagrams.
    fn rearm(&mut self) {
        if !self.receiving && self.buffers.receive.vacant_count() > 0 {
            let entry = opcode::RecvMsgMulti::new(SOCKET, &raw const self.words.receive, BUFFER_GROUP).build();
            // SAFETY: the message header is in this ring's box; it names no other memory. The kernel writes into
            // buffers of the group, which it has until their completion.
            unsafe { self.push(&entry.user_data(RECEIVE)) };
            self.receiving = true;
        }
        if !self.awaiting_wake {
            let count: *mut u64 = &raw mut self.words.wake_count;
            let entry = opcode::Read::new(WAKE_EVENT, count.cast(), size_of::<u64>() as u32).build();
            // SAFETY: the count is in this ring's box and nobody else reads or writes it.
            unsafe { self.push(&entry.user_data(WAKE)) };
            self.awaiting_wake = true;
        }
    }

    fn enter(&mut self, wait: Option<Duration>) {
        let entered = match wait {
            None => self.uring.submit(),
            Some(wait) => {
                let timeout = Timespec::from(wait);
                self.uring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&timeout))
            }
        };
        match entered.map_err(|error| error.raw_os_error()) {
            // The time passed, or a signal came: both are ways to stop waiting.
            Ok(_) | Err(Some(libc::ETIME | libc::EINTR)) => {}
            Err(_) => self.counters.add(Counter::EnterErrors, 1),
        }
        if self.uring.submission().cq_overflow() {
            self.counters.add(Counter::CompletionQueueOverflows, 1);
        }
    }

    fn complete(&mut self, completion: &cqueue::Entry) -> Option<BufferId> {
        let result = completion.result();
        match completion.user_data() & KIND {
            RECEIVE => return self.complete_receive(result, completion.flags()),
            SEND => {
                let error = (result < 0).then_some(-result);
                send_ended(&mut self.buffers, &self.counters, completion.user_data() as u16, error);
            }
            WAKE => self.awaiting_wake = false,
            CONTROL | SHARD => self.waking -= 1,
            CANCEL => {}
            other => unreachable!("no operation has user data {other:#x}"),
        }
        None
    }

    fn complete_receive(&mut self, result: i32, flags: u32) -> Option<BufferId> {
        if !cqueue::more(flags) {
            self.receiving = false;
        }
        match usize::try_from(result) {
            Ok(filled) => {
                let index = cqueue::buffer_select(flags).expect("a receive that succeeds has taken a buffer");
                self.counters.add(Counter::BuffersReceived, 1);
                Some(self.buffers.receive.take(index, filled))
            }
            Err(_) => {
                match -result {
                    libc::ENOBUFS => self.counters.add(Counter::ReceiveBuffersExhausted, 1),
                    libc::ECANCELED => {}
                    _ => self.counters.add(Counter::ReceiveErrors, 1),
                }
                None
            }
        }
    }

    fn in_flight(&self) -> usize {
        self.buffers.sends.in_flight() + self.waking + usize::from(self.receiving) + usize::from(self.awaiting_wake)
    }

    /// Cancels and waits until the kernel holds nothing of ours. `false` if it did not give everything back in time.
    fn drain(&mut self) -> bool {
        let deadline = Instant::now() + DRAIN;
        while self.in_flight() > 0 && Instant::now() < deadline {
            let entry = opcode::AsyncCancel2::new(CancelBuilder::any().all()).build().user_data(CANCEL);
            // SAFETY: the entry names no memory.
            unsafe { self.push(&entry) };
            self.enter(Some(Duration::from_millis(10)));
            while let Some(completion) = self.next_completion() {
                if let Some(buffer) = self.complete(&completion) {
                    self.buffers.receive.release(buffer);
                }
            }
        }
        self.in_flight() == 0
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let drained = self.drain();
        // Their failure leaves work to the kernel's own clean-up of the ring.
        let _ = self.uring.submitter().unregister_files();
        let _ = self.uring.submitter().unregister_buf_ring(BUFFER_GROUP);
        // SAFETY: each is dropped once, here, and not used afterwards.
        unsafe {
            ManuallyDrop::drop(&mut self.uring);
            ManuallyDrop::drop(&mut self.socket);
        }
        if !drained {
            tracing::error!("io_uring did not give back its operations in time: leaking their buffers");
            return;
        }
        // SAFETY: as above; and nothing is in flight, so the kernel names none of this memory any more.
        unsafe {
            ManuallyDrop::drop(&mut self.buffers);
            ManuallyDrop::drop(&mut self.words);
        }
    }
}

/// A ring with the flags that a shard needs.
pub(crate) fn build(submissions: u32, completions: u32) -> io::Result<IoUring> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_cqsize(completions)
        .build(submissions)
}

#[cfg(test)]
mod tests;
