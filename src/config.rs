//! A node's configuration: a TOML file, some of it overridden by flags.

mod file;
mod flags;
mod policies;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alpenglow_dataplane::{ClientLimits, EngineKind};
use alpenglow_rotor::erasure::Kernel;
use alpenglow_rotor::types::ValidatorIndex;
use alpenglow_rotor::validators::ValidatorSet;

use self::file::{ConfigFile, KEYS};
use crate::encoding::Identity;
use crate::failpoint::FailAt;
use crate::files::{self, Access, ReadError};
use crate::storage::block_log::Limits;

pub(crate) use self::file::BLOCK_LOG_MIB_DEFAULT;
pub(crate) use self::flags::{ConfigFlags, block_log_mib};
pub(crate) use self::policies::{CorePolicy, Durability, EnginePolicy, KernelPolicy, PollPolicy};
pub(crate) use self::text::NewConfig;

/// Longest config file: the addresses of the largest validator set take a twentieth of it.
const FILE_BYTES_MAX: usize = 4 << 20;

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
    /// How the node talks to the kernel.
    pub(crate) engine: EngineKind,
    /// How threads wait.
    pub(crate) poll: PollPolicy,
    /// What the erasure code is computed with.
    pub(crate) kernel: Kernel,
    /// Verifier threads, at most 256; `None` for as many as cores are left.
    pub(crate) verifiers: Option<NonZero<usize>>,
    /// A slice that is not full leaves this long after its first transaction.
    pub(crate) slice_interval: Duration,
    /// Skip windows whose leaders show no sign of life.
    pub(crate) crashed_leader_timer: bool,
    /// Memory for incomplete slices, for all shards together.
    pub(crate) slice_memory_bytes: usize,
    /// What the block log keeps; `None` for no block log.
    pub(crate) block_log: Option<Limits>,
    /// Most that is sent, in Mbit/s.
    pub(crate) egress_mbit: Option<NonZero<u32>>,
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
    /// Flood the others with so many datagrams a second.
    pub(crate) flood_per_s: Option<NonZero<u32>>,
    /// Keep no vote log.
    pub(crate) no_vote_log: bool,
    /// End at once, as if killed, at this moment.
    pub(crate) fail_at: Option<FailAt>,
    /// Where validators receive.
    peers: Vec<(PeerName, SocketAddr)>,
    /// Where this was read, for messages.
    path: PathBuf,
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
    /// Not TOML, or a value of the wrong type. Nothing of the file is repeated: it may be a key file, given by mistake.
    #[error("the config file {path} is wrong at line {line}, column {column}: {reason}; correct it there")]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Where, from 1 on.
        line: usize,
        /// Where in the line, from 1 on.
        column: usize,
        /// What.
        reason: String,
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

/// Reads a config file and overrides what `flags` give; [`ConfigFlags::default`] for nothing. Paths in the result are
/// relative to the current folder.
///
/// # Errors
/// [`ConfigError`].
pub(crate) fn load(path: &Path, flags: &ConfigFlags) -> Result<NodeConfig, ConfigError> {
    let bytes = files::read(path, FILE_BYTES_MAX, Access::Public)
        .map_err(|reason| ConfigError::Read { path: path.to_owned(), reason })?;
    parse(&bytes, path, flags)
}

/// Reads and checks the bytes of the config file at `path`.
///
/// # Errors
/// [`ConfigError`].
pub(crate) fn parse(bytes: &[u8], path: &Path, flags: &ConfigFlags) -> Result<NodeConfig, ConfigError> {
    let mut file = ConfigFile::parse(bytes, path)?;
    file.resolve_paths(path.parent().unwrap_or(Path::new("")));
    flags.apply(&mut file);
    file.check(path)
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
    /// [`ConfigError::Value`] if `peers` names a validator that does not exist or one twice, does not name one, gives
    /// two of them one address or an address that cannot be sent to from [`NodeConfig::bind`].
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
