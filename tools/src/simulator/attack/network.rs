//! The network: how long a datagram takes from one node to another, if it arrives, and how often it does.

use alpenglow_rotor::types::Time;
use clap::ValueEnum;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;
use serde::Serialize;

use super::fault::Fault;
use super::happened::Happened;

pub(super) const MS: u64 = 1_000_000;
/// Longest time for one way between two nodes of [`Topology::Matrix`], without jitter.
const DELAY_NS_MAX: u64 = 40 * MS;
const JITTER_NS: u64 = 5 * MS;
/// Bytes that a datagram has besides those that the simulator knows of: headers of all layers.
const OVERHEAD_BYTES: u64 = 28 + 32;

/// How far nodes are from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Topology {
    /// As far from each other as all others are
    Uniform,
    /// Each pair at a distance of its own, one for each direction
    Matrix,
    /// In the cities that Solana's mainnet is in
    Mainnet,
}

/// Cities and their shares of mainnet's stake in percent, with milliseconds for one way to Frankfurt.
const CITIES: [(u64, u64, Continent); 10] = [
    (26, 1, Continent::Europe),
    (18, 4, Continent::Europe),
    (11, 6, Continent::Europe),
    (8, 5, Continent::Europe),
    (7, 11, Continent::Europe),
    (10, 42, Continent::America),
    (8, 49, Continent::America),
    (5, 117, Continent::Asia),
    (4, 80, Continent::Asia),
    (3, 115, Continent::Asia),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Continent {
    Europe,
    America,
    Asia,
}

impl Topology {
    fn delays_ns(self, nodes: usize, random: &mut ChaCha8Rng) -> Vec<u64> {
        match self {
            Self::Uniform => {
                let delay_ns = MS + random.next_u64() % (DELAY_NS_MAX - MS);
                vec![delay_ns; nodes * nodes]
            }
            Self::Matrix => (0..nodes * nodes).map(|_| MS + random.next_u64() % (DELAY_NS_MAX - MS)).collect(),
            Self::Mainnet => {
                let cities: Vec<_> = (0..nodes).map(|_| city(random)).collect();
                let pairs = cities.iter().flat_map(|from| cities.iter().map(move |to| (*from, *to)));
                pairs.map(|(from, to)| one_way_ns(from, to)).collect()
            }
        }
    }
}

fn city(random: &mut ChaCha8Rng) -> usize {
    let total: u64 = CITIES.iter().map(|(share, ..)| share).sum();
    let mut left = random.next_u64() % total;
    let of_share = CITIES.iter().position(|(share, ..)| {
        let is_it = left < *share;
        left = left.saturating_sub(*share);
        is_it
    });
    of_share.expect("the shares add up to their total")
}

/// Within a continent as far as the difference to Frankfurt and a little; between others by way of it.
fn one_way_ns(from: usize, to: usize) -> u64 {
    let ((_, from_ms, here), (_, to_ms, there)) = (CITIES[from], CITIES[to]);
    if from == to {
        return MS / 3;
    }
    let ms = if here == there && here != Continent::Europe { from_ms.abs_diff(to_ms) + 10 } else { from_ms + to_ms };
    ms * MS
}

pub(super) struct Network {
    nodes: usize,
    delays_ns: Vec<u64>,
    /// When what a node sent has left it.
    idle_at: Vec<Time>,
}

/// A datagram that is sent.
pub(super) struct Sent {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) bytes: usize,
    /// When, in the run's time and in milliseconds since its beginning.
    pub(super) at: Time,
    pub(super) at_ms: u64,
}

impl Network {
    pub(super) fn new(topology: Topology, nodes: usize, random: &mut ChaCha8Rng) -> Self {
        Self { nodes, delays_ns: topology.delays_ns(nodes, random), idle_at: vec![Time(0); nodes] }
    }

    /// When it arrives: perhaps never, perhaps twice.
    pub(super) fn arrivals(
        &mut self,
        sent: &Sent,
        faults: &[Fault],
        random: &mut ChaCha8Rng,
        happened: &mut Happened,
    ) -> [Option<Time>; 2] {
        let &Sent { from, to, at, at_ms, .. } = sent;
        let (mut left, mut later_ns, mut is_twice) = (at, 0, false);
        let mut percent_of = |percent| random.next_u64() % 100 < percent;
        for fault in faults {
            match *fault {
                Fault::Bandwidth { node, kbit_per_second } if node == from => {
                    let bits = (sent.bytes as u64 + OVERHEAD_BYTES) * 8;
                    let begins = self.idle_at[from].max(at);
                    self.idle_at[from] = Time(begins.0 + bits * MS / kbit_per_second);
                    left = self.idle_at[from];
                    happened.add("datagrams_queued", u64::from(begins > at));
                }
                Fault::Partition { side, during }
                    if during.contains(at_ms) && side.contains(from) != side.contains(to) =>
                {
                    happened.count("datagrams_cut_off");
                    return [None; 2];
                }
                Fault::Loss { percent, during } if during.contains(at_ms) && percent_of(percent) => {
                    happened.count("datagrams_lost");
                    return [None; 2];
                }
                Fault::Duplication { percent } if percent_of(percent) => {
                    happened.count("datagrams_doubled");
                    is_twice = true;
                }
                Fault::Reordering { percent, by_ms } if percent_of(percent) => {
                    happened.count("datagrams_reordered");
                    later_ns = by_ms * MS;
                }
                _ => {}
            }
        }
        let delay_ns = self.delays_ns[from * self.nodes + to];
        let mut arrival = |later_ns: u64| Time(left.0 + delay_ns + random.next_u64() % (JITTER_NS + later_ns));
        let first = arrival(later_ns);
        [Some(first), is_twice.then(|| arrival(20 * MS))]
    }
}
