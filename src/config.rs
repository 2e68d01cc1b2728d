//! A node's configuration: a TOML file, some of it overridden by flags.

mod text;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use alpenglow_rotor::types::ValidatorIndex;
use alpenglow_rotor::validators::ValidatorSet;
use clap::{Args, ValueEnum};
use serde::Deserialize;

use crate::encoding::Identity;
use crate::files::{self, Access, ReadError};

pub(crate) use self::text::NewConfig;

/// Longest config file: the addresses of the largest validator set take a twentieth of it.
const FILE_BYTES_MAX: usize = 4 << 20;
/// Most shards.
const SHARDS_MAX: usize = 64;
/// Most verifier threads.
const VERIFIERS_MAX: usize = 256;
/// No host has a core of this number or above.
const CORES_MAX: usize = 4_096;
/// Longest time that a slice may be held back.
const SLICE_INTERVAL_MS_MAX: u64 = 10_000;
/// Least memory for slices: some slots ahead with the largest shreds.
const SLICE_MEMORY_MIB_MIN: usize = 4;
/// Most memory for slices.
const SLICE_MEMORY_MIB_MAX: usize = 65_536;

/// The keys of the file.
const KEYS: [&str; 14] = [
    "identity",
    "bls_key",
    "genesis",
    "data",
    "bind",
    "shards",
    "cores",
    "poll",
    "verifiers",
    "slice_interval_ms",
    "slice_memory_mib",
    "testing",
    "testing.silent_relay",
    "peers",
];

/// What a node is told about itself, checked but for its peers, which need the validator set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeConfig {
    /// File of the secret identity.
    pub(crate) identity: PathBuf,
    /// File of the secret voting key.
    pub(crate) bls_key: PathBuf,
    /// The genesis file.
    pub(crate) genesis: PathBuf,
    /// Folder for what the node writes.
    pub(crate) data: PathBuf,
    /// Where to receive.
    pub(crate) bind: SocketAddr,
    /// Shard threads, at most 64.
    pub(crate) shards: NonZero<usize>,
    /// Where threads run.
    pub(crate) cores: CorePolicy,
    /// How threads wait.
    pub(crate) poll: PollPolicy,
    /// Verifier threads, at most 256; `None` for as many as cores are left.
    pub(crate) verifiers: Option<NonZero<usize>>,
    /// A slice that is not full leaves this long after its first transaction.
    pub(crate) slice_interval: Duration,
    /// Memory for incomplete slices, for all shards together.
    pub(crate) slice_memory_bytes: usize,
    /// Never relay.
    pub(crate) silent_relay: bool,
    /// Where validators receive.
    peers: Vec<(PeerName, SocketAddr)>,
    /// Where this was read, for messages.
    path: PathBuf,
}

/// How threads are placed on cores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum CorePolicy {
    /// Pin if every pinned thread gets a core of its own, else let the kernel place them.
    #[default]
    Auto,
    /// Never pin.
    Unpinned,
    /// These cores: one for each shard, then one for control.
    List(Vec<usize>),
}

/// How shards and control wait for work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PollPolicy {
    /// Never sleep: lowest latency, takes the whole core
    Spin,
    /// Sleep in the kernel when there is nothing to do
    Wait,
    /// Spin only if each spinning thread has a core of its own and one is left for the others
    #[default]
    Auto,
}

/// A validator, as a config names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum PeerName {
    Index(u16),
    Identity(Identity),
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the config file {path}: {reason}; check the path, or make configs with `alpenglow genesis`")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: ReadError,
    },
    /// Not TOML, or a value of the wrong type.
    #[error("the config file {path} is wrong: {}; correct it there", reason.to_string().trim_end())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Where and what.
        reason: Box<toml::de::Error>,
    },
    /// A key that does not exist.
    #[error("the config file {path} has the unknown key `{key}`: {}", known(nearest))]
    UnknownKey {
        /// Which file.
        path: PathBuf,
        /// The key.
        key: String,
        /// A key that looks like it.
        nearest: Option<&'static str>,
    },
    /// A value that is not allowed.
    #[error("the config file {path}: {complaint}")]
    Value {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and what would be right.
        complaint: String,
    },
}

