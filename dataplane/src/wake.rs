//! Waking a thread that sleeps, and only one that sleeps.
//!
//! Both directions follow one protocol. The *waiter* stores its parked flag, passes a sequentially consistent fence,
//! looks at its queues once more, and only then waits. The *waker* pushes to the queue, passes a sequentially
//! consistent fence, and only then looks at the flag. Of two such fences one comes first: either the waiter's, then the
//! waker sees the flag and wakes, or the waker's, then the waiter sees the entry and does not wait. No wake-up is lost.
//!
//! Whoever turns the flag back owes one wake-up token (a byte in a socketpair, a count in an eventfd). Tokens stay
//! until they are read, so one that arrives after the waiter got up by itself costs a needless look at the queues and
//! nothing else; and since every token needs a flag that was set, there are never more of them than calls to park.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

use crate::sync::{AtomicBool, AtomicU8, Ordering, fence};

/// Wakes the control thread out of its wait on the other end of a socketpair.
///
/// Shards claim the wake-up and let their engine write the byte: through its ring, or when it has sent what is queued.
pub struct ControlWaker {
    parked: AtomicBool,
    writer: UnixStream,
}

impl ControlWaker {
    /// A waker and the end that the control thread waits on (non-blocking; each wake-up is one byte in it).
    ///
    /// # Errors
    /// When the operating system gives no socketpair (file limit).
    pub fn pair() -> io::Result<(Arc<Self>, UnixStream)> {
        let (writer, reader) = UnixStream::pair()?;
        writer.set_nonblocking(true)?;
        reader.set_nonblocking(true)?;
        Ok((Arc::new(Self { parked: AtomicBool::new(false), writer }), reader))
    }

    /// Control says that it is about to wait. It must look at every queue once more after this call and before it
    /// waits, and call [`ControlWaker::unpark`] if it finds something.
    pub fn park(&self) {
        self.parked.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Control runs again, for whatever reason.
    pub fn unpark(&self) {
        self.parked.store(false, Ordering::Relaxed);
    }

    /// Wakes control if it is parked. For threads other than shards, after a push: may make a system call.
    pub fn wake(&self) {
        if self.claim() {
            self.write();
        }
    }

    /// Pays the byte that is owed after [`ControlWaker::claim`], with a system call.
    pub(crate) fn write(&self) {
        // A full socketpair is readable already, and a closed one has no reader left to wake.
        let _ = (&self.writer).write(&[1]);
    }

    /// Whether control is parked; then the caller owes it one byte. Call it after the push.
    pub(crate) fn claim(&self) -> bool {
        fence(Ordering::SeqCst);
        self.parked.load(Ordering::Relaxed) && self.parked.swap(false, Ordering::Relaxed)
    }

    /// The end that a shard's ring writes to.
    pub(crate) fn writer(&self) -> BorrowedFd<'_> {
        self.writer.as_fd()
    }
}

const RUNNING: u8 = 0;
const PARKED: u8 = 1;
const PARKED_UNTIL_ROOM: u8 = 2;

/// Wakes a shard out of its engine's wait, which ends when this eventfd can be read.
pub(crate) struct ShardWaker {
    state: AtomicU8,
    event: OwnedFd,
}

