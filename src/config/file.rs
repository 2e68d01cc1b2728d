//! The config file as it is written, and its check.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZero;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alpenglow_dataplane::ClientLimits;
use serde::Deserialize;

use super::policies::{CorePolicy, Durability, EnginePolicy, KernelPolicy, PollPolicy, Verifiers};
use super::{ConfigError, NodeConfig, PeerName};
use crate::failpoint::FailAt;
use crate::storage::block_log::Limits;

/// How many shards there may be.
pub(super) const SHARDS: RangeInclusive<u64> = 1..=64;
/// How long a slice may be held back.
pub(super) const SLICE_INTERVAL_MS: RangeInclusive<u64> = 1..=10_000;
/// Memory for slices: from a few slots ahead with the default shreds to more than it can use. What the cluster's slices
/// need at least is checked when the node starts.
pub(super) const SLICE_MEMORY_MIB: RangeInclusive<u64> = 4..=65_536;
/// How long the block log may get, from sixteen of the smallest segments; 0 for none.
pub(super) const BLOCK_LOG_MIB: RangeInclusive<u64> = 16..=16_777_216;
/// How many slots it may reach back: its index in memory takes some 150 bytes for each.
pub(super) const BLOCK_LOG_SLOTS: RangeInclusive<u64> = 64..=100_000_000;
/// How much may be sent; 0 for no limit.
pub(super) const EGRESS_MBIT: RangeInclusive<u64> = 0..=1_000_000;
/// How many transactions may come from clients.
pub(super) const TRANSACTIONS_PER_S: RangeInclusive<u64> = 1..=10_000_000;
/// How many datagrams an attacker may send; 0 for none.
pub(super) const FLOOD_PER_S: RangeInclusive<u64> = 0..=1_000_000;
/// Default of `slice_interval_ms`.
pub(super) const SLICE_INTERVAL_MS_DEFAULT: u64 = 10;
/// Default of `slice_memory_mib`.
pub(super) const SLICE_MEMORY_MIB_DEFAULT: u64 = 64;

/// Default of `block_log_mib`.
pub(crate) const BLOCK_LOG_MIB_DEFAULT: u64 = 1_024;
/// Default of `block_log_slots`: eleven hours, 15 MiB of index.
pub(super) const BLOCK_LOG_SLOTS_DEFAULT: u64 = 100_000;

/// The keys of the file.
pub(super) const KEYS: [&str; 27] = [
    "identity",
    "bls_key",
    "genesis",
    "data",
    "bind",
    "shards",
    "cores",
    "engine",
    "poll",
    "kernel",
    "verifiers",
    "slice_interval_ms",
    "crashed_leader_timer",
    "slice_memory_mib",
    "block_log_mib",
    "block_log_slots",
    "egress_mbit",
    "durability",
    "client_transactions_per_s",
    "total_transactions_per_s",
    "debuggable",
    "testing",
    "testing.silent_relay",
    "testing.drop_shreds",
    "testing.equivocate",
    "testing.flood_per_s",
    "peers",
];

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfigFile {
    pub(super) identity: PathBuf,
    pub(super) bls_key: PathBuf,
    pub(super) genesis: PathBuf,
    #[serde(default = "default_data")]
    pub(super) data: PathBuf,
    pub(super) bind: SocketAddr,
    #[serde(default = "default_shards")]
    pub(super) shards: u64,
    #[serde(default)]
    pub(super) cores: CorePolicy,
    #[serde(default)]
    pub(super) engine: EnginePolicy,
    #[serde(default)]
    pub(super) poll: PollPolicy,
    #[serde(default)]
    pub(super) kernel: KernelPolicy,
    #[serde(default)]
    pub(super) verifiers: Verifiers,
    #[serde(default = "default_slice_interval_ms")]
    pub(super) slice_interval_ms: u64,
    #[serde(default)]
    pub(super) crashed_leader_timer: bool,
    #[serde(default = "default_slice_memory_mib")]
    pub(super) slice_memory_mib: u64,
    #[serde(default = "default_block_log_mib")]
    pub(super) block_log_mib: u64,
    #[serde(default = "default_block_log_slots")]
    pub(super) block_log_slots: u64,
    #[serde(default)]
    pub(super) egress_mbit: u64,
    #[serde(default = "default_client_transactions_per_s")]
    pub(super) client_transactions_per_s: u64,
    #[serde(default = "default_total_transactions_per_s")]
    pub(super) total_transactions_per_s: u64,
    #[serde(default)]
    pub(super) durability: Durability,
    #[serde(default)]
    pub(super) debuggable: bool,
    #[serde(default)]
    pub(super) testing: Testing,
    peers: BTreeMap<String, SocketAddr>,
}

/// The file's section for experiments.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Testing {
    #[serde(default)]
    pub(super) silent_relay: bool,
    #[serde(default)]
    pub(super) drop_shreds: bool,
    #[serde(default)]
    pub(super) equivocate: bool,
    #[serde(default)]
    pub(super) flood_per_s: u64,
    #[serde(skip)]
    pub(super) no_vote_log: bool,
    #[serde(skip)]
    pub(super) fail_at: Option<FailAt>,
}

fn default_data() -> PathBuf {
    "data".into()
}

const fn default_shards() -> u64 {
    1
}

const fn default_slice_interval_ms() -> u64 {
    SLICE_INTERVAL_MS_DEFAULT
}

const fn default_slice_memory_mib() -> u64 {
    SLICE_MEMORY_MIB_DEFAULT
}

fn default_client_transactions_per_s() -> u64 {
    ClientLimits::default().of_source_per_s.get().into()
}

fn default_total_transactions_per_s() -> u64 {
    ClientLimits::default().total_per_s.get().into()
}

