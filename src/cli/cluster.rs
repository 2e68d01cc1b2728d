//! `alpenglow cluster`: a whole cluster on this host, measured.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};
use std::{io, iter};

use alpenglow_rotor::schedule::EpochSeed;
use alpenglow_rotor::types::VALIDATORS_MAX;
use clap::{Args, ValueEnum, value_parser};
use jiff::Timestamp;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::coding::CodingArgs;
use super::epochs::EpochArgs;
use super::genesis::random_seed;
use super::{CliError, print};
use crate::cluster::{self, CoreList, NodeAtSlot, Placement, Plan, Verdict};
use crate::config::{BLOCK_LOG_MIB_DEFAULT, Durability, EnginePolicy, KernelPolicy, PollPolicy, block_log_mib};
use crate::genesis::{DELTA_BLOCK_MS_MAX, ScheduleName, parse_seed};
use crate::load::{RATE_PER_S_MAX, TRANSACTION_BYTES_MAX, TRANSACTION_BYTES_MIN};
use crate::stakes::StakeDistribution;
use crate::topology::available_cores;

/// Runs a whole cluster on this host, a process for each validator, under load, and reports what it did.
///
/// Every slot has to be decided, finalized or skipped, by every node in time, all nodes have to agree, and what is sent
/// has to be finalized: then the run is valid, and the exit code 0. It is 1 for an invalid run or one that cannot be
/// carried out. All files, with the nodes' logs and everything the nodes told, stay in a folder.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct ClusterArgs {
    /// Number of validators, each a process; at least 2, since what one node sends is counted at another
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = value_parser!(u16).range(2..=VALIDATORS_MAX as i64))]
    nodes: u16,
    /// Slots to decide: 1 to this one
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = value_parser!(u64).range(1..=1_000_000))]
    slots: u64,
    /// Transactions offered per second, at fixed times; 0 for none. They go in turn to the validators that no --kill or
    /// --start names
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = value_parser!(u32).range(..=i64::from(RATE_PER_S_MAX)))]
    tx_rate: u32,
    /// Bytes of each transaction
    #[arg(long, value_name = "BYTES", default_value_t = 512, value_parser = value_parser!(u16).range(TRANSACTION_BYTES_MIN as i64..=TRANSACTION_BYTES_MAX as i64))]
    tx_size: u16,
    /// Time for one block (delta_block), in milliseconds; the timeout of a window is three times as long, and
    /// slices that are not full leave after a fortieth of it, but not before 10 ms
    #[arg(long, value_name = "MS", default_value_t = 400, value_parser = value_parser!(u64).range(1..=DELTA_BLOCK_MS_MAX))]
    block_ms: u64,
    /// Stakes: equal, mainnet (the proportions of Solana mainnet, scaled to the number of nodes), or a list as in 5,1,1
    #[arg(long, default_value_t)]
    stakes: StakeDistribution,
    /// How leaders follow each other
    #[arg(long, value_enum, default_value_t)]
    schedule: ScheduleName,
    /// What leaders and relays are drawn from: a number or 64 hexadecimal digits [default: random]
    #[arg(long, value_name = "SEED", value_parser = parse_seed)]
    seed: Option<EpochSeed>,
    #[command(flatten)]
    epochs: EpochArgs,
    #[command(flatten)]
    coding: CodingArgs,
    /// Threads of each node that handle shreds, 1 to 64
    #[arg(long, value_name = "N", default_value = "1", value_parser = parse_shards)]
    shards: NonZero<usize>,
    /// How they wait for work; auto spins only if every such thread of all nodes has a core of its own
    #[arg(long, value_enum, default_value_t)]
    poll: PollPolicy,
    /// How the nodes talk to the kernel
    #[arg(long, value_enum, default_value_t)]
    engine: EnginePolicy,
    /// What the nodes compute the erasure code with
    #[arg(long, value_enum, default_value_t)]
    kernel: KernelPolicy,
    /// Most that each node sends, in Mbit/s, up to 1000000; 0 for no limit
    #[arg(long, value_name = "MBIT", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    egress_mbit: u32,
    /// What the nodes remember their votes through without a pause
    #[arg(long, value_enum, default_value_t)]
    durability: Durability,
    /// Skip a window early whose leader has not sent a shred in time: try it with --kill
    #[arg(long)]
    crashed_leader_timer: bool,
    /// Most of each node's block log, in MiB, from 16; 0 for none
    #[arg(long, value_name = "MIB", default_value_t = BLOCK_LOG_MIB_DEFAULT, value_parser = block_log_mib)]
    block_log_mib: u64,
    /// Cores for the nodes, dealt out in turn: as many as shards and one more for each node, as in 0,2-4
    /// [default: no pinning, unless every thread can have a core of its own]
    #[arg(long, value_name = "LIST")]
    cores: Option<CoreList>,
    /// Folder of the run, new or empty [default: runs/ and the time]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Kill node I with SIGKILL as soon as any node has decided the slot; repeatable
    #[arg(long, value_name = "I@SLOT")]
    kill: Vec<NodeAtSlot>,
    /// Start node I, for the first time or again after its --kill, as soon as any node has decided the slot; if the
    /// nodes that run until then hold too little stake to decide anything, at the time of that slot; repeatable
    #[arg(long, value_name = "I@SLOT")]
    start: Vec<NodeAtSlot>,
    /// Node I never relays a shred; repeatable
    #[arg(long, value_name = "I")]
    silent_relay: Vec<u16>,
    /// Node I drops every shred that it receives, and follows by repair; repeatable
    #[arg(long, value_name = "I")]
    drop_shreds: Vec<u16>,
    /// Node I sends two versions of every slice when it leads; repeatable
    #[arg(long, value_name = "I")]
    equivocate: Vec<u16>,
    /// Node I floods the others with 10,000 datagrams a second that cost them most, beside its work; they check no more
    /// of what it sends, so that its own windows may be skipped, and the run is invalid if others' are, or if nothing
    /// of a kind got as far as the check that costs most; repeatable
    #[arg(long, value_name = "I")]
    flood: Vec<u16>,
    /// No node keeps a vote log: shows what that costs. None that was killed can be started again
    #[arg(long)]
    no_vote_log: bool,
    /// Form of the report on standard output
    #[arg(long, value_enum, default_value_t = OutputForm::Text)]
    output: OutputForm,
}

