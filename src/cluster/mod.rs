//! A whole cluster on this host: one process for each validator, load, and a report of what they did.
//!
//! [`run`] is the course of a run: [`folder`] writes what the nodes need, [`processes`] starts them, [`watch`] listens
//! until every slot is decided, [`merge`] and [`verdict`] make the [`outcome`] of it, which [`table`] shows to people.

mod conclusion;
mod decisions;
mod display;
mod flooded;
mod folder;
mod merge;
mod outcome;
mod placement;
mod plan;
mod ports;
mod processes;
mod start;
mod table;
mod verdict;
mod watch;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use alpenglow_dataplane::clock;
use alpenglow_rotor::types::Time;

use crate::load::{LoadGenerator, LoadPlan, LoadSent};
use crate::new_cluster::NewClusterError;

use self::conclusion::conclude;
use self::display::Display;
use self::folder::{FolderError, RunFolder};
use self::outcome::Outcome;
use self::ports::NoFreePorts;
use self::start::{Started, start};
use self::table::TableHead;
use self::watch::Watch;

pub(crate) use self::outcome::Verdict;
pub(crate) use self::placement::Placement;
pub(crate) use self::plan::{CoreList, NodeAtSlot, Plan};

/// Why a run came to no outcome at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterError {
    /// No room for the nodes' sockets.
    #[error(transparent)]
    Ports(#[from] NoFreePorts),
    /// The run's files cannot be written.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The cluster's files cannot be made.
    #[error(transparent)]
    NewCluster(#[from] NewClusterError),
    /// A process or thread cannot be started.
    #[error("cannot start {what}: {source}")]
    Start {
        /// What.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Somebody asked us to stop.
    #[error("interrupted; what the nodes wrote so far is in {0}")]
    Interrupted(PathBuf),
}

/// What a run came to.
pub(crate) struct Finished {
    /// The result.
    pub(crate) outcome: Outcome,
    head: TableHead,
}

impl Finished {
    /// The report for people.
    pub(crate) fn table(&self) -> String {
        table::render(&self.head, &self.outcome)
    }
}

/// Carries out `plan`, from an empty folder to the merged reports of nodes that have ended. Has to be called from the
/// main thread: the kernel kills the nodes when the calling thread ends. Gives up when `interrupted` turns true.
///
/// # Errors
/// [`ClusterError`]; a run that fails to do what it should is no error but has an invalid outcome.
pub(crate) fn run(plan: &Plan, interrupted: &AtomicBool) -> Result<Finished, ClusterError> {
    let folder = RunFolder::create(&plan.out)?;
    let display = Display::new(plan.slots);
    let started = start(plan, &folder, &display, interrupted)?;
    let complete = started.death.is_none();
    let load = if complete { OfferedLoad::start(plan, &started)? } else { None };
    let mut watch = Watch::new(plan, &folder, &display, started)?;
    if complete {
        watch.until_decided(interrupted);
    }
    let load = load.map_or_else(LoadEnd::default, |load| load.stop(plan.block_time));
    watch.until_applied();
    let seen = watch.stop_nodes();
    display.end();
    if interrupted.load(Ordering::Relaxed) {
        return Err(ClusterError::Interrupted(folder.path().to_owned()));
    }
    let finished = conclude(plan, &folder, seen, &load);
    // It is printed all the same.
    if let Err(error) = folder.write_outcome(&finished.outcome, &finished.table()) {
        display.note(&error.to_string());
    }
    Ok(finished)
}

/// A load that is being offered.
struct OfferedLoad {
    plan: LoadPlan,
    generator: LoadGenerator,
}

/// What became of the load's sending side.
#[derive(Default)]
struct LoadEnd {
    sent: LoadSent,
    /// Transactions that were to be sent more than two slots before the end, and were sent.
    due: u64,
    /// From the first transaction to the end.
    duration: Duration,
}

impl OfferedLoad {
    /// Starts the load that `plan` wants, if any, at the validators that are there from the beginning to the end.
    fn start(plan: &Plan, started: &Started) -> Result<Option<Self>, ClusterError> {
        if plan.transactions_per_s == 0 {
            return Ok(None);
        }
        let absent = |index: usize| plan.kills.iter().chain(&plan.starts).any(|at| at.node.get() == index);
        let addresses = started.ports.addresses();
        let spared = addresses.iter().enumerate().filter(|(index, _)| !absent(*index));
        let load = LoadPlan {
            targets: spared.map(|(_, address)| *address).collect(),
            cluster: started.cluster.id(),
            rate_per_s: plan.transactions_per_s,
            transaction_bytes: plan.transaction_bytes,
            start: clock::now().after(started.first_slot.saturating_duration_since(Instant::now())),
        };
        let generator = LoadGenerator::start(load.clone(), clock::now)
            .map_err(|source| ClusterError::Start { what: "the load's sender", source })?;
        Ok(Some(Self { plan: load, generator }))
    }

    fn stop(self, block_time: Duration) -> LoadEnd {
        let end = clock::now();
        let sent = self.generator.stop();
        let two_slots_ns = u64::try_from(2 * block_time.as_nanos()).unwrap_or(u64::MAX);
        let due = self.plan.intended_before(Time(end.0.saturating_sub(two_slots_ns))).min(sent.transactions);
        LoadEnd { sent, due, duration: end.since(self.plan.start) }
    }
}
