//! Control on a thread that waits with `ppoll`.

use std::any::Any;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use alpenglow_dataplane::clock;
use core_affinity::CoreId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::ControlPlacement;
use crate::control_loop::{ControlLoop, ControlParts, ControlReport};

/// The running thread.
pub(super) struct Plain(JoinHandle<ControlReport>);

impl Plain {
    pub(super) fn start(parts: ControlParts, placement: ControlPlacement, stop: Arc<AtomicBool>) -> io::Result<Self> {
        let (pinned, outcome) = mpsc::sync_channel(1);
        let thread = thread::Builder::new().name("control".to_owned()).spawn(move || {
            let control = ControlLoop::new(parts);
            let is_pinned = placement.core.is_none_or(|id| core_affinity::set_for_current(CoreId { id }));
            let _ = pinned.send(is_pinned);
            if is_pinned { run(control, placement, &stop) } else { control.finish() }
        })?;
        match outcome.recv() {
            Ok(false) => Err(io::Error::other("it cannot be pinned to its core")),
            // A thread that panicked says so when it is joined.
            Ok(true) | Err(_) => Ok(Self(thread)),
        }
    }

    pub(super) fn join(self) -> io::Result<ControlReport> {
        self.0.join().map_err(|panic| io::Error::other(text(&*panic).to_owned()))
    }
}

fn run(mut control: ControlLoop, placement: ControlPlacement, stop: &AtomicBool) -> ControlReport {
    let ControlPlacement { spin, waker, wake_reader, .. } = placement;
    while !stop.load(Ordering::Relaxed) {
        if control.round() > 0 || spin {
            continue;
        }
        waker.park();
        if !control.has_input() && !stop.load(Ordering::Relaxed) {
            wait(&wake_reader, control.time_to_wait(clock::now()));
        }
        waker.unpark();
    }
    control.finish()
}

/// Returns after a wake-up or when the time has passed.
fn wait(wake_reader: &UnixStream, most: Duration) {
    let timeout = Timespec { tv_sec: most.as_secs() as i64, tv_nsec: most.subsec_nanos().into() };
    // Whatever ends it, a signal or an error, the loop looks at everything anew.
    if poll(&mut [PollFd::new(wake_reader, PollFlags::IN)], Some(&timeout)).is_ok_and(|ready| ready > 0) {
        // It does not block. What it says does not matter, and what is left ends the next wait.
        let _ = (&*wake_reader).read(&mut [0; 64]);
    }
}

fn text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("it panicked")
}