const AFTER_HELP: &str = "\
Examples:
  alpenglow cluster                                                        five nodes, 40 slots
  alpenglow cluster --nodes 20 --slots 20 --stakes mainnet                 more nodes, of unequal stake
  alpenglow cluster --slots 60 --schedule round-robin --kill 4@12 --kill 3@12    two of five crash
  alpenglow cluster --epoch-slots 8 --epoch 0:4=0 --epoch 2:4=3,0=0        in slot 16, node 4 comes and node 0 goes
  alpenglow cluster --start 4@12                                           one node joins late
  alpenglow cluster --kill 3@8 --start 3@16                                one crashes, and starts again
  alpenglow cluster --total-shreds 96 --datagram-bytes 1472                wider slices, larger datagrams
  alpenglow cluster --output json | jq .stages.finalized                   for programs";

/// The same bounds as in a node's config.
fn parse_shards(text: &str) -> Result<NonZero<usize>, &'static str> {
    text.parse().ok().filter(|shards: &NonZero<usize>| shards.get() <= 64).ok_or("expected a number from 1 to 64")
}

/// Form of what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputForm {
    /// A table for people
    Text,
    /// One JSON object
    Json,
}

impl ClusterArgs {
    /// Runs the cluster and prints its report. Has to be called from the main thread. The exit code tells whether the
    /// run is valid.
    ///
    /// # Errors
    /// [`CliError`].
    pub(crate) fn run(self) -> Result<ExitCode, CliError> {
        let output = self.output;
        let plan = self.plan()?;
        let interrupted = watch_for_interrupts().map_err(CliError::failed)?;
        let finished = cluster::run(&plan, &interrupted).map_err(CliError::failed)?;
        print(&match output {
            OutputForm::Text => finished.table(),
            OutputForm::Json => serde_json::to_string(&finished.outcome).expect("its keys are strings") + "\n",
        })?;
        Ok(match finished.outcome.verdict {
            Verdict::Valid => ExitCode::SUCCESS,
            Verdict::Invalid => ExitCode::FAILURE,
        })
    }

    fn plan(self) -> Result<Plan, CliError> {
        let nodes = usize::from(self.nodes);
        let cores = self.cores.as_ref().map(|list| list.0.as_slice());
        let stakes = self.stakes.stakes(nodes).map_err(|error| CliError::usage(format!("--stakes: {error}")))?;
        let (stakes, epochs) = self.epochs.parameters(stakes)?;
        let plan = Plan {
            nodes,
            slots: self.slots,
            transactions_per_s: self.tx_rate,
            transaction_bytes: usize::from(self.tx_size),
            block_time: Duration::from_millis(self.block_ms),
            stakes,
            epochs,
            schedule: self.schedule,
            seed: self.seed.map_or_else(random_seed, Ok)?,
            placement: Placement::plan(nodes, self.shards, cores, self.poll, &available_cores())
                .map_err(CliError::usage)?,
            coding: self.coding.parameters()?,
            engine: self.engine,
            kernel: self.kernel.kernel().map(|_| self.kernel).map_err(CliError::usage)?,
            egress_mbit: self.egress_mbit,
            durability: self.durability,
            crashed_leader_timer: self.crashed_leader_timer,
            block_log_mib: self.block_log_mib,
            kills: self.kill,
            starts: self.start,
            silent_relays: self.silent_relay,
            drop_shreds: self.drop_shreds,
            equivocators: self.equivocate,
            floods: self.flood,
            no_vote_log: self.no_vote_log,
            out: self.out.unwrap_or_else(|| default_folder(SystemTime::now(), Path::new("runs"))),
        };
        plan.check().map_err(CliError::usage)?;
        Ok(plan)
    }
}

/// A flag that turns true at the first SIGINT or SIGTERM. The second one ends this process, and the nodes with it.
fn watch_for_interrupts() -> io::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&interrupted))?;
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }
    Ok(interrupted)
}

/// The time in UTC in `runs`, as in `runs/20261122-143000`, with a number for all but the first one of a second.
fn default_folder(now: SystemTime, runs: &Path) -> PathBuf {
    let name = Timestamp::try_from(now).unwrap_or_default().strftime("%Y%m%d-%H%M%S").to_string();
    let numbered = (2..).map(|number| runs.join(format!("{name}-{number}")));
    iter::once(runs.join(&name)).chain(numbered).find(|folder| !folder.exists()).expect("there are numbers enough")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn the_default_folder_is_named_by_the_time_and_not_there_yet() {
        let now = UNIX_EPOCH + Duration::from_secs(1_709_164_799);
        let runs = tempfile::tempdir().unwrap();
        for name in ["20240228-235959", "20240228-235959-2", "20240228-235959-3"] {
            let folder = default_folder(now, runs.path());
            assert_eq!(folder, runs.path().join(name));
            fs::create_dir(folder).unwrap();
        }
    }
}
