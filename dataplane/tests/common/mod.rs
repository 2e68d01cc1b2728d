//! Real dataplanes in one process over loopback, with this test in the place of control.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

pub(crate) mod scene;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZero;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use alpenglow_dataplane::auth::PairwiseKeys;
use alpenglow_dataplane::datagram::{self, Header, Kind};
use alpenglow_dataplane::{
    ClientLimits, ControlWaker, Counter, Dataplane, DataplaneConfig, EngineKind, FromShard, Horizon, InboundMessage,
    Poll, ShardLink, ToShard,
};
use alpenglow_rotor::erasure::Kernel;
use alpenglow_rotor::parameters::CodingParameters;
use alpenglow_rotor::sampling::RelaySampler;
use alpenglow_rotor::schedule::{EpochSeed, LeaderSchedule, ScheduleKind};
use alpenglow_rotor::shred;
use alpenglow_rotor::shredder::Shredder;
use alpenglow_rotor::signer::SliceSigner;
use alpenglow_rotor::slice::{Slice, SliceId, SlicePayload};
use alpenglow_rotor::types::{ClusterId, SliceIndex, Slot, Stake, ValidatorIndex};
use alpenglow_rotor::validators::ValidatorSet;
use ed25519_dalek::SigningKey;

/// Far beyond what any machine needs; only a defect reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
pub(crate) const CLUSTER: ClusterId = ClusterId([0xC1; 32]);
pub(crate) const SHREDS_THROUGH: Slot = Slot(1_000);

/// An address of loopback's 127.0.0.0/8 that no other test of this or another process uses.
pub(crate) fn own_loopback_address() -> IpAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let process = std::process::id();
    IpAddr::V4(Ipv4Addr::new(127, NEXT.fetch_add(1, Ordering::Relaxed), (process >> 8) as u8, process as u8))
}

pub(crate) fn identity(index: usize) -> SigningKey {
    SigningKey::from_bytes(&[index as u8 + 1; 32])
}

/// One node: its dataplane and what control would hold.
pub(crate) struct Node {
    pub(crate) dataplane: Dataplane,
    pub(crate) links: Vec<ShardLink>,
    pub(crate) waker: Arc<ControlWaker>,
    pub(crate) reader: UnixStream,
    pub(crate) horizon: Arc<Horizon>,
    pub(crate) slices: Vec<Slice>,
    pub(crate) reports: Vec<FromShard>,
    pub(crate) messages: Vec<InboundMessage>,
}

impl Node {
    /// Takes everything that the shards have handed over.
    pub(crate) fn take(&mut self) {
        for link in &self.links {
            while let Some(event) = link.pop_slice() {
                match event {
                    FromShard::Slice { slice, .. } => self.slices.push(slice),
                    FromShard::LeaderSeen(_) => {}
                    report => self.reports.push(report),
                }
            }
            while let Some(message) = link.pop_message() {
                self.messages.push(message);
            }
            link.flush();
        }
    }

    pub(crate) fn counter(&self, counter: Counter) -> u64 {
        self.dataplane.counters().iter().map(|counters| counters.get(counter)).sum()
    }

    pub(crate) fn order(&self, shard: usize, mut order: ToShard) {
        let deadline = Instant::now() + PATIENCE;
        while let Err(back) = self.links[shard].push(order) {
            assert!(Instant::now() < deadline, "the shard takes no orders");
            self.links[shard].flush();
            std::thread::yield_now();
            order = back;
        }
        self.links[shard].flush();
    }

    pub(crate) fn received(&self, id: SliceId) -> Option<&Slice> {
        self.slices.iter().find(|slice| slice.id == id)
    }
}

