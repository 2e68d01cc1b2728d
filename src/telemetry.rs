//! What a node tells while it runs: its events, written as lines to standard output by a thread that may block there
//! without anyone waiting for it.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use crossbeam::channel::{self, Receiver, Sender};

use crate::report::NodeEvent;
use crate::topology::EVENT_QUEUE;

/// Where threads leave their events. Never blocks: events that find the queue full are counted and dropped.
#[derive(Clone)]
pub(crate) struct Events {
    queue: Option<Sender<NodeEvent>>,
    dropped: Arc<AtomicU64>,
}

impl Events {
    /// Leaves an event, if anybody wants events.
    pub(crate) fn emit(&self, event: NodeEvent) {
        if let Some(queue) = &self.queue
            && queue.try_send(event).is_err()
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Events dropped so far.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// The thread that writes events out.
pub(crate) struct EventWriter(Option<JoinHandle<()>>);

impl EventWriter {
    /// Starts the writer if events are `wanted`; without it events are discarded where they arise.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub(crate) fn start(wanted: bool) -> io::Result<(Self, Events)> {
        let dropped = Arc::default();
        if !wanted {
            return Ok((Self(None), Events { queue: None, dropped }));
        }
        let (sender, receiver) = channel::bounded(EVENT_QUEUE);
        let thread = thread::Builder::new().name("telemetry".into()).spawn(move || write_events(&receiver))?;
        Ok((Self(Some(thread)), Events { queue: Some(sender), dropped }))
    }

    /// Writes what is left. Every [`Events`] must have been dropped.
    pub(crate) fn stop(self) {
        if self.0.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the telemetry thread panicked");
        }
    }
}

fn write_events(events: &Receiver<NodeEvent>) {
    for event in events {
        let written = writeln!(io::stdout().lock(), "{}", event.to_line());
        if let Err(error) = written {
            tracing::warn!(%error, "nobody reads standard output any more: events stop here");
            return;
        }
    }
}
