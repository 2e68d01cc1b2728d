//! Which thread runs where, and which queue joins whom.
//!
//! ```text
//!  socket 0 ─ shard 0 ─┬─ slices (640) ────►┐
//!                      ├─ messages (4,096) ─►├─ control: one ShardLink for each shard, one ControlWaker for all
//!               ▲      └◄─ orders (512) ─────┘
//!               inbox (256): shreds of this shard that another one has received
//!               ▼
//!  socket 1 ─ shard 1 ─ the same
//! ```
//! Every queue has one consumer and, but for the inboxes, one producer, and none of them blocks: a full queue of slices
//! stops its shard's reading, a full queue of messages or a full inbox drops, a full queue of orders gives the order
//! back to control.

use std::net::SocketAddr;
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use alpenglow_rotor::assembler::Assembler;
use alpenglow_rotor::shredder::Shredder;
use alpenglow_rotor::signer::SliceSigner;
use core_affinity::CoreId;
use socket2::Socket;

use crate::auth::PairwiseKeys;
use crate::buffers::{BufferCounts, HANDED_OVER_BUFFERS};
use crate::config::{DataplaneConfig, StartError};
use crate::counters::Counters;
use crate::egress::Egress;
use crate::encode::Encoder;
use crate::engine::{Engine, EngineParts};
use crate::gate::Gate;
use crate::guard::PortGuard;
use crate::intake::{Intake, IntakeParts};
use crate::letterhead::Letterhead;
use crate::limits::Limits;
use crate::lineup::Lineups;
use crate::link::{ControlLink, Horizon, Neighbour, ShardLink, link};
use crate::pacer::Pacer;
use crate::probe::probe;
use crate::relay::Audience;
use crate::ring::RingDepth;
use crate::shard::Shard;
use crate::stages::{ShardReport, Stages};
use crate::wake::{ControlWaker, ShardWaker};
use crate::{clock, socket, steer};

/// A buffer holds up to 64 KiB, so these take in what a socket's buffer can hold. Most bursts touch a few.
const RECEIVE_BUFFERS: u16 = 128;
/// Copies in flight: sends complete as they are submitted unless the network is congested.
const SEND_SLOTS: u16 = 256;
/// Slices of our own in flight.
const SLICE_BUFFERS: u16 = 4;
/// A batch of this many sends is told to the kernel without waiting for more.
const SUBMISSIONS: u32 = 512;
/// Everything that can be in flight at once, so that the queue does not overflow.
const COMPLETIONS: u32 = (RECEIVE_BUFFERS as u32 + SEND_SLOTS as u32 + SUBMISSIONS).next_power_of_two();

/// The running shards of a node.
pub struct Dataplane {
    shards: Vec<JoinHandle<ShardReport>>,
    stop: Arc<AtomicBool>,
    links: Vec<ControlLink>,
    counters: Vec<Arc<Counters>>,
    guard: PortGuard,
}