const fn default_block_log_mib() -> u64 {
    BLOCK_LOG_MIB_DEFAULT
}

const fn default_block_log_slots() -> u64 {
    BLOCK_LOG_SLOTS_DEFAULT
}

impl ConfigFile {
    /// `path` is for messages.
    pub(super) fn parse(bytes: &[u8], path: &Path) -> Result<Self, ConfigError> {
        let text = std::str::from_utf8(bytes).map_err(|_| ConfigError::Value {
            path: path.to_owned(),
            complaint: "it is not UTF-8 text; write it anew with `alpenglow genesis`".to_owned(),
        })?;
        let syntax = |error: toml::de::Error| {
            let before = &text[..error.span().map_or(0, |span| span.start)];
            let (line, column) = (before.split('\n').count(), before.rsplit('\n').next().unwrap_or_default());
            let (column, reason) = (column.chars().count() + 1, error.message().replace('\n', ", "));
            ConfigError::Syntax { path: path.to_owned(), line, column, reason }
        };
        // Unknown keys are looked for first, because the parser of the file as a whole knows no suggestions.
        let table: toml::Table = toml::from_str(text).map_err(syntax)?;
        let testing = table.get("testing").and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::keys);
        let names = table.keys().cloned().chain(testing.map(|key| format!("testing.{key}")));
        if let Some(key) = names.into_iter().find(|name| !KEYS.contains(&name.as_str())) {
            let nearest = nearest_key(&key);
            return Err(ConfigError::UnknownKey { path: path.to_owned(), key, nearest });
        }
        toml::from_str(text).map_err(syntax)
    }

    /// Makes paths that are relative to `folder` relative to the current one.
    pub(super) fn resolve_paths(&mut self, folder: &Path) {
        for path in [&mut self.identity, &mut self.bls_key, &mut self.genesis, &mut self.data] {
            *path = folder.join(&*path);
        }
    }

    /// Checks everything that can be checked without the validator set. `path` is for messages.
    pub(super) fn check(self, path: &Path) -> Result<NodeConfig, ConfigError> {
        let refuse = |complaint| ConfigError::Value { path: path.to_owned(), complaint };
        let within = |key, value: u64, range: RangeInclusive<u64>| {
            let (least, most) = (range.start(), range.end());
            let complaint = || refuse(format!("`{key}` must be between {least} and {most}, found {value}"));
            range.contains(&value).then_some(value as usize).ok_or_else(complaint)
        };
        let shards = NonZero::new(within("shards", self.shards, SHARDS)?).expect("the range begins at 1");
        let slice_interval_ms = within("slice_interval_ms", self.slice_interval_ms, SLICE_INTERVAL_MS)?;
        let slice_memory_mib = within("slice_memory_mib", self.slice_memory_mib, SLICE_MEMORY_MIB)?;
        let block_log_mib = match self.block_log_mib {
            0 => 0,
            mib => within("block_log_mib", mib, BLOCK_LOG_MIB)?,
        };
        let block_log_slots = within("block_log_slots", self.block_log_slots, BLOCK_LOG_SLOTS)?;
        let egress_mbit = within("egress_mbit", self.egress_mbit, EGRESS_MBIT)?;
        let transactions_per_s = |key, value| {
            let value = within(key, value, TRANSACTIONS_PER_S)?;
            Ok(NonZero::new(value as u32).expect("the range begins at 1"))
        };
        let clients = ClientLimits {
            of_source_per_s: transactions_per_s("client_transactions_per_s", self.client_transactions_per_s)?,
            total_per_s: transactions_per_s("total_transactions_per_s", self.total_transactions_per_s)?,
        };
        let flood_per_s = within("flood_per_s", self.testing.flood_per_s, FLOOD_PER_S)?;
        if self.bind.port() == 0 {
            return Err(refuse("`bind` has port 0, where no peer would find the node; choose a port".to_owned()));
        }
        let kernel = self.kernel.kernel().map_err(|error| refuse(format!("`kernel`: {error}")))?;
        let peers = self.peers.iter().map(|(name, &address)| Ok((PeerName::parse(name)?, address)));
        Ok(NodeConfig {
            peers: peers.collect::<Result<_, String>>().map_err(refuse)?,
            identity: self.identity,
            bls_key: self.bls_key,
            genesis: self.genesis,
            data: self.data,
            bind: self.bind,
            shards,
            cores: self.cores,
            engine: self.engine.kind(),
            poll: self.poll,
            kernel,
            verifiers: self.verifiers.0,
            slice_interval: Duration::from_millis(slice_interval_ms as u64),
            crashed_leader_timer: self.crashed_leader_timer,
            slice_memory_bytes: slice_memory_mib << 20,
            block_log: (block_log_mib > 0)
                .then_some(Limits { bytes_max: (block_log_mib as u64) << 20, slots_max: block_log_slots as u64 }),
            egress_mbit: NonZero::new(egress_mbit as u32),
            durability: self.durability,
            clients,
            debuggable: self.debuggable,
            silent_relay: self.testing.silent_relay,
            drop_shreds: self.testing.drop_shreds,
            equivocate: self.testing.equivocate,
            flood_per_s: NonZero::new(flood_per_s as u32),
            no_vote_log: self.testing.no_vote_log,
            fail_at: self.testing.fail_at,
            path: path.to_owned(),
        })
    }
}

/// The key that `key` may be a slip of.
fn nearest_key(key: &str) -> Option<&'static str> {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_lowercase().replace('-', "_");
    let distances = KEYS.iter().map(|known| (strsim::osa_distance(&last(key), &last(known)), *known));
    let (distance, nearest) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance * 3 <= nearest.len().max(3)).then_some(nearest)
}
