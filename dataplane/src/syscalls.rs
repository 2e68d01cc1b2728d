//! A shard's socket by plain system calls, for hosts where io_uring is forbidden: `recvmmsg`, `sendmmsg`, and `ppoll`
//! to wait.
//!
//! No call leaves anything behind in the kernel: memory that a call names is its own again when the call returns, and
//! the port is free when the socket is closed. A send that finds the socket's buffer full stays queued, with its slot,
//! and is tried again when there is room; that is all that is ever in flight.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::Socket;

use crate::buffers::{BufferId, Buffers, NAME_BYTES, PAYLOAD_BYTES, PreparedSend, ReceiveBuffers};
use crate::config::StartError;
use crate::counters::{Counter, Counters};
use crate::engine::{EngineParts, send_ended};
use crate::link::{ControlLink, Neighbour};
use crate::socket::RECEIVE_CONTROL_BYTES;
use crate::wake::ControlWaker;

/// Most buffers filled by one call.
const RECEIVES_AT_ONCE: usize = 16;
/// A call sends at the latest when this many sends are queued: the first should not wait for the last, and what is sent
/// should still be in the cache.
const SENDS_AT_ONCE: usize = 32;

/// See the module.
pub(crate) struct Syscalls {
    socket: Socket,
    buffers: Buffers,
    /// Sends that the kernel has not taken, in their order: their headers, and their slots.
    queued: Vec<libc::mmsghdr>,
    queued_slots: Vec<u16>,
    sends_at_once: usize,
    /// Whether the socket's buffer had no room for the first of them.
    blocked: bool,
    /// Whether it had room again since the last wait, so that there are slots for those who found none.
    unblocked: bool,
    /// Whether the kernel had no buffer to fill at the last look.
    exhausted: bool,
    /// Whether control is to be woken.
    waking_control: bool,
    receives: Box<Receives>,
    control: ControlLink,
    control_waker: Arc<ControlWaker>,
    neighbours: Arc<[Neighbour]>,
    counters: Arc<Counters>,
}

/// The arguments of `recvmmsg`, written anew for each call.
struct Receives {
    headers: [libc::mmsghdr; RECEIVES_AT_ONCE],
    payloads: [libc::iovec; RECEIVES_AT_ONCE],
}

impl Syscalls {
    pub(crate) fn new(parts: EngineParts) -> Result<Self, StartError> {
        let EngineParts { socket, buffers: counts, peers, control, control_waker, neighbours, counters } = parts;
        let slots = usize::from(counts.send_slots);
        let receive = ReceiveBuffers::in_stack(counts.receive_buffers);
        let buffers = receive
            .and_then(|receive| Buffers::new(counts, receive, peers))
            .map_err(|error| StartError::system("map buffers", error))?;
        Ok(Self {
            socket,
            buffers,
            queued: Vec::with_capacity(slots),
            queued_slots: Vec::with_capacity(slots),
            // Fewer than there are slots: then these run out only while the socket is blocked.
            sends_at_once: SENDS_AT_ONCE.min(slots / 2),
            blocked: false,
            unblocked: false,
            exhausted: false,
            waking_control: false,
            // SAFETY: all-zero bytes are valid headers and vectors: null pointers and zero lengths.
            receives: Box::new(unsafe { std::mem::zeroed() }),
            control,
            control_waker,
            neighbours,
            counters,
        })
    }

    pub(crate) const fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    pub(crate) const fn buffers_mut(&mut self) -> &mut Buffers {
        &mut self.buffers
    }

    /// Queues a send of this engine's buffers.
    pub(crate) fn queue(&mut self, PreparedSend { slot, message }: PreparedSend) {
        // SAFETY: the header lies in its slot, which was just filled in.
        self.queued.push(libc::mmsghdr { msg_hdr: unsafe { *message }, msg_len: 0 });
        self.queued_slots.push(slot);
        if self.queued.len() >= self.sends_at_once && !self.blocked {
            self.flush();
        }
    }

    /// See [`crate::engine::Engine::wake_control`].
    pub(crate) fn wake_control(&mut self) {
        self.waking_control |= self.control_waker.claim();
    }

    /// See [`crate::engine::Engine::wake_shard`].
    pub(crate) fn wake_shard(&mut self, shard: usize) {
        self.neighbours[shard].waker().wake(true);
    }

    /// See [`crate::engine::Engine::submit`].
    pub(crate) fn submit(&mut self) {
        self.flush();
        if std::mem::take(&mut self.waking_control) {
            self.control_waker.write();
        }
    }

