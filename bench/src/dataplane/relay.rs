//! `relay` and `broadcast_1499`: shreds into a running shard, their copies out of it, over loopback; beside a program
//! that receives and sends the same datagrams and does nothing else.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use alpenglow_dataplane::{ControlWaker, Counter, Dataplane, DataplaneConfig, EngineKind, Horizon, Poll};
use alpenglow_rotor::types::Slot;

use super::checks::Checks;
use super::udp_offload::{Fan, Way, receive, send, socket};
use crate::cores::{Cores, on_core};
use crate::fixture::{Cluster, LEADER, NODE, Senders, slice_id};
use crate::report::Row;
use crate::rounds::{median, median_ratio};

/// Room for what is on its way.
const BUFFER_BYTES: usize = 64 << 20;
/// The largest that datagrams are ever joined to.
const JOINED_BYTES_MAX: usize = 65_536;
/// Batches on their way at once when as many as possible are to get through.
const IN_FLIGHT: usize = 4;
/// Nothing takes so long over loopback, unless it was lost.
const PATIENCE: Duration = Duration::from_secs(20);
/// The slot of the slices that come before the measured ones, and touch the memory that those then use.
const WARM_UP_SLOT: u64 = 1;
const MEASURED_SLOT: u64 = 2;

/// Most that relaying may take, of what it would without MACs (goal).
const MACS_GOAL_RATIO: f64 = 1.15;

/// What is relayed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traffic {
    /// Shreds of one slice that come in together.
    pub(crate) shreds: usize,
    /// Validators that each of them goes to.
    pub(crate) peers: usize,
    /// Batches sent one after the other, and batches sent several at once, in each round.
    pub(crate) batches: usize,
    /// Batches that come before. A node fills its receive buffers in turns, so it takes many to touch all of them.
    pub(crate) warm_up: usize,
}

/// The time from a batch's send to its last copy's arrival, and the time that each of many batches takes.
struct Times {
    hop_us: f64,
    batch_us: f64,
}

/// Two rows for each engine: latency of a hop, and time per batch on one busy core; and for the first of them what the
/// MACs are of that. The floor is the fastest bare program that does, between receiving and sending, what nobody can
/// leave out, see [`Checks`]. It does so in place: caches are full of packets by then, and a check takes longer than
/// where nothing else is done.
pub(crate) fn relay(name: &str, traffic: Traffic, rounds: usize) -> Vec<Row> {
    let cores = Cores::choose();
    let cluster = cluster(traffic);
    let mut senders = Senders::new(&cluster, &[LEADER]);
    let driver = Driver::new(&cluster, traffic);
    let warm_up = batches(&cluster, &mut senders, WARM_UP_SLOT, traffic.shreds, traffic.warm_up);
    let measured = batches(&cluster, &mut senders, MEASURED_SLOT, traffic.shreds, 2 * traffic.batches);
    let mut ours = EngineKind::ALL.map(|_| Vec::new());
    let (mut bare, mut checked) = (Way::ALL.map(|_| Vec::new()), Way::ALL.map(|_| Vec::new()));
    let mut checks = Checks::new(&cluster);
    for _ in 0..rounds {
        for (engine, times) in EngineKind::ALL.into_iter().zip(&mut ours) {
            times.push(relayed_by_shard(engine, &cluster, &cores, &driver, &warm_up, &measured));
        }
        for (way, (bare, checked)) in Way::ALL.into_iter().zip(bare.iter_mut().zip(&mut checked)) {
            let run = |checks| relayed_bare(way, traffic.peers, checks, &cores, &driver, &measured);
            bare.push(run(None));
            checked.push(run(Some(&mut checks)));
        }
    }
    let measurement = Measurement { bare, checked, packets: traffic.shreds * traffic.peers, macs_us: checks.macs_us() };
    let rows = EngineKind::ALL.into_iter().zip(ours).flat_map(|(engine, ours)| match engine {
        EngineKind::IoUring => {
            let mut rows = measurement.rows(name, &ours, Some(1.25));
            rows.push(measurement.macs(name, &ours));
            rows
        }
        // It is there to be compared with, and has no goals.
        EngineKind::Syscalls => measurement.rows(&format!("{name}_{}", engine.name()), &ours, None),
    });
    rows.collect()
}

/// What an engine's times are compared with, round by round.
struct Measurement {
    /// Nothing but traffic.
    bare: [Vec<Times>; Way::ALL.len()],
    /// With [`Checks`].
    checked: [Vec<Times>; Way::ALL.len()],
    packets: usize,
    /// Of a batch, in between receiving and sending it.
    macs_us: f64,
}