impl Dataplane {
    /// Takes the port and starts the shards. All of them are set up when it returns, one [`ShardLink`] for each in
    /// their order, and none of them allocates from then on.
    ///
    /// # Errors
    /// [`StartError`] says what stands in the way and what to do about it. Nothing is left running then.
    pub fn start(
        config: DataplaneConfig,
        control_waker: Arc<ControlWaker>,
        horizon: Arc<Horizon>,
    ) -> Result<(Self, Vec<ShardLink>), StartError> {
        config.check()?;
        let keys = Arc::new(PairwiseKeys::derive(&config.identity, &config.validators, config.cluster, config.own)?);
        probe(config.engine)?;
        let guard = PortGuard::acquire(config.bind)?;
        let sockets = open_sockets(guard.address(), &config)?;
        let mut dataplane = Self {
            shards: Vec::with_capacity(config.shards),
            stop: Arc::default(),
            links: Vec::with_capacity(config.shards),
            counters: Vec::with_capacity(config.shards),
            guard,
        };
        let mut shard_links = Vec::with_capacity(config.shards);
        let mut set_up = Vec::with_capacity(config.shards);
        let handed_over_bytes = if config.shards > 1 { config.coding.datagram_bytes() } else { 0 };
        for _ in 0..config.shards {
            let waker = ShardWaker::new().map_err(|error| StartError::system("make an eventfd", error))?;
            let (shard_link, control) = link(waker, handed_over_bytes);
            shard_links.push(shard_link);
            dataplane.links.push(control);
        }
        let neighbours: Arc<[Neighbour]> = dataplane.links.iter().map(ControlLink::neighbour).collect();
        for (index, socket) in sockets.into_iter().enumerate() {
            let control = dataplane.links[index].clone();
            let counters = Arc::new(Counters::new());
            dataplane.counters.push(Arc::clone(&counters));
            let parts = ShardParts {
                index,
                config: config.clone(),
                keys: Arc::clone(&keys),
                socket,
                control,
                control_waker: Arc::clone(&control_waker),
                neighbours: Arc::clone(&neighbours),
                handed_over_bytes,
                horizon: Arc::clone(&horizon),
                counters,
                stop: Arc::clone(&dataplane.stop),
            };
            let (outcome, receiver) = mpsc::sync_channel(1);
            dataplane.shards.push(spawn(parts, outcome)?);
            set_up.push(receiver);
        }
        for outcome in set_up {
            // A shard that panics while it is set up drops its sender; stopping passes the panic on.
            let Ok(outcome) = outcome.recv() else {
                let _ = dataplane.stop();
                unreachable!("a shard ended before it was set up, and did not panic");
            };
            outcome?;
        }
        Ok((dataplane, shard_links))
    }

    /// Where it receives.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.guard.address()
    }

    /// What each shard has counted so far.
    #[must_use]
    pub fn counters(&self) -> &[Arc<Counters>] {
        &self.counters
    }

    /// Whether every shard still runs. A shard ends only when it is stopped or by a panic, which [`Dataplane::stop`]
    /// passes on; control is woken when it does.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.shards.iter().all(|shard| !shard.is_finished())
    }

    /// Stops the shards, frees the port and returns what they did.
    ///
    /// # Panics
    /// If a shard has panicked.
    #[must_use]
    pub fn stop(mut self) -> Vec<ShardReport> {
        let ended = self.end();
        ended.into_iter().map(|report| report.unwrap_or_else(|reason| panic::resume_unwind(reason))).collect()
    }

    fn end(&mut self) -> Vec<thread::Result<ShardReport>> {
        self.stop.store(true, Ordering::Relaxed);
        for link in &self.links {
            link.waker().wake(true);
        }
        self.shards.drain(..).map(JoinHandle::join).collect()
    }
}

