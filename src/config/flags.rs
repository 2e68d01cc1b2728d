//! The flags of `alpenglow node` that override its config file.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::Args;
use clap::builder::RangedU64ValueParser;

use super::file::{
    BLOCK_LOG_MIB, BLOCK_LOG_SLOTS, ConfigFile, EGRESS_MBIT, FLOOD_PER_S, SHARDS, SLICE_INTERVAL_MS, SLICE_MEMORY_MIB,
    TRANSACTIONS_PER_S,
};
use super::policies::{CorePolicy, Durability, EnginePolicy, KernelPolicy, PollPolicy, Verifiers};
use crate::failpoint::FailAt;

/// The flags of a node that override its config file.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Instead of what the config file says")]
pub(crate) struct ConfigFlags {
    /// File of the secret identity
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// File of the secret voting key
    #[arg(long, value_name = "FILE")]
    bls_key: Option<PathBuf>,
    /// Genesis file of the cluster
    #[arg(long, value_name = "FILE")]
    genesis: Option<PathBuf>,
    /// Folder for what the node writes
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// UDP address to receive at
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = bind)]
    bind: Option<SocketAddr>,
    /// Threads that handle shreds, 1 to 64
    #[arg(long, value_name = "N", value_parser = within(SHARDS))]
    shards: Option<u64>,
    /// Where threads run: auto, none, or cores as in 2,3 (one for each shard, then control)
    #[arg(long, value_name = "CORES")]
    cores: Option<CorePolicy>,
    /// How the node talks to the kernel
    #[arg(long)]
    engine: Option<EnginePolicy>,
    /// How threads wait for work
    #[arg(long)]
    poll: Option<PollPolicy>,
    /// What the erasure code is computed with
    #[arg(long)]
    kernel: Option<KernelPolicy>,
    /// Threads that check votes: a number up to 256, or auto
    #[arg(long, value_name = "N")]
    verifiers: Option<Verifiers>,
    /// Milliseconds after which a slice leaves even if it is not full
    #[arg(long, value_name = "MS", value_parser = within(SLICE_INTERVAL_MS))]
    slice_interval_ms: Option<u64>,
    /// Skip a window early whose leader has not sent a shred in time
    #[arg(long)]
    crashed_leader_timer: bool,
    /// Memory for incomplete slices, in MiB
    #[arg(long, value_name = "MIB", value_parser = within(SLICE_MEMORY_MIB))]
    slice_memory_mib: Option<u64>,
    /// Most of the block log, in MiB, from 16; 0 for none
    #[arg(long, value_name = "MIB", value_parser = block_log_mib)]
    block_log_mib: Option<u64>,
    /// How many slots the block log reaches back
    #[arg(long, value_name = "N", value_parser = within(BLOCK_LOG_SLOTS))]
    block_log_slots: Option<u64>,
    /// Send no more than so many megabits a second; 0 for no limit
    #[arg(long, value_name = "MBIT", value_parser = within(EGRESS_MBIT))]
    egress_mbit: Option<u64>,
    /// What votes are remembered through without a pause
    #[arg(long)]
    durability: Option<Durability>,
    /// Take no more transactions each second from one client's address
    #[arg(long, value_name = "N", value_parser = within(TRANSACTIONS_PER_S))]
    client_transactions_per_s: Option<u64>,
    /// Take no more transactions each second from all clients together
    #[arg(long, value_name = "N", value_parser = within(TRANSACTIONS_PER_S))]
    total_transactions_per_s: Option<u64>,
    /// Let debuggers, profilers and core dumps at the memory that holds the keys
    #[arg(long)]
    debuggable: bool,
    /// Never relay shreds; for experiments
    #[arg(long)]
    silent_relay: bool,
    /// Drop every shred received; for experiments
    #[arg(long)]
    drop_shreds: bool,
    /// As leader, send two versions of every slice; for experiments
    #[arg(long)]
    equivocate: bool,
    /// Flood the others with so many datagrams a second that cost them most; for experiments
    #[arg(long, value_name = "N", value_parser = within(FLOOD_PER_S))]
    flood_per_s: Option<u64>,
    /// Keep no vote log, and sign conflicting votes after a restart; for tests
    #[arg(long, hide = true)]
    no_vote_log: bool,
    /// End at once, as if killed, when a point is passed so many times, as in after-log:7; for tests
    #[arg(long, value_name = "POINT:COUNT", hide = true)]
    fail_at: Option<FailAt>,
}

/// The value of a flag `--bind`.
fn bind(text: &str) -> Result<SocketAddr, &'static str> {
    let address = text.parse().ok().filter(|address: &SocketAddr| address.port() > 0);
    address.ok_or("expected an IP address of this host and a port, as in 127.0.0.1:8000 or [::1]:8000")
}

/// The value of a flag `--block-log-mib`.
pub(crate) fn block_log_mib(text: &str) -> Result<u64, String> {
    let mib = text.parse().ok().filter(|mib| *mib == 0 || BLOCK_LOG_MIB.contains(mib));
    mib.ok_or_else(|| format!("it must be 0 or from {} to {}", BLOCK_LOG_MIB.start(), BLOCK_LOG_MIB.end()))
}

fn within(range: RangeInclusive<u64>) -> RangedU64ValueParser {
    RangedU64ValueParser::new().range(range)
}

impl ConfigFlags {
    /// Puts what is given in the place of what `file` says.
    pub(super) fn apply(&self, file: &mut ConfigFile) {
        fn set<T: Clone>(value: &mut T, flag: &Option<T>) {
            if let Some(flag) = flag {
                value.clone_from(flag);
            }
        }
        set(&mut file.identity, &self.identity);
        set(&mut file.bls_key, &self.bls_key);
        set(&mut file.genesis, &self.genesis);
        set(&mut file.data, &self.data);
        set(&mut file.bind, &self.bind);
        set(&mut file.shards, &self.shards);
        set(&mut file.cores, &self.cores);
        set(&mut file.engine, &self.engine);
        set(&mut file.poll, &self.poll);
        set(&mut file.kernel, &self.kernel);
        set(&mut file.verifiers, &self.verifiers);
        set(&mut file.slice_interval_ms, &self.slice_interval_ms);
        set(&mut file.slice_memory_mib, &self.slice_memory_mib);
        set(&mut file.block_log_mib, &self.block_log_mib);
        set(&mut file.block_log_slots, &self.block_log_slots);
        set(&mut file.egress_mbit, &self.egress_mbit);
        file.crashed_leader_timer |= self.crashed_leader_timer;
        set(&mut file.durability, &self.durability);
        set(&mut file.client_transactions_per_s, &self.client_transactions_per_s);
        set(&mut file.total_transactions_per_s, &self.total_transactions_per_s);
        file.debuggable |= self.debuggable;
        file.testing.silent_relay |= self.silent_relay;
        file.testing.drop_shreds |= self.drop_shreds;
        file.testing.equivocate |= self.equivocate;
        set(&mut file.testing.flood_per_s, &self.flood_per_s);
        file.testing.no_vote_log |= self.no_vote_log;
        file.testing.fail_at = self.fail_at;
    }
}