impl Measurement {
    /// A batch on a busy core, beside the same without the time of its MACs.
    fn macs(&self, name: &str, ours: &[Times]) -> Row {
        let ours_us = median(ours.iter().map(|times| times.batch_us).collect());
        Row {
            name: format!("{name}_with_macs"),
            ours_us,
            floor_us: Some(ours_us - self.macs_us),
            ratio_goal: Some(MACS_GOAL_RATIO),
            details: BTreeMap::from([("macs_us".into(), self.macs_us)]),
            ..Row::default()
        }
    }

    fn rows(&self, name: &str, ours: &[Times], ratio_goal: Option<f64>) -> Vec<Row> {
        let hop = self.row(format!("{name}_hop"), ours, |times| times.hop_us);
        let mut rate = self.row(format!("{name}_rate"), ours, |times| times.batch_us);
        let times = [("packets_per_s_core", Some(rate.ours_us)), ("floor_packets_per_s_core", rate.floor_us)];
        for (name, batch_us) in times {
            rate.details.insert(name.into(), batch_us.map_or(0.0, |batch_us| self.packets as f64 * 1e6 / batch_us));
        }
        [hop, rate].map(|row| Row { ratio_goal, ..row }).into()
    }

    fn row(&self, name: String, ours: &[Times], time: fn(&Times) -> f64) -> Row {
        let mut details = BTreeMap::new();
        let mut fastest = |what: &str, ways: &[Vec<Times>; Way::ALL.len()]| -> Vec<f64> {
            let mut fastest: Option<Vec<f64>> = None;
            for (way, times) in Way::ALL.into_iter().zip(ways) {
                let times: Vec<f64> = times.iter().map(time).collect();
                let way_us = median(times.clone());
                details.insert(format!("{what}_{}_us", way.name()), way_us);
                // Who has many peers has one socket for all of them.
                if way != Way::Connected && fastest.as_ref().is_none_or(|other| way_us < median(other.clone())) {
                    fastest = Some(times);
                }
            }
            fastest.expect("there are other ways than connected ones")
        };
        let (bare, floors) = (fastest("bare", &self.bare), fastest("checked", &self.checked));
        let ours: Vec<f64> = ours.iter().map(time).collect();
        let ours_us = median(ours.clone());
        details.extend([
            ("ns_per_packet".into(), ours_us * 1e3 / self.packets as f64),
            ("bare_ns_per_packet".into(), median(bare.clone()) * 1e3 / self.packets as f64),
            ("ratio_to_bare".into(), median_ratio(&ours, &bare)),
        ]);
        Row {
            name,
            ours_us,
            rounds_ratio: Some(median_ratio(&ours, &floors)),
            floor_us: Some(median(floors)),
            ratio_goal: None,
            goal_us: None,
            details,
        }
    }
}

/// A cluster of leader, node and peers in which the node relays at least so many shreds of every slice.
fn cluster(traffic: Traffic) -> Cluster {
    let total = alpenglow_rotor::parameters::CodingParameters::default().total_shreds() as f64;
    let share = (traffic.shreds as f64 + 0.5) / total;
    let other = 1_000_000_u64;
    let others = (traffic.peers + 1) as f64 * other as f64;
    let mut stakes = vec![other; traffic.peers + 2];
    stakes[NODE.get()] = (others * share / (1.0 - share)) as u64;
    Cluster::new(&stakes)
}

/// For each batch its datagrams, one after the other.
fn batches(cluster: &Cluster, senders: &mut Senders, slot: u64, shreds: usize, count: usize) -> Vec<Vec<u8>> {
    let batch = |index| {
        let id = slice_id(slot, index);
        let own = cluster.relays(id).into_iter().zip(senders.slice(id)).filter(|(relay, _)| *relay == NODE);
        let datagrams: Vec<_> = own.map(|(_, datagram)| datagram).take(shreds).collect();
        assert_eq!(datagrams.len(), shreds, "its stake gives it so many");
        datagrams.concat()
    };
    (0..count).map(batch).collect()
}