fn known(nearest: &Option<&'static str>) -> String {
    match nearest {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => format!("the keys are {}", KEYS.join(", ")),
    }
}

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
    #[arg(long, value_name = "ADDRESS:PORT")]
    bind: Option<SocketAddr>,
    /// Threads that handle shreds, 1 to 64
    #[arg(long, value_name = "N")]
    shards: Option<usize>,
    /// Where threads run: auto, none, or cores as in 2,3 (one for each shard, then control)
    #[arg(long, value_name = "CORES")]
    cores: Option<CorePolicy>,
    /// How threads wait for work
    #[arg(long)]
    poll: Option<PollPolicy>,
    /// Threads that check votes: a number up to 256, or auto
    #[arg(long, value_name = "N")]
    verifiers: Option<Verifiers>,
    /// Milliseconds after which a slice leaves even if it is not full
    #[arg(long, value_name = "MS")]
    slice_interval_ms: Option<u64>,
    /// Memory for incomplete slices, in MiB
    #[arg(long, value_name = "MIB")]
    slice_memory_mib: Option<usize>,
    /// Never relay shreds; for experiments
    #[arg(long)]
    silent_relay: bool,
}

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    identity: PathBuf,
    bls_key: PathBuf,
    genesis: PathBuf,
    #[serde(default = "default_data")]
    data: PathBuf,
    bind: SocketAddr,
    #[serde(default = "default_shards")]
    shards: usize,
    #[serde(default)]
    cores: Cores,
    #[serde(default)]
    poll: PollPolicy,
    #[serde(default)]
    verifiers: Verifiers,
    #[serde(default = "default_slice_interval_ms")]
    slice_interval_ms: u64,
    #[serde(default = "default_slice_memory_mib")]
    slice_memory_mib: usize,
    #[serde(default)]
    testing: Testing,
    peers: BTreeMap<String, SocketAddr>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Testing {
    #[serde(default)]
    silent_relay: bool,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected \"auto\", \"none\" or a list of core numbers")]
enum Cores {
    Word(CoresWord),
    List(Vec<usize>),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum CoresWord {
    Auto,
    None,
}

/// Number of verifier threads.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged, expecting = "expected \"auto\" or a number of threads")]
enum Verifiers {
    Word(VerifiersWord),
    Number(usize),
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum VerifiersWord {
    Auto,
}

fn default_data() -> PathBuf {
    "data".into()
}

const fn default_shards() -> usize {
    1
}

/// Milliseconds after its first transaction at which a slice that is not full leaves.
pub(crate) const fn default_slice_interval_ms() -> u64 {
    10
}

/// MiB of memory for incomplete slices.
pub(crate) const fn default_slice_memory_mib() -> usize {
    64
}

impl Default for Cores {
    fn default() -> Self {
        Self::Word(CoresWord::Auto)
    }
}

impl Default for Verifiers {
    fn default() -> Self {
        Self::Word(VerifiersWord::Auto)
    }
}

impl From<Cores> for CorePolicy {
    fn from(cores: Cores) -> Self {
        match cores {
            Cores::Word(CoresWord::Auto) => Self::Auto,
            Cores::Word(CoresWord::None) => Self::Unpinned,
            Cores::List(list) => Self::List(list),
        }
    }
}

impl From<CorePolicy> for Cores {
    fn from(cores: CorePolicy) -> Self {
        match cores {
            CorePolicy::Auto => Self::Word(CoresWord::Auto),
            CorePolicy::Unpinned => Self::Word(CoresWord::None),
            CorePolicy::List(list) => Self::List(list),
        }
    }
}

/// Text that is no placement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected auto, none, or core numbers separated by commas, as in 2,3")]
pub(crate) struct CorePolicyError;

impl FromStr for CorePolicy {
    type Err = CorePolicyError;

    fn from_str(text: &str) -> Result<Self, CorePolicyError> {
        match text {
            "auto" => Ok(Self::Auto),
            "none" => Ok(Self::Unpinned),
            list => {
                list.split(',').map(str::parse).collect::<Result<_, _>>().map(Self::List).map_err(|_| CorePolicyError)
            }
        }
    }
}

/// Text that is no number of verifiers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected auto or a number up to {VERIFIERS_MAX}")]
struct VerifiersError;

impl FromStr for Verifiers {
    type Err = VerifiersError;

