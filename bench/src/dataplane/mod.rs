//! A shred's way, step by step: what our code takes, and its floor, the least that any code must do, measured in the
//! same run.

mod checks;
mod computation;
mod dissemination;
mod kernels;
mod relay;
mod udp_offload;

use clap::ValueEnum;

use self::computation::{Arrival, Garbage};
use self::relay::{BROADCAST, thirteen_shreds_to};
use crate::cores::{Cores, on_core};
use crate::report::{Report, Row};
use crate::rounds::{ROUNDS, ROUNDS_OVER_LOOPBACK};

/// A step, or several that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Step {
    /// A slice becomes signed shreds in datagrams.
    Encode,
    /// Datagrams in memory become a slice again: all 64 of them, 32 of them, and with a fifth of garbage among them;
    /// and what it takes to reject one datagram.
    Receive,
    /// The MAC of one shred's datagram, and those of eight to one peer.
    Mac,
    /// 13 shreds into a running shard over loopback, each to 4, 16 and 64 peers, with each engine: a hop's latency, and
    /// time per batch; and what MACs are of that.
    Relay,
    /// One shred into a running shard over loopback, and to 1,499 others.
    #[value(name = "broadcast_1499")]
    Broadcast,
    /// Slices through five dataplanes in this process, with 1, 2 and 3 shards each, with each engine: latency and
    /// goodput.
    Dissemination,
}

/// Measures `steps`, or all if there are none.
pub(crate) fn measure(steps: &[Step]) -> Report {
    let steps = if steps.is_empty() { Step::value_variants() } else { steps };
    let mut report = Report::begin("alpenglow.dataplane/1");
    report.rows.extend(steps.iter().flat_map(|step| rows(*step)));
    report
}

fn rows(step: Step) -> Vec<Row> {
    match step {
        Step::Encode => vec![on_core(Cores::last(), || computation::encode(ROUNDS))],
        Step::Receive => {
            let arrivals = [Arrival::All, Arrival::HalfLost, Arrival::Garbage];
            on_core(Cores::last(), || {
                let slices = arrivals.map(|arrival| computation::receive(arrival, ROUNDS));
                slices.into_iter().chain(Garbage::ALL.map(|kind| computation::reject(kind, ROUNDS))).collect()
            })
        }
        Step::Mac => on_core(Cores::last(), || vec![computation::mac(ROUNDS), computation::macs(ROUNDS)]),
        Step::Relay => {
            let relay =
                |peers| relay::relay(&format!("relay_{peers}"), thirteen_shreds_to(peers), ROUNDS_OVER_LOOPBACK);
            [4, 16, 64].into_iter().flat_map(relay).collect()
        }
        Step::Broadcast => relay::relay("broadcast_1499", BROADCAST, ROUNDS_OVER_LOOPBACK),
        Step::Dissemination => {
            (1..=3).flat_map(|shards| dissemination::disseminate(shards, ROUNDS_OVER_LOOPBACK)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::relay::Traffic;
    use super::*;

    fn check(rows: &[Row]) {
        for row in rows {
            assert!(row.ours_us > 0.0 && row.floor_us.is_none_or(|floor| floor > 0.0), "{row:?}");
        }
    }

    #[test]
    fn what_is_computed_from_memory_runs() {
        check(&[computation::encode(1), computation::mac(1), computation::macs(1)]);
        check(&[Arrival::All, Arrival::HalfLost, Arrival::Garbage].map(|arrival| computation::receive(arrival, 1)));
        check(&Garbage::ALL.map(|kind| computation::reject(kind, 1)));
    }

    #[test]
    fn relaying_over_loopback_runs() {
        check(&relay::relay("relay_4", Traffic { batches: 2, warm_up: 2, ..thirteen_shreds_to(4) }, 1));
        check(&relay::relay("broadcast", Traffic { batches: 1, warm_up: 2, peers: 99, ..BROADCAST }, 1));
    }

    #[test]
    fn dissemination_runs() {
        check(&dissemination::disseminate(2, 1));
    }
}