/// A node that is started anew: what it has of a core, the bare programs get in turns with it.
fn relayed_by_shard(
    engine: EngineKind,
    cluster: &Cluster,
    cores: &Cores,
    driver: &Driver,
    warm_up: &[Vec<u8>],
    measured: &[Vec<u8>],
) -> Times {
    let mut addresses = vec![driver.sink_address(); cluster.validators.len()];
    addresses[NODE.get()].set_port(0);
    let config = DataplaneConfig {
        engine,
        poll: if cores.relay.is_some() { Poll::Spin } else { Poll::Wait },
        cores: vec![cores.relay],
        slice_memory_bytes: 64 << 20,
        socket_buffer_bytes: BUFFER_BYTES,
        ..cluster.config(NODE, addresses, 1)
    };
    let (waker, _reader) = ControlWaker::pair().expect("a pair of sockets");
    let horizon = Arc::new(Horizon::new(Slot::GENESIS, Slot(MEASURED_SLOT)));
    let (dataplane, _links) = Dataplane::start(config, waker, Arc::clone(&horizon)).expect("a free port");
    let times = on_core(cores.driver, || {
        driver.drive(warm_up, dataplane.address());
        horizon.closed_through.store(WARM_UP_SLOT, Ordering::Relaxed);
        driver.drive(measured, dataplane.address())
    });
    let reports = dataplane.stop();
    let relayed: u64 = reports.iter().map(|report| report.counters.get(Counter::ShredsRelayed)).sum();
    let sent = warm_up.iter().chain(measured).map(|batch| batch.len() / driver.datagram_bytes);
    assert_eq!(relayed, sent.sum::<usize>() as u64, "everything went the whole way");
    times
}

/// Receives what is there and sends it as often as there are peers, straight from the buffer that it came in; in
/// between it runs `checks`, if there are any.
fn relayed_bare(
    way: Way,
    peers: usize,
    mut checks: Option<&mut Checks>,
    cores: &Cores,
    driver: &Driver,
    measured: &[Vec<u8>],
) -> Times {
    let relay = socket(driver.datagram_bytes, BUFFER_BYTES).expect("a loopback socket");
    let address = relay.local_addr().expect("a bound socket");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            on_core(cores.relay, || {
                let fan = Fan::new(way, &relay, driver.datagram_bytes, driver.sink_address(), peers);
                let mut fan = fan.expect("a way that the kernel knows");
                let mut buffer = vec![0; JOINED_BYTES_MAX];
                while !stop.load(Ordering::Relaxed) {
                    let bytes = receive(&relay, &mut buffer);
                    if bytes > 0 {
                        if let Some(checks) = &mut checks {
                            checks.run(&buffer[..bytes]);
                        }
                        fan.send(&buffer[..bytes]);
                    } else if cores.relay.is_none() {
                        thread::yield_now();
                    }
                }
            });
        });
        let times = on_core(cores.driver, || driver.drive(measured, address));
        stop.store(true, Ordering::Relaxed);
        times
    })
}

/// Sends batches and counts their copies.
struct Driver {
    source: UdpSocket,
    /// Where the copies for all peers go.
    sink: UdpSocket,
    datagram_bytes: usize,
    copies_bytes: usize,
}

impl Driver {
    fn new(cluster: &Cluster, traffic: Traffic) -> Self {
        let datagram_bytes = cluster.datagram_bytes();
        let socket = || socket(datagram_bytes, BUFFER_BYTES).expect("a loopback socket");
        let copies_bytes = traffic.shreds * traffic.peers * datagram_bytes;
        Self { source: socket(), sink: socket(), datagram_bytes, copies_bytes }
    }

    fn sink_address(&self) -> SocketAddr {
        self.sink.local_addr().expect("a bound socket")
    }

    /// The first half of the batches one at a time, the second half several at once.
    fn drive(&self, batches: &[Vec<u8>], to: SocketAddr) -> Times {
        let (single, many) = batches.split_at(batches.len() / 2);
        let mut buffer = vec![0; JOINED_BYTES_MAX];
        let hops = single.iter().map(|batch| self.deliver(std::slice::from_ref(batch), to, &mut buffer));
        let hop_us = median(hops.collect());
        let batch_us = self.deliver(many, to, &mut buffer) / many.len() as f64;
        Times { hop_us, batch_us }
    }

    /// Microseconds from the first send to the last copy.
    fn deliver(&self, batches: &[Vec<u8>], to: SocketAddr, buffer: &mut [u8]) -> f64 {
        let start = Instant::now();
        let (mut sent, mut received) = (0, 0);
        while received < batches.len() * self.copies_bytes {
            if sent < batches.len() && sent < received / self.copies_bytes + IN_FLIGHT {
                send(&self.source, &batches[sent], to);
                sent += 1;
            }
            let bytes = receive(&self.sink, buffer);
            received += bytes;
            if bytes == 0 {
                assert!(
                    start.elapsed() < PATIENCE,
                    "copies were lost: allow larger buffers (sysctl net.core.rmem_max)"
                );
            }
        }
        start.elapsed().as_secs_f64() * 1e6
    }
}

/// 13 shreds to so many peers.
pub(crate) const fn thirteen_shreds_to(peers: usize) -> Traffic {
    Traffic { shreds: 13, peers, batches: 40, warm_up: 150 }
}

/// One shred to all others of 1,501 validators.
pub(crate) const BROADCAST: Traffic = Traffic { shreds: 1, peers: 1_499, batches: 10, warm_up: 20 };