impl Drop for Dataplane {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

fn open_sockets(address: SocketAddr, config: &DataplaneConfig) -> Result<Vec<Socket>, StartError> {
    let sockets: Result<Vec<Socket>, _> =
        (0..config.shards).map(|_| socket::open(address, config.socket_buffer_bytes)).collect();
    let sockets = sockets.map_err(|(what, error)| StartError::system(what, error))?;
    steer::by_lane(&sockets[0], config.shards as u32)
        .map_err(|error| StartError::system("steer datagrams to shards (SO_ATTACH_REUSEPORT_CBPF)", error))?;
    Ok(sockets)
}

struct ShardParts {
    index: usize,
    config: DataplaneConfig,
    keys: Arc<PairwiseKeys>,
    socket: Socket,
    control: ControlLink,
    control_waker: Arc<ControlWaker>,
    neighbours: Arc<[Neighbour]>,
    handed_over_bytes: usize,
    horizon: Arc<Horizon>,
    counters: Arc<Counters>,
    stop: Arc<AtomicBool>,
}

/// Wakes control when a shard ends, so that it notices a panic at once and not with the next datagram.
struct WakesControl(Arc<ControlWaker>);

impl Drop for WakesControl {
    fn drop(&mut self) {
        self.0.wake();
    }
}

fn spawn(
    parts: ShardParts,
    outcome: mpsc::SyncSender<Result<(), StartError>>,
) -> Result<JoinHandle<ShardReport>, StartError> {
    let thread = thread::Builder::new().name(format!("shard-{}", parts.index));
    thread
        .spawn(move || {
            let _wakes_control = WakesControl(Arc::clone(&parts.control_waker));
            let (index, counters) = (parts.index, Arc::clone(&parts.counters));
            match set_up(parts) {
                Ok(shard) => {
                    let _ = outcome.send(Ok(()));
                    let report = shard.run();
                    // Not before: it may free the channel, and a shard leaves the allocator alone while it runs.
                    drop(outcome);
                    report
                }
                Err(error) => {
                    let _ = outcome.send(Err(error));
                    ShardReport { shard: index, stages: Stages::new(), counters }
                }
            }
        })
        .map_err(|error| StartError::system("start a shard thread", error))
}

/// Pins the calling thread. The crate panics on a core beyond its table, so the core is looked for first.
fn pin(core: usize) -> Result<(), StartError> {
    let core = CoreId { id: core };
    let usable = core_affinity::get_core_ids().is_some_and(|cores| cores.contains(&core));
    if usable && core_affinity::set_for_current(core) { Ok(()) } else { Err(StartError::Core { core: core.id }) }
}

/// Runs on the shard's thread, which the ring is bound to, after it was pinned, so that memory is taken near its core.
fn set_up(parts: ShardParts) -> Result<Shard, StartError> {
    let handed_over_bytes = parts.handed_over_bytes;
    let ShardParts { index, config, keys, socket, control, control_waker, neighbours, horizon, counters, stop, .. } =
        parts;
    config.cores[index].map_or(Ok(()), pin)?;
    let buffers = BufferCounts {
        receive_buffers: RECEIVE_BUFFERS,
        send_slots: SEND_SLOTS,
        slice_buffers: SLICE_BUFFERS,
        slice_buffer_bytes: Encoder::buffer_bytes(&config.coding),
        handed_over_bytes,
    };
    let parts = EngineParts {
        socket,
        buffers,
        peers: config.addresses.iter().map(|&address| address.into()).collect(),
        control: control.clone(),
        control_waker,
        neighbours: Arc::clone(&neighbours),
        counters: Arc::clone(&counters),
    };
    let engine = Engine::new(config.engine, RingDepth { submissions: SUBMISSIONS, completions: COMPLETIONS }, parts)?;
    let letterhead = Letterhead::new(config.cluster, config.own, Arc::clone(&keys));
    let shredder = Shredder::with_kernel(config.coding, config.cluster, config.kernel);
    let encoder = Encoder::new(config.coding, shredder, SliceSigner::new(&config.identity));
    let audience = Audience {
        own: config.own,
        everybody: config.validators.by_decreasing_stake().into(),
        epochs: Arc::clone(config.schedule.epochs()),
    };
    let pacer = config.egress_mbit.map(|mbit| Pacer::new(mbit.get(), config.shards));
    let memory_bytes = config.slice_memory_bytes / config.shards;
    let intake = Intake::new(IntakeParts {
        lineups: Lineups::new(Arc::clone(&config.sampler), Arc::clone(&config.schedule)),
        gate: Gate::new(&config, keys, index),
        limits: Limits::new(config.clients, &config.addresses, config.shards),
        assembler: Assembler::with_kernel(config.coding, config.cluster, memory_bytes, config.kernel),
        coding: config.coding,
        own: config.own,
        validators: Arc::clone(&config.validators),
        horizon,
        silent_relay: config.silent_relay,
        control: control.clone(),
        neighbours,
        counters: Arc::clone(&counters),
    });
    Ok(Shard {
        index,
        poll: config.poll,
        stop,
        engine,
        intake,
        egress: Egress::new(audience, letterhead, encoder, pacer, Arc::clone(&counters)),
        control,
        counters,
        received: std::collections::VecDeque::with_capacity((RECEIVE_BUFFERS + HANDED_OVER_BUFFERS).into()),
        received_at: clock::now(),
        turn: 0,
    })
}

#[cfg(test)]
mod tests;