/// Each of these functions is a test for each engine.
#[macro_export]
macro_rules! for_each_engine {
    ($($name:ident,)*) => {
        mod io_uring {
            $(#[test] fn $name() { super::$name(alpenglow_dataplane::EngineKind::IoUring) })*
        }
        mod syscalls {
            $(#[test] fn $name() { super::$name(alpenglow_dataplane::EngineKind::Syscalls) })*
        }
    };
}

/// The configurations of a cluster of equal stakes under a round-robin schedule, with the default coding parameters.
pub(crate) fn configs(engine: EngineKind, nodes: usize, shards: usize) -> Vec<DataplaneConfig> {
    configs_with(engine, CodingParameters::default(), nodes, shards)
}

/// The same with other parameters.
pub(crate) fn configs_with(
    engine: EngineKind,
    coding: CodingParameters,
    nodes: usize,
    shards: usize,
) -> Vec<DataplaneConfig> {
    let validators = (0..nodes).map(|index| (identity(index).verifying_key().to_bytes(), Stake(100))).collect();
    let validators = Arc::new(ValidatorSet::new(validators).unwrap());
    let seed = EpochSeed([7; 32]);
    let schedule = Arc::new(LeaderSchedule::new(ScheduleKind::RoundRobin, seed, &validators));
    let sampler = Arc::new(RelaySampler::new(&validators, seed, coding.total_shreds()));
    let ip = own_loopback_address();
    let addresses: Vec<SocketAddr> = (0..nodes).map(|index| SocketAddr::new(ip, 9_000 + index as u16)).collect();
    let config = |index: usize| DataplaneConfig {
        bind: addresses[index],
        addresses: addresses.clone(),
        own: ValidatorIndex(index as u16),
        cluster: CLUSTER,
        coding,
        kernel: Kernel::best(),
        identity: identity(index),
        validators: Arc::clone(&validators),
        schedule: Arc::clone(&schedule),
        sampler: Arc::clone(&sampler),
        shards,
        cores: vec![None; shards],
        engine,
        poll: Poll::Wait,
        slice_memory_bytes: 16 << 20,
        socket_buffer_bytes: 4 << 20,
        egress_mbit: None,
        clients: clients(1_000_000, 1_000_000),
        silent_relay: false,
    };
    (0..nodes).map(config).collect()
}

/// So many transactions a second from one source, and in all.
pub(crate) fn clients(of_source_per_s: u32, total_per_s: u32) -> ClientLimits {
    let limit = |per_s| NonZero::new(per_s).unwrap();
    ClientLimits { of_source_per_s: limit(of_source_per_s), total_per_s: limit(total_per_s) }
}

pub(crate) fn start(config: DataplaneConfig) -> Node {
    let (waker, reader) = ControlWaker::pair().unwrap();
    let horizon = Arc::new(Horizon::new(Slot(0), SHREDS_THROUGH));
    let (dataplane, links) = Dataplane::start(config, Arc::clone(&waker), Arc::clone(&horizon)).unwrap();
    Node { dataplane, links, waker, reader, horizon, slices: vec![], reports: vec![], messages: vec![] }
}

pub(crate) fn slice_id(slot: u64, index: usize) -> SliceId {
    SliceId { slot: Slot(slot), index: SliceIndex::new(index).unwrap() }
}

/// The round-robin leader.
pub(crate) fn leader(slot: u64, nodes: usize) -> usize {
    (slot / 4) as usize % nodes
}

/// Bytes that differ with the slice and from place to place.
pub(crate) fn payload(id: SliceId, bytes: usize) -> Vec<u8> {
    let seed = id.slot.0 as usize * 1_024 + id.index.get();
    (0..bytes).map(|index| (index * 31 + seed * 17 + index / 251) as u8).collect()
}

/// A datagram as it should be.
pub(crate) fn sealed(
    keys: &PairwiseKeys,
    cluster: ClusterId,
    to: ValidatorIndex,
    kind: Kind,
    lane: u8,
    body: &[u8],
) -> Vec<u8> {
    let prefix = Header::prefix(kind, lane, keys.own(), cluster);
    let tag = keys.tag_to(to, (&prefix, datagram::covered(kind, body)));
    [&prefix[..], &tag, body].concat()
}

/// The shreds of a slice with `bytes` of payload, signed by validator `leader`.
pub(crate) fn shreds(
    coding: CodingParameters,
    id: SliceId,
    is_last: bool,
    bytes: usize,
    leader: usize,
) -> Vec<Vec<u8>> {
    let mut shredder = Shredder::new(coding, CLUSTER);
    let wire = shred::wire_bytes(&coding, shredder.shred_len(bytes));
    let mut out = vec![0; coding.total_shreds() * wire];
    let offsets: Vec<usize> = (0..coding.total_shreds()).map(|index| index * wire).collect();
    shredder.shred(id, is_last, 0, &payload(id, bytes), &SliceSigner::new(&identity(leader)), &mut out, &offsets);
    out.chunks(wire).map(<[u8]>::to_vec).collect()
}

/// Returns the payload, as control keeps that of its own slices too.
pub(crate) fn send_slice(node: &Node, id: SliceId, is_last: bool, bytes: usize) -> SlicePayload {
    let shard = usize::from(id.lane()) % node.links.len();
    let payload = SlicePayload::from(payload(id, bytes));
    node.order(shard, ToShard::SendSlice { id, is_last, payload: payload.clone() });
    payload
}

/// Lets control's part run until `done`.
pub(crate) fn run_until(nodes: &mut [Node], what: &str, mut done: impl FnMut(&[Node]) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        nodes.iter_mut().for_each(Node::take);
        if done(nodes) {
            return;
        }
        if Instant::now() > deadline {
            panic!("{what} did not happen; counted so far:\n{}", describe(nodes));
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// All counters that are not zero, a line for each node.
pub(crate) fn describe(nodes: &[Node]) -> String {
    let of = |node: &Node| {
        let counted = Counter::ALL.iter().map(|&counter| (counter.name(), node.counter(counter)));
        counted.filter(|&(_, count)| count > 0).map(|(name, count)| format!("{name}={count} ")).collect::<String>()
    };
    nodes.iter().map(|node| of(node) + "\n").collect()
}