impl ShardWaker {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { state: AtomicU8::new(RUNNING), event: eventfd(0, EventfdFlags::CLOEXEC)? })
    }

    /// The shard says that it is about to wait, for entries to take or, if `until_room`, for room to hand over as well.
    /// It must look at its queues once more after this call.
    pub(crate) fn park(&self, until_room: bool) {
        self.state.store(if until_room { PARKED_UNTIL_ROOM } else { PARKED }, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    pub(crate) fn unpark(&self) {
        self.state.store(RUNNING, Ordering::Relaxed);
    }

    /// Wakes the shard if it is parked and `pushed` or waiting for room. Call it after the pushes and pops.
    pub(crate) fn wake(&self, pushed: bool) {
        if self.claim(pushed) {
            self.write();
        }
    }

    /// Whether the shard is parked for this; then the caller owes its event a count. Call it after the pushes and pops.
    pub(crate) fn claim(&self, pushed: bool) -> bool {
        fence(Ordering::SeqCst);
        let state = self.state.load(Ordering::Relaxed);
        let waits_for_this = state == PARKED_UNTIL_ROOM || (state == PARKED && pushed);
        waits_for_this && self.state.swap(RUNNING, Ordering::Relaxed) != RUNNING
    }

    /// Pays the count that is owed after [`ShardWaker::claim`], with a system call.
    pub(crate) fn write(&self) {
        // It fails only when the count would overflow, and then the event is readable already.
        let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
    }

    pub(crate) fn event(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// Every order in which two or three threads can meet here, and every value that the memory model lets them see: what
/// was pushed is seen before the wait, or ends it.
#[cfg(all(test, loom))]
mod orders {
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicUsize;
    use loom::thread;

    use super::*;

    #[test]
    fn no_wake_up_of_control_is_lost_in_every_order() {
        loom::model(|| {
            let waker = Arc::new(ControlWaker::pair().unwrap().0);
            let [pushed, tokens] = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
            let shards = [(); 2].map(|()| {
                let (waker, pushed, tokens) = (Arc::clone(&waker), Arc::clone(&pushed), Arc::clone(&tokens));
                thread::spawn(move || {
                    pushed.fetch_add(1, Ordering::Relaxed);
                    if waker.claim() {
                        tokens.fetch_add(1, Ordering::Relaxed);
                    }
                })
            });
            waker.park();
            let seen = pushed.load(Ordering::Relaxed);
            shards.into_iter().for_each(|shard| shard.join().unwrap());
            let tokens = tokens.load(Ordering::Relaxed);
            assert!(seen == 2 || tokens == 1, "saw {seen} of 2 entries and would wait for ever");
            assert!(tokens <= 1, "one token for each time it parks");
        });
    }

    #[test]
    fn no_wake_up_of_a_shard_is_lost_in_every_order() {
        for until_room in [false, true] {
            loom::model(move || {
                let waker = Arc::new(ShardWaker::new().unwrap());
                let [entries, tokens] = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
                let control = {
                    let (waker, entries, tokens) = (Arc::clone(&waker), Arc::clone(&entries), Arc::clone(&tokens));
                    thread::spawn(move || {
                        // A pop makes room, a push is an entry; a shard that does not wait for room cares for pushes
                        // only.
                        entries.store(1, Ordering::Relaxed);
                        if waker.claim(!until_room) {
                            tokens.fetch_add(1, Ordering::Relaxed);
                        }
                    })
                };
                waker.park(until_room);
                let seen = entries.load(Ordering::Relaxed);
                control.join().unwrap();
                assert!(seen == 1 || tokens.load(Ordering::Relaxed) == 1, "the shard would wait for ever");
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn control_is_woken_once_for_each_time_it_parks() {
        let (waker, mut reader) = ControlWaker::pair().unwrap();
        waker.wake();
        assert_eq!(reader.read(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        waker.park();
        waker.wake();
        waker.wake();
        assert_eq!(reader.read(&mut [0; 8]).unwrap(), 1);
    }

    #[test]
    fn a_shard_that_waits_for_entries_is_not_woken_by_a_pop() {
        let waker = ShardWaker::new().unwrap();
        waker.park(false);
        waker.wake(false);
        assert_eq!(waker.state.load(Ordering::Relaxed), PARKED);
        waker.wake(true);
        assert_eq!(waker.state.load(Ordering::Relaxed), RUNNING);
        waker.park(true);
        waker.wake(false);
        assert_eq!(waker.state.load(Ordering::Relaxed), RUNNING);
        let mut count = [0; 8];
        rustix::io::read(&waker.event, &mut count).unwrap();
        assert_eq!(u64::from_ne_bytes(count), 2);
    }
}