    fn from_str(text: &str) -> Result<Self, VerifiersError> {
        if text == "auto" { Ok(Self::default()) } else { text.parse().map(Self::Number).map_err(|_| VerifiersError) }
    }
}

/// Reads a config file and overrides what `flags` give; [`ConfigFlags::default`] for nothing. Paths in the result are
/// relative to the current folder.
///
/// # Errors
/// [`ConfigError`].
pub(crate) fn load(path: &Path, flags: &ConfigFlags) -> Result<NodeConfig, ConfigError> {
    let bytes = files::read(path, FILE_BYTES_MAX, Access::Public)
        .map_err(|reason| ConfigError::Read { path: path.to_owned(), reason })?;
    let mut file = ConfigFile::parse(&bytes, path)?;
    file.resolve_paths(path.parent().unwrap_or(Path::new("")));
    file.apply(flags);
    file.check(path)
}

impl ConfigFile {
    fn parse(bytes: &[u8], path: &Path) -> Result<Self, ConfigError> {
        let syntax = |reason| ConfigError::Syntax { path: path.to_owned(), reason: Box::new(reason) };
        let text = std::str::from_utf8(bytes).map_err(|_| ConfigError::Value {
            path: path.to_owned(),
            complaint: "it is not UTF-8 text; write it anew with `alpenglow genesis`".to_owned(),
        })?;
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

    fn resolve_paths(&mut self, folder: &Path) {
        for path in [&mut self.identity, &mut self.bls_key, &mut self.genesis, &mut self.data] {
            *path = folder.join(&*path);
        }
    }

    fn apply(&mut self, flags: &ConfigFlags) {
        fn set<T: Clone>(value: &mut T, flag: &Option<T>) {
            if let Some(flag) = flag {
                value.clone_from(flag);
            }
        }
        set(&mut self.identity, &flags.identity);
        set(&mut self.bls_key, &flags.bls_key);
        set(&mut self.genesis, &flags.genesis);
        set(&mut self.data, &flags.data);
        set(&mut self.bind, &flags.bind);
        set(&mut self.shards, &flags.shards);
        if let Some(cores) = &flags.cores {
            self.cores = cores.clone().into();
        }
        set(&mut self.poll, &flags.poll);
        set(&mut self.verifiers, &flags.verifiers);
        set(&mut self.slice_interval_ms, &flags.slice_interval_ms);
        set(&mut self.slice_memory_mib, &flags.slice_memory_mib);
        self.testing.silent_relay |= flags.silent_relay;
    }

    fn check(self, path: &Path) -> Result<NodeConfig, ConfigError> {
        let refuse = |complaint| ConfigError::Value { path: path.to_owned(), complaint };
        let verifiers = match self.verifiers {
            Verifiers::Word(VerifiersWord::Auto) => None,
            Verifiers::Number(number) => Some(within("verifiers", number, 1, VERIFIERS_MAX).map_err(refuse)?),
        };
        let shards = within("shards", self.shards, 1, SHARDS_MAX).map_err(refuse)?;
        let slice_interval_ms =
            within("slice_interval_ms", self.slice_interval_ms, 1, SLICE_INTERVAL_MS_MAX).map_err(refuse)?;
        let slice_memory_mib =
            within("slice_memory_mib", self.slice_memory_mib, SLICE_MEMORY_MIB_MIN, SLICE_MEMORY_MIB_MAX)
                .map_err(refuse)?;
        if self.bind.port() == 0 {
            return Err(refuse("`bind` has port 0, where no peer would find the node; choose a port".to_owned()));
        }
        let cores = self.cores.into();
        check_cores(&cores, shards).map_err(refuse)?;
        let peers = self.peers.iter().map(|(name, &address)| Ok((PeerName::parse(name)?, address)));
        Ok(NodeConfig {
            peers: peers.collect::<Result<_, String>>().map_err(refuse)?,
            identity: self.identity,
            bls_key: self.bls_key,
            genesis: self.genesis,
            data: self.data,
            bind: self.bind,
            shards: NonZero::new(shards).expect("at least 1"),
            cores,
            poll: self.poll,
            verifiers: verifiers.and_then(NonZero::new),
            slice_interval: Duration::from_millis(slice_interval_ms),
            slice_memory_bytes: slice_memory_mib << 20,
            silent_relay: self.testing.silent_relay,
            path: path.to_owned(),
        })
    }
}

fn within<T: PartialOrd + std::fmt::Display>(key: &str, value: T, least: T, most: T) -> Result<T, String> {
    if (&least..=&most).contains(&&value) {
        Ok(value)
    } else {
        Err(format!("`{key}` must be between {least} and {most}, found {value}"))
    }
}

fn check_cores(cores: &CorePolicy, shards: usize) -> Result<(), String> {
    let CorePolicy::List(list) = cores else { return Ok(()) };
    if list.len() != shards + 1 {
        let needed = shards + 1;
        return Err(format!(
            "`cores` names {} cores; name {needed}: one for each shard, then one for control",
            list.len()
        ));
    }
    let number = list.iter().try_for_each(|&core| within("cores", core, 0, CORES_MAX - 1).map(|_| ()));
    number?;
    match list.iter().enumerate().find(|(at, core)| list[..*at].contains(core)) {
        Some((_, core)) => Err(format!("`cores` names core {core} twice; each thread needs a core of its own")),
        None => Ok(()),
    }
}

impl PeerName {
    fn parse(name: &str) -> Result<Self, String> {
        let index = name.parse().ok().map(Self::Index);
        index.or_else(|| Identity::parse(name).map(Self::Identity)).ok_or_else(|| {
            format!("`peers` names {name:?}; name validators by index in the genesis file or by identity in base58")
        })
    }

