//! Control on a glommio executor. Nothing of glommio is used elsewhere.

use std::io;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use alpenglow_dataplane::clock;
use futures_lite::{AsyncReadExt, FutureExt};
use glommio::timer::Timer;
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};

use super::ControlPlacement;
use crate::control_loop::{ControlLoop, ControlParts, ControlReport};

/// Memory that glommio registers for file I/O, which this thread does not do.
const IO_MEMORY_BYTES: usize = 64 << 10;
/// Operations that glommio's rings hold; this thread has a read and a timer under way.
const RING_DEPTH: usize = 32;

/// The running executor.
pub(super) struct Executor(ExecutorJoinHandle<ControlReport>);

impl Executor {
    pub(super) fn start(parts: ControlParts, placement: ControlPlacement, stop: Arc<AtomicBool>) -> io::Result<Self> {
        let on = placement.core.map_or(Placement::Unbound, Placement::Fixed);
        let builder = LocalExecutorBuilder::new(on).name("control").io_memory(IO_MEMORY_BYTES).ring_depth(RING_DEPTH);
        builder.spawn(move || run(ControlLoop::new(parts), placement, stop)).map(Self).map_err(explain)
    }

    pub(super) fn join(self) -> io::Result<ControlReport> {
        self.0.join().map_err(explain)
    }
}

/// A glommio error may hold a panic's payload, which no other thread may look into: its text is kept.
fn explain<T>(error: glommio::GlommioError<T>) -> io::Error {
    io::Error::other(error.to_string())
}

async fn run(mut control: ControlLoop, placement: ControlPlacement, stop: Arc<AtomicBool>) -> ControlReport {
    let ControlPlacement { spin, waker, wake_reader, .. } = placement;
    #[expect(unsafe_code, reason = "glommio has no safe way to take over a stream")]
    // SAFETY: the descriptor was just given up by its only owner, and the new stream becomes its only owner.
    let stream = unsafe { glommio::net::UnixStream::from_raw_fd(wake_reader.into_raw_fd()) };
    let mut wake = Box::pin(next_wake(stream));
    while !stop.load(Ordering::Relaxed) {
        if control.round() > 0 || spin {
            glommio::yield_if_needed().await;
            continue;
        }
        waker.park();
        if !control.has_input() && !stop.load(Ordering::Relaxed) {
            let wait = control.time_to_wait(clock::now());
            let woken = async { Some(wake.as_mut().await) };
            let timed_out = async {
                Timer::new(wait).await;
                None
            };
            if let Some(stream) = woken.or(timed_out).await {
                wake = Box::pin(next_wake(stream));
            }
        }
        waker.unpark();
    }
    control.finish()
}

/// Waits for a wake-up and gives the stream back, so that a wait cut short by a timer goes on at the next one.
async fn next_wake(mut stream: glommio::net::UnixStream) -> glommio::net::UnixStream {
    if stream.read(&mut [0; 64]).await.is_err() {
        // Without the stream the timers still wake the loop, only later than inputs should.
        tracing::error!("the control thread's wake-up stream failed");
        std::future::pending::<()>().await;
    }
    stream
}
