//! `dissemination`: five dataplanes in one process, real sockets, no consensus: slices from their leader to everybody.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use alpenglow_dataplane::{
    ControlWaker, Counter, Dataplane, DataplaneConfig, EngineKind, FromShard, Horizon, ShardLink, ToShard,
};
use alpenglow_rotor::slice::{SliceId, SlicePayload};
use alpenglow_rotor::types::{Slot, ValidatorIndex};

use super::kernels::{Bare, Work};
use crate::cores::{Cores, on_core};
use crate::fixture::{Cluster, LEADER, noise, shuffled, slice_id};
use crate::report::Row;
use crate::rounds::{median, percentile};

const NODES: usize = 5;
/// Slices in each round, one at a time and several at once.
const SLICES: usize = 40;
/// Slices on their way at once when as many as possible are to get through.
const IN_FLIGHT: usize = 16;
/// Slots from one window of the leader's to its next.
const SLOTS_BETWEEN_WINDOWS: u64 = 4 * NODES as u64;
/// This thread only looks in from time to time, to leave the cores to the shards. Latencies do not depend on it.
const LOOK: Duration = Duration::from_micros(100);
/// Nothing takes so long, unless it was lost.
const PATIENCE: Duration = Duration::from_secs(20);

/// Two rows for each engine: the latency of a slice that is alone, and the time that each of many takes. Shards wait,
/// since they are more than the cores.
pub(crate) fn disseminate(shards: usize, rounds: usize) -> Vec<Row> {
    let cluster = Cluster::of_five();
    let mut runs = EngineKind::ALL.map(|engine| Run::start(engine, &cluster, shards));
    let lost = &shuffled(cluster.coding.total_shreds(), 1)[cluster.coding.data_shreds()..];
    let mut bare = on_core(Cores::last(), || Bare::new(cluster.coding, lost, &Floors::WORKS));
    // The first round touches memory and does not count.
    for round in 0..=rounds {
        for run in &mut runs {
            run.round(round as u64, round > 0);
        }
        if round > 0 {
            on_core(Cores::last(), || bare.round());
        }
    }
    let floors = Floors::new(&bare.fastest());
    runs.into_iter().flat_map(|run| run.end(&cluster, shards, rounds, &floors)).collect()
}

/// Nodes with one engine, and what was measured of them.
struct Run {
    engine: EngineKind,
    nodes: Vec<Node>,
    payload: SlicePayload,
    latencies_us: Vec<f64>,
    slice_us: Vec<f64>,
}

impl Run {
    fn start(engine: EngineKind, cluster: &Cluster, shards: usize) -> Self {
        let payload = SlicePayload::from(noise(cluster.coding.slice_payload_bytes()));
        Self { engine, nodes: start(engine, cluster, shards), payload, latencies_us: Vec::new(), slice_us: Vec::new() }
    }

    fn round(&mut self, round: u64, counts: bool) {
        let slot = (round + 1) * SLOTS_BETWEEN_WINDOWS;
        let mut alone_us = Vec::new();
        for index in 0..SLICES {
            send(&self.nodes, &self.payload, slice_id(slot, index));
            alone_us.extend(receive(&mut self.nodes, NODES - 1));
        }
        let elapsed_us = stream(&mut self.nodes, &self.payload, slot);
        close(&self.nodes, slot);
        if counts {
            self.latencies_us.extend(alone_us);
            self.slice_us.push(elapsed_us / SLICES as f64);
        }
    }

    fn end(self, cluster: &Cluster, shards: usize, rounds: usize, floors: &Floors) -> Vec<Row> {
        let reports: Vec<_> = self.nodes.into_iter().flat_map(|node| node.dataplane.stop()).collect();
        let decoded: u64 = reports.iter().map(|report| report.counters.get(Counter::SlicesDecoded)).sum();
        assert!(decoded >= ((rounds + 1) * 2 * SLICES * (NODES - 1)) as u64, "everybody decodes every slice");
        let mut rows = rows(cluster, shards, floors, &self.latencies_us, median(self.slice_us));
        if self.engine == EngineKind::Syscalls {
            // It is there to be compared with, and has no goals.
            for row in &mut rows {
                row.name = format!("{}_{}", row.name, self.engine.name());
                row.goal_us = None;
            }
        }
        rows
    }
}

/// What nobody can do without: the leader's computations for a slice, and each of the others'.
struct Floors {
    encode_us: f64,
    receive_us: f64,
}

impl Floors {
    const WORKS: [Work; 6] = [Work::Leaves, Work::InnerNodes, Work::Sign, Work::Verify, Work::Encode, Work::Rebuild];

    fn new(samples: &BTreeMap<Work, Vec<f64>>) -> Self {
        let sum = |works: &[Work]| works.iter().map(|work| median(samples[work].clone())).sum::<f64>();
        Self {
            encode_us: sum(&[Work::Leaves, Work::InnerNodes, Work::Sign, Work::Encode]),
            receive_us: sum(&[Work::Leaves, Work::InnerNodes, Work::Verify, Work::Rebuild]),
        }
    }
}

