//! The start of a run: all nodes ready before the first slot begins, but for those that the plan wants started later.
//!
//! The time of the first slot stands in the genesis file, so it has to be chosen before anybody knows how long the
//! nodes take to start. If that was too short, everything is started once more with more time.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use alpenglow_rotor::types::ValidatorIndex;

use super::ClusterError;
use super::display::Display;
use super::folder::RunFolder;
use super::plan::Plan;
use super::ports::PortRange;
use super::processes::{Heard, LOOK_AGAIN, NodeCommand, Processes, Said};
use crate::new_cluster::NewCluster;
use crate::report::NodeEvent;

/// Times that the nodes are started before the run goes on with nodes that are late.
const ATTEMPTS_MAX: u32 = 4;
/// How long nodes may take until they are ready.
const READY_WAIT_MAX: Duration = Duration::from_secs(120);

/// Nodes that are ready, or one that failed.
pub(super) struct Started {
    /// Their files.
    pub(super) cluster: NewCluster,
    /// The nodes.
    pub(super) processes: Processes,
    /// Their ports, not to be taken by others until the run is over.
    pub(super) ports: PortRange,
    /// When the first slot begins.
    pub(super) first_slot: Instant,
    /// What was heard before the last node was ready, but for that.
    pub(super) early: Vec<Heard>,
    /// In words, why not all nodes are ready.
    pub(super) death: Option<String>,
}

/// Starts the nodes of `plan`.
///
/// # Errors
/// [`ClusterError`]; a node that does not get ready is no error.
pub(super) fn start(
    plan: &Plan,
    folder: &RunFolder,
    display: &Display,
    interrupted: &AtomicBool,
) -> Result<Started, ClusterError> {
    let ports = PortRange::find(plan.nodes, std::process::id())?;
    let mut lead = lead(plan.nodes);
    let (parameters, validators) = (plan.parameters(SystemTime::now()), plan.validators(&ports.addresses()));
    let mut cluster = NewCluster::create(folder.path(), &parameters, &validators)?;
    let commands = commands(&cluster, plan)?;
    for attempt in 1.. {
        let begun = Instant::now();
        cluster.set_start_time(SystemTime::now() + lead)?;
        let mut processes = Processes::start(&commands, |node| plan.starts_with_the_run(node))
            .map_err(|source| ClusterError::Start { what: "the node processes", source })?;
        let mut early = Vec::new();
        let death = wait_until_ready(&mut processes, plan, &mut early, interrupted);
        let (first_slot, took) = (begun + lead, begun.elapsed());
        let in_time = Instant::now() < first_slot;
        if in_time || death.is_some() || attempt == ATTEMPTS_MAX || interrupted.load(Ordering::Relaxed) {
            return Ok(Started { cluster, processes, ports, first_slot, early, death });
        }
        drop(processes);
        ports.wait_until_free().map_err(|source| ClusterError::Start { what: "the nodes once more", source })?;
        lead = 2 * lead.max(took);
        display.note(&format!(
            "the nodes took {:.1} s to start, longer than planned: starting again with the first slot {:.1} s ahead",
            took.as_secs_f64(),
            lead.as_secs_f64()
        ));
    }
    unreachable!("the loop returns at the last attempt")
}

fn commands(cluster: &NewCluster, plan: &Plan) -> Result<Vec<NodeCommand>, ClusterError> {
    let program = std::env::current_exe()
        .map_err(|source| ClusterError::Start { what: "a node: this program cannot be found", source })?;
    let command = |node| NodeCommand {
        program: program.clone(),
        arguments: ["node", "--events"]
            .into_iter()
            .chain(plan.no_vote_log.then_some("--no-vote-log"))
            .chain(["--config"])
            .map(OsString::from)
            .chain([cluster.config(node).into()])
            .collect(),
        log: cluster.node_folder(node).join("stderr.log"),
    };
    Ok((0u16..).take(plan.nodes).map(ValidatorIndex).map(command).collect())
}

/// Time from writing the genesis file to the first slot, as a first guess.
fn lead(nodes: usize) -> Duration {
    Duration::from_millis(1_000 + 100 * nodes as u64)
}

/// Returns in words why not all nodes are ready, if so. Other events go to `early`.
fn wait_until_ready(
    processes: &mut Processes,
    plan: &Plan,
    early: &mut Vec<Heard>,
    interrupted: &AtomicBool,
) -> Option<String> {
    let deadline = Instant::now() + READY_WAIT_MAX;
    let mut waiting: BTreeSet<u16> =
        (0u16..).take(plan.nodes).filter(|node| plan.starts_with_the_run(ValidatorIndex(*node))).collect();
    while !waiting.is_empty() && !interrupted.load(Ordering::Relaxed) {
        if Instant::now() >= deadline {
            let waiting: Vec<String> = waiting.iter().map(u16::to_string).collect();
            return Some(format!("not ready within {} s: node {}", READY_WAIT_MAX.as_secs(), waiting.join(", ")));
        }
        let Some(heard) = processes.hear(Instant::now() + LOOK_AGAIN) else { continue };
        match heard.what {
            Said::Event(NodeEvent::Ready) => {
                waiting.remove(&heard.node.0);
            }
            Said::Event(_) => early.push(heard),
            Said::Nonsense(line) => return Some(nonsense(heard.node, &line)),
            Said::Closed => {
                let death = processes.describe_death(heard.node);
                // The watch waits at the end for every node's output to close.
                early.push(heard);
                return Some(death);
            }
        }
    }
    None
}

/// In words: a node broke the format of its standard output.
pub(super) fn nonsense(node: ValidatorIndex, line: &str) -> String {
    format!("node {} wrote a line that is no event: {:?}", node.0, line.trim_end())
}
