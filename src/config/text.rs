//! A new config file, with every key and what it means.

use std::fmt::Write;
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::Path;

use alpenglow_dataplane::ClientLimits;

use super::file::{
    BLOCK_LOG_MIB_DEFAULT, BLOCK_LOG_SLOTS_DEFAULT, SLICE_INTERVAL_MS_DEFAULT, SLICE_MEMORY_MIB_DEFAULT,
};
use super::policies::{CorePolicy, Durability, EnginePolicy, KernelPolicy, PollPolicy};

/// What a new config file says.
#[derive(Clone, Debug)]
pub(crate) struct NewConfig {
    /// Where to receive.
    pub(crate) bind: SocketAddr,
    /// Shard threads.
    pub(crate) shards: NonZero<usize>,
    /// Where threads run.
    pub(crate) cores: CorePolicy,
    /// How the node talks to the kernel.
    pub(crate) engine: EnginePolicy,
    /// How threads wait.
    pub(crate) poll: PollPolicy,
    /// What the erasure code is computed with.
    pub(crate) kernel: KernelPolicy,
    /// Verifier threads, `None` for as many as cores are left.
    pub(crate) verifiers: Option<NonZero<usize>>,
    /// Milliseconds after its first transaction at which a slice leaves.
    pub(crate) slice_interval_ms: u64,
    /// Skip windows whose leaders show no sign of life.
    pub(crate) crashed_leader_timer: bool,
    /// Memory for incomplete slices.
    pub(crate) slice_memory_mib: u64,
    /// Most of the block log; 0 for none.
    pub(crate) block_log_mib: u64,
    /// Slots that it reaches back.
    pub(crate) block_log_slots: u64,
    /// Most that is sent, in Mbit/s; 0 for no limit.
    pub(crate) egress_mbit: u32,
    /// What votes are remembered through.
    pub(crate) durability: Durability,
    /// Transactions that clients may give it.
    pub(crate) clients: ClientLimits,
    /// Let debuggers, profilers and core dumps at the memory that holds the keys.
    pub(crate) debuggable: bool,
    /// Never relay.
    pub(crate) silent_relay: bool,
    /// Drop every shred received.
    pub(crate) drop_shreds: bool,
    /// Send two versions of every own slice.
    pub(crate) equivocate: bool,
    /// Flood the others with so many datagrams a second; 0 for not at all.
    pub(crate) flood_per_s: u32,
}

impl NewConfig {
    /// The defaults, for a node that receives at `bind`.
    pub(crate) fn at(bind: SocketAddr) -> Self {
        Self {
            bind,
            shards: NonZero::<usize>::MIN,
            cores: CorePolicy::default(),
            engine: EnginePolicy::default(),
            poll: PollPolicy::default(),
            kernel: KernelPolicy::default(),
            verifiers: None,
            slice_interval_ms: SLICE_INTERVAL_MS_DEFAULT,
            crashed_leader_timer: false,
            slice_memory_mib: SLICE_MEMORY_MIB_DEFAULT,
            block_log_mib: BLOCK_LOG_MIB_DEFAULT,
            block_log_slots: BLOCK_LOG_SLOTS_DEFAULT,
            egress_mbit: 0,
            durability: Durability::default(),
            clients: ClientLimits::default(),
            debuggable: false,
            silent_relay: false,
            drop_shreds: false,
            equivocate: false,
            flood_per_s: 0,
        }
    }

    /// The file's text. `peers` are all addresses in the order of the genesis file.
    pub(crate) fn to_toml(
        &self,
        identity: &Path,
        bls_key: &Path,
        genesis: &Path,
        data: &Path,
        peers: &[SocketAddr],
    ) -> String {
        let peers = peers.iter().enumerate().fold(String::new(), |mut text, (index, address)| {
            writeln!(text, "{index} = \"{address}\"").expect("strings take any text");
            text
        });
        format!(
            include_str!("node.toml.txt"),
            identity = quoted(identity),
            bls_key = quoted(bls_key),
            genesis = quoted(genesis),
            data = quoted(data),
            bind = format_args!("\"{}\"", self.bind),
            shards = self.shards,
            cores = match &self.cores {
                CorePolicy::Auto => "\"auto\"".to_owned(),
                CorePolicy::Unpinned => "\"none\"".to_owned(),
                CorePolicy::List(list) => format!("{list:?}"),
            },
            engine = format_args!("\"{}\"", self.engine.kind().name()),
            poll = match self.poll {
                PollPolicy::Spin => "\"spin\"",
                PollPolicy::Wait => "\"wait\"",
                PollPolicy::Auto => "\"auto\"",
            },
            kernel = format_args!("\"{}\"", self.kernel.name()),
            verifiers = self.verifiers.map_or("\"auto\"".to_owned(), |number| number.to_string()),
            slice_interval_ms = self.slice_interval_ms,
            crashed_leader_timer = self.crashed_leader_timer,
            slice_memory_mib = self.slice_memory_mib,
            block_log_mib = self.block_log_mib,
            block_log_slots = self.block_log_slots,
            egress_mbit = self.egress_mbit,
            durability = format_args!("\"{}\"", self.durability.name()),
            client_transactions_per_s = self.clients.of_source_per_s,
            total_transactions_per_s = self.clients.total_per_s,
            debuggable = self.debuggable,
            silent_relay = self.silent_relay,
            drop_shreds = self.drop_shreds,
            equivocate = self.equivocate,
            flood_per_s = self.flood_per_s,
            peers = peers.trim_end(),
        )
    }
}

fn quoted(path: &Path) -> toml::Value {
    toml::Value::String(path.to_string_lossy().into_owned())
}