fn rows(cluster: &Cluster, shards: usize, floors: &Floors, latencies_us: &[f64], slice_us: f64) -> Vec<Row> {
    let &Floors { encode_us, receive_us } = floors;
    let cores = thread::available_parallelism().map_or(1, usize::from).min(NODES * shards);
    let latency = |percent| percentile(latencies_us, percent, f64::ceil);
    let alone = Row {
        name: format!("dissemination_{shards}_shards"),
        ours_us: latency(50.0),
        floor_us: Some(encode_us + receive_us),
        rounds_ratio: None,
        ratio_goal: None,
        goal_us: Some(500.0),
        details: [10.0, 50.0, 90.0, 99.0, 100.0]
            .map(|percent| (format!("p{percent:02}_us"), latency(percent)))
            .into_iter()
            .collect(),
    };
    let megabytes_per_s = |time_us: f64| cluster.coding.slice_payload_bytes() as f64 / time_us;
    let floor_us = (encode_us + (NODES - 1) as f64 * receive_us) / cores as f64;
    let saturated = Row {
        name: format!("goodput_{shards}_shards"),
        ours_us: slice_us,
        floor_us: Some(floor_us),
        rounds_ratio: None,
        ratio_goal: None,
        goal_us: None,
        details: BTreeMap::from([
            ("megabytes_per_s".into(), megabytes_per_s(slice_us)),
            ("floor_megabytes_per_s".into(), megabytes_per_s(floor_us)),
        ]),
    };
    vec![alone, saturated]
}

/// One node, and what control would hold.
struct Node {
    dataplane: Dataplane,
    links: Vec<ShardLink>,
    horizon: Arc<Horizon>,
    _reader: UnixStream,
}

fn start(engine: EngineKind, cluster: &Cluster, shards: usize) -> Vec<Node> {
    let addresses = free_addresses();
    let start = |index: usize| {
        let (waker, reader) = ControlWaker::pair().expect("a pair of sockets");
        let horizon = Arc::new(Horizon::new(Slot::GENESIS, Slot(u64::MAX)));
        let config = cluster.config(ValidatorIndex(index as u16), addresses.clone(), shards);
        let config = DataplaneConfig { engine, ..config };
        let (dataplane, links) = Dataplane::start(config, waker, Arc::clone(&horizon)).expect("a free port");
        Node { dataplane, links, horizon, _reader: reader }
    };
    (0..NODES).map(start).collect()
}

/// Ports that were free a moment ago, all held at once so that they differ.
fn free_addresses() -> Vec<SocketAddr> {
    let sockets: Vec<_> =
        (0..NODES).map(|_| UdpSocket::bind(("127.0.0.1", 0)).expect("a free port of loopback")).collect();
    sockets.iter().map(|socket| socket.local_addr().expect("a bound socket")).collect()
}

fn send(nodes: &[Node], payload: &SlicePayload, id: SliceId) {
    let links = &nodes[LEADER.get()].links;
    let link = &links[usize::from(id.lane()) % links.len()];
    let order = ToShard::SendSlice { id, is_last: false, payload: payload.clone() };
    assert!(link.push(order).is_ok(), "fewer orders than the queue holds");
    link.flush();
}

/// Waits until so many slices were handed over; each with the microseconds from its leader's stamp to its decoding.
fn receive(nodes: &mut [Node], slices: usize) -> Vec<f64> {
    let (start, mut latencies_us) = (Instant::now(), Vec::new());
    loop {
        for node in nodes.iter_mut() {
            latencies_us.extend(take(node));
        }
        if latencies_us.len() >= slices {
            return latencies_us;
        }
        assert!(start.elapsed() < PATIENCE, "slices were lost: allow larger buffers (sysctl net.core.rmem_max)");
        thread::sleep(LOOK);
    }
}

fn take(node: &mut Node) -> Vec<f64> {
    let mut latencies_us = Vec::new();
    for link in &node.links {
        while let Some(event) = link.pop_slice() {
            if let FromShard::Slice { slice, decoded } = event {
                latencies_us.push(decoded.0.saturating_sub(slice.leader_stamp_ns) as f64 / 1e3);
            }
        }
        link.flush();
    }
    latencies_us
}

/// Microseconds that many slices take, several at once.
fn stream(nodes: &mut [Node], payload: &SlicePayload, slot: u64) -> f64 {
    let (start, mut sent, mut received) = (Instant::now(), 0, 0);
    while received < SLICES * (NODES - 1) {
        while sent < SLICES && sent < received / (NODES - 1) + IN_FLIGHT {
            send(nodes, payload, slice_id(slot, SLICES + sent));
            sent += 1;
        }
        received += receive(nodes, 1).len();
    }
    start.elapsed().as_secs_f64() * 1e6
}

fn close(nodes: &[Node], slot: u64) {
    nodes.iter().for_each(|node| node.horizon.closed_through.store(slot, Ordering::Relaxed));
}