    /// Sends what is queued, as far as the socket's buffer has room.
    fn flush(&mut self) {
        let was_blocked = std::mem::take(&mut self.blocked);
        let mut ended = 0;
        while ended < self.queued.len() {
            match self.send_from(ended) {
                Ok(sent) => {
                    (ended..ended + sent).for_each(|index| self.send_ended(index, None));
                    ended += sent;
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    Some(libc::EAGAIN) => {
                        self.blocked = true;
                        break;
                    }
                    error => {
                        self.send_ended(ended, error);
                        ended += 1;
                    }
                },
            }
        }
        self.queued.drain(..ended);
        self.queued_slots.drain(..ended);
        self.unblocked |= was_blocked && ended > 0;
        if self.blocked && !was_blocked {
            self.counters.add(Counter::SendsBlocked, 1);
        }
    }

    /// How many of the queued sends from `start` on the kernel took. It says why it did not take one only when that is
    /// the first.
    fn send_from(&mut self, start: usize) -> io::Result<usize> {
        let headers = &mut self.queued[start..];
        // SAFETY: the headers are valid, and so is what they point to in their slots, the slice buffers and the peer
        // table: all of them are this engine's and stay as they are until `SendBuffers::done`, which comes after.
        let sent = unsafe {
            libc::sendmmsg(self.socket.as_raw_fd(), headers.as_mut_ptr(), headers.len() as u32, libc::MSG_DONTWAIT)
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    fn send_ended(&mut self, index: usize, error: Option<i32>) {
        send_ended(&mut self.buffers, &self.counters, self.queued_slots[index], error);
    }

    /// See [`crate::engine::Engine::reap`].
    pub(crate) fn reap(&mut self, wait: Option<Duration>, received: &mut impl Extend<BufferId>) {
        self.submit();
        let count = self.receive(received);
        if let Some(wait) = wait
            && !std::mem::take(&mut self.unblocked)
            && count == 0
        {
            self.wait(wait);
            self.submit();
            self.receive(received);
        }
    }

    /// Waits until there is something to receive and a buffer for it, room for a send that waits for it, or a wake-up.
    fn wait(&mut self, wait: Duration) {
        let mut interest = PollFlags::empty();
        interest.set(PollFlags::IN, self.buffers.receive.vacant_count() > 0);
        interest.set(PollFlags::OUT, self.blocked);
        let event = self.control.waker().event();
        let mut files = [PollFd::new(&self.socket, interest), PollFd::new(&event, PollFlags::IN)];
        let timeout = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() };
        match poll(&mut files, Some(&timeout)) {
            Ok(_) if files[1].revents().contains(PollFlags::IN) => {
                // It is readable and nobody else reads it. What it says does not matter.
                let _ = rustix::io::read(event, &mut [0; size_of::<u64>()]);
            }
            // A signal is a way to stop waiting too.
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => self.counters.add(Counter::EnterErrors, 1),
        }
    }

    /// Takes what is there, as far as there are buffers and one call goes; how many buffers.
    fn receive(&mut self, received: &mut impl Extend<BufferId>) -> usize {
        let vacant = self.buffers.receive.vacant_count();
        if vacant == 0 {
            if !std::mem::replace(&mut self.exhausted, true) {
                self.counters.add(Counter::ReceiveBuffersExhausted, 1);
            }
            return 0;
        }
        self.exhausted = false;
        match self.receive_into_rooms() {
            Ok(count) => {
                self.counters.add(Counter::BuffersReceived, count as u64);
                let receive = &mut self.buffers.receive;
                received.extend(self.receives.headers[..count].iter().map(|message| {
                    let header = &message.msg_hdr;
                    let (payload_bytes, flags) = (message.msg_len as usize, header.msg_flags);
                    receive.take_next(payload_bytes, header.msg_namelen, header.msg_controllen, flags)
                }));
                count
            }
            Err(error) => {
                if !matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) {
                    self.counters.add(Counter::ReceiveErrors, 1);
                }
                0
            }
        }
    }

    /// Lets the kernel fill vacant buffers; how many it did.
    fn receive_into_rooms(&mut self) -> io::Result<usize> {
        let Receives { headers, payloads } = &mut *self.receives;
        let mut rooms = 0;
        for ((room, message), payload) in self.buffers.receive.rooms().zip(headers.iter_mut()).zip(payloads) {
            *payload = libc::iovec { iov_base: room.payload.cast(), iov_len: PAYLOAD_BYTES };
            message.msg_hdr.msg_iov = payload;
            message.msg_hdr.msg_iovlen = 1;
            message.msg_hdr.msg_name = room.name.cast();
            message.msg_hdr.msg_namelen = NAME_BYTES as u32;
            message.msg_hdr.msg_control = room.control.cast();
            message.msg_hdr.msg_controllen = RECEIVE_CONTROL_BYTES;
            rooms += 1;
        }
        // SAFETY: the first `rooms` headers name memory of different vacant buffers and its size, which nobody else
        // reads or writes, and no other memory; the call ends before anything else happens.
        let count = unsafe {
            libc::recvmmsg(
                self.socket.as_raw_fd(),
                headers.as_mut_ptr(),
                rooms,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }
}