    fn find(self, validators: &ValidatorSet) -> Option<ValidatorIndex> {
        match self {
            Self::Index(index) => validators.indices().nth(index.into()),
            Self::Identity(identity) => validators.index_of(&identity.0),
        }
    }
}

impl std::fmt::Display for PeerName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Index(index) => index.fmt(f),
            Self::Identity(identity) => identity.fmt(f),
        }
    }
}

impl NodeConfig {
    /// Where each of `validators` receives, in their order; for `own`, [`NodeConfig::bind`].
    ///
    /// # Errors
    /// [`ConfigError::Value`] if `peers` names a validator that does not exist or one twice, does not name one, gives two of them one address
    /// or an address that cannot be sent to from [`NodeConfig::bind`].
    pub(crate) fn addresses(
        &self,
        validators: &ValidatorSet,
        own: ValidatorIndex,
    ) -> Result<Vec<SocketAddr>, ConfigError> {
        let refuse = |complaint| ConfigError::Value { path: self.path.clone(), complaint };
        let mut addresses: Vec<Option<SocketAddr>> = vec![None; validators.len()];
        for &(name, address) in &self.peers {
            let last = validators.len() - 1;
            let validator = name.find(validators).ok_or_else(|| {
                refuse(format!("`peers` names {name}, who is no validator; indices go from 0 to {last}, identities are in the genesis file"))
            })?;
            if addresses[validator.get()].replace(address).is_some() {
                return Err(refuse(format!("`peers` names validator {} twice; remove one entry", validator.0)));
            }
        }
        addresses[own.get()] = Some(self.bind);
        let missing: Vec<String> =
            validators.indices().filter(|v| addresses[v.get()].is_none()).map(|v| v.0.to_string()).collect();
        if !missing.is_empty() {
            let (first, more) = missing.split_at(missing.len().min(5));
            let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
            return Err(refuse(format!("`peers` lacks validator {}{more}; add where they receive", first.join(", "))));
        }
        let addresses: Vec<SocketAddr> = addresses.into_iter().flatten().collect();
        self.check_addresses(&addresses).map_err(refuse)?;
        Ok(addresses)
    }

    fn check_addresses(&self, addresses: &[SocketAddr]) -> Result<(), String> {
        let mut seen = BTreeMap::new();
        for (validator, address) in addresses.iter().enumerate() {
            if let Some(other) = seen.insert(address, validator) {
                return Err(format!(
                    "validators {other} and {validator} both have the address {address}; correct `peers` or `bind`"
                ));
            }
            if address.port() == 0 || (address.ip().is_unspecified() && *address != self.bind) {
                return Err(format!("nothing can be sent to {address} of validator {validator}; correct `peers`"));
            }
            if address.is_ipv4() != self.bind.is_ipv4() {
                return Err(format!(
                    "validator {validator} has the address {address}, which cannot be reached from `bind` = {}; use one address family",
                    self.bind
                ));
            }
        }
        Ok(())
    }
}

/// The key that `key` may be a slip of.
fn nearest_key(key: &str) -> Option<&'static str> {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_lowercase().replace('-', "_");
    let distances = KEYS.iter().map(|known| (strsim::osa_distance(&last(key), &last(known)), *known));
    let (distance, nearest) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance * 3 <= nearest.len().max(3)).then_some(nearest)
}
