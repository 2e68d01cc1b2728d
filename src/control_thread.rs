//! The thread that control runs on: a glommio executor, or where io_uring is forbidden a plain one. What it does is in
//! [`crate::control_loop`], the same on both.

mod executor;
mod plain;

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use alpenglow_dataplane::{ControlWaker, EngineKind};

use self::executor::Executor;
use self::plain::Plain;
use crate::control_loop::{ControlParts, ControlReport};

/// How the control thread runs.
pub(crate) struct ControlPlacement {
    /// What it waits with.
    pub(crate) engine: EngineKind,
    /// Its core.
    pub(crate) core: Option<usize>,
    /// Whether it never sleeps.
    pub(crate) spin: bool,
    /// Wakes it.
    pub(crate) waker: Arc<ControlWaker>,
    /// The end of the waker that it waits on.
    pub(crate) wake_reader: UnixStream,
}

/// The running thread.
pub(crate) struct ControlThread {
    thread: Thread,
    waker: Arc<ControlWaker>,
    /// Shared with the thread alone, which lets go of it when it ends.
    stop: Arc<AtomicBool>,
}

enum Thread {
    Executor(Executor),
    Plain(Plain),
}

impl ControlThread {
    /// Starts it.
    ///
    /// # Errors
    /// When the thread cannot be had, cannot be pinned, or glommio cannot set up its rings.
    pub(crate) fn start(parts: ControlParts, placement: ControlPlacement) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let waker = Arc::clone(&placement.waker);
        let told_to_stop = Arc::clone(&stop);
        let thread = match placement.engine {
            EngineKind::IoUring => Executor::start(parts, placement, told_to_stop).map(Thread::Executor),
            EngineKind::Syscalls => Plain::start(parts, placement, told_to_stop).map(Thread::Plain),
        };
        Ok(Self { thread: thread?, waker, stop })
    }

    /// Whether it has ended without being told to: by a panic.
    pub(crate) fn has_ended(&self) -> bool {
        Arc::strong_count(&self.stop) == 1
    }

    /// Ends it; what it left.
    ///
    /// # Errors
    /// When the thread panicked.
    pub(crate) fn stop(self) -> io::Result<ControlReport> {
        self.stop.store(true, Ordering::Relaxed);
        self.waker.wake();
        match self.thread {
            Thread::Executor(executor) => executor.join(),
            Thread::Plain(plain) => plain.join(),
        }
    }
}
