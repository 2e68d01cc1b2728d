//! The thread that datagrams come from: what a shard does with them, up to the queue to control.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use alpenglow_dataplane::offline::OfflineReceiver;
use alpenglow_dataplane::{ControlWaker, Counter, Horizon, ShardLink};
use alpenglow_rotor::types::Slot;

use super::usage;
use super::validators::Validators;

/// Messages that may wait for control. A shard drops what the queue has no room for; here nothing may be lost.
const WAITING_MAX: u64 = 2_000;

/// Receive buffers of datagrams that have one length.
pub(super) struct Datagrams {
    pub(super) buffers: Arc<Vec<Vec<u8>>>,
    pub(super) datagram_bytes: usize,
}

/// See the module.
pub(super) struct Network {
    orders: Sender<Datagrams>,
    thread: JoinHandle<()>,
    sent: u64,
    shared: Arc<Shared>,
}

#[derive(Default)]
pub(super) struct Shared {
    /// Messages that control has taken.
    pub(super) taken: AtomicU64,
    /// What the thread has used of a core, in nanoseconds.
    cpu_ns: AtomicU64,
}

impl Network {
    pub(super) fn start(validators: &Validators, waker: Arc<ControlWaker>) -> (Self, ShardLink, Arc<Shared>) {
        let config = validators.cluster.offline_config(validators.own());
        let horizon = Arc::new(Horizon::new(Slot::GENESIS, Slot::GENESIS));
        let receiver = OfflineReceiver::new(&config, horizon).expect("a sound configuration");
        let link = receiver.another_link();
        let (orders, work) = channel();
        let shared = Arc::new(Shared::default());
        let thread = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || receive(receiver, &work, &waker, &shared))
        };
        (Self { orders, thread, sent: 0, shared: Arc::clone(&shared) }, link, shared)
    }

    /// Lets datagrams arrive.
    pub(super) fn send(&mut self, datagrams: &Datagrams) {
        let bytes: usize = datagrams.buffers.iter().map(Vec::len).sum();
        self.sent += (bytes / datagrams.datagram_bytes) as u64;
        let order = Datagrams { buffers: Arc::clone(&datagrams.buffers), ..*datagrams };
        self.orders.send(order).expect("the thread runs until it is stopped");
    }

    pub(super) const fn sent(&self) -> u64 {
        self.sent
    }

    pub(super) fn cpu_ns(&self) -> u64 {
        self.shared.cpu_ns.load(Ordering::Relaxed)
    }

    pub(super) fn stop(self) {
        drop(self.orders);
        self.thread.join().expect("datagrams are received");
    }
}

fn receive(mut receiver: OfflineReceiver, work: &Receiver<Datagrams>, waker: &ControlWaker, shared: &Shared) {
    let mut received = 0;
    for datagrams in work {
        for buffer in datagrams.buffers.iter() {
            while received > shared.taken.load(Ordering::Relaxed) + WAITING_MAX {
                thread::yield_now();
            }
            receiver.receive(buffer, datagrams.datagram_bytes, |_| panic!("no shreds were sent"));
            received += (buffer.len() / datagrams.datagram_bytes) as u64;
            waker.wake();
        }
        shared.cpu_ns.store(usage::thread_ns(), Ordering::Relaxed);
    }
    assert_eq!(receiver.counters().get(Counter::MessagesReceived), received, "every datagram went through the gate");
}
