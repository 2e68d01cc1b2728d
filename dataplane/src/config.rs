//! What a dataplane is started with, and why it may refuse.

use std::io;
use std::net::SocketAddr;
use std::num::NonZero;
use std::sync::Arc;

use alpenglow_rotor::erasure::Kernel;
use alpenglow_rotor::parameters::CodingParameters;
use alpenglow_rotor::sampling::RelaySampler;
use alpenglow_rotor::schedule::LeaderSchedule;
use alpenglow_rotor::types::{ClusterId, ValidatorIndex};
use alpenglow_rotor::validators::ValidatorSet;
use ed25519_dalek::SigningKey;

use crate::auth::AuthError;
use crate::limits::ClientLimits;

/// How a shard waits for work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poll {
    /// It does not: lowest latency, and the whole core. Only with a core for each spinning thread.
    Spin,
    /// It sleeps in the kernel until something arrives.
    Wait,
}

/// How a shard talks to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    /// Through io_uring: everything that is to be done in one call, and what has come without one.
    IoUring,
    /// By `recvmmsg` and `sendmmsg`, for hosts where io_uring is forbidden.
    Syscalls,
}

impl EngineKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::IoUring, Self::Syscalls];

    /// As files and flags say it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Syscalls => "syscalls",
        }
    }
}

/// Most shards: lanes are bytes, and each shard should get its share of them.
pub const SHARDS_MAX: usize = 64;

/// What a dataplane is started with.
#[derive(Clone)]
pub struct DataplaneConfig {
    /// Where to receive. Port 0 takes a free one, see [`crate::Dataplane::address`].
    pub bind: SocketAddr,
    /// Where each validator receives, in the validator set's order; all of `bind`'s family. The own one is not used.
    pub addresses: Vec<SocketAddr>,
    /// This node.
    pub own: ValidatorIndex,
    /// The cluster: part of every header and signature.
    pub cluster: ClusterId,
    /// How slices are cut.
    pub coding: CodingParameters,
    /// What the erasure code is computed with; one that this processor can run.
    pub kernel: Kernel,
    /// This node's identity: signs slices and derives the MAC keys.
    pub identity: SigningKey,
    /// The epoch's validators.
    pub validators: Arc<ValidatorSet>,
    /// Who leads which slot.
    pub schedule: Arc<LeaderSchedule>,
    /// Who relays which shred.
    pub sampler: Arc<RelaySampler>,
    /// Shard threads, 1 to [`SHARDS_MAX`].
    pub shards: usize,
    /// The core that each shard is pinned to, one entry for each; `None` leaves it to the scheduler.
    pub cores: Vec<Option<usize>>,
    /// How shards talk to the kernel.
    pub engine: EngineKind,
    /// How shards wait.
    pub poll: Poll,
    /// Memory for slices that are being put together, for all shards together. Touched as far as it is used.
    pub slice_memory_bytes: usize,
    /// Socket buffer that is asked for, for each shard and direction.
    pub socket_buffer_bytes: usize,
    /// Most that is sent, in Mbit/s (10⁶ bits per second of UDP payload), in equal shares for the shards; `None` for as
    /// fast as the network takes it. Messages that are no shreds are never held back, but count.
    pub egress_mbit: Option<NonZero<u32>>,
    /// Transactions that clients may give this node.
    pub clients: ClientLimits,
    /// Never relay, for tests of what the others make of it.
    pub silent_relay: bool,
}

impl DataplaneConfig {
    /// # Errors
    /// [`StartError::Config`] if lists and numbers do not fit each other.
    pub(crate) fn check(&self) -> Result<(), StartError> {
        let validators = self.validators.len();
        let family = self.bind.is_ipv4();
        let complaint = if self.addresses.len() != validators {
            format!("{} addresses for {validators} validators", self.addresses.len())
        } else if self.own.get() >= validators {
            format!("own index {} of {validators} validators", self.own.0)
        } else if let Some(address) = self.addresses.iter().find(|address| address.is_ipv4() != family) {
            format!("address {address} is not of the family of {}", self.bind)
        } else if !(1..=SHARDS_MAX).contains(&self.shards) {
            format!("{} shards, must be 1 to {SHARDS_MAX}", self.shards)
        } else if self.cores.len() != self.shards {
            format!("{} cores for {} shards", self.cores.len(), self.shards)
        } else if self.sampler.total_shreds() != self.coding.total_shreds() {
            format!("relays for {} shreds of {}", self.sampler.total_shreds(), self.coding.total_shreds())
        } else if !self.kernel.is_available() {
            format!("this processor cannot run the {} kernel", self.kernel.name())
        } else {
            return Ok(());
        };
        Err(StartError::Config(complaint))
    }
}

const WITHOUT_IO_URING: &str = "or do without io_uring: engine = \"syscalls\" (--engine syscalls)";

/// Why a dataplane does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A list in the configuration has the wrong length, or a number is out of range.
    #[error("dataplane configuration: {0}")]
    Config(String),
    /// The identity key, or a peer's.
    #[error(transparent)]
    Keys(#[from] AuthError),
    /// io_uring is switched off for everybody or for this user.
    #[error(
        "io_uring is switched off by the sysctl kernel.io_uring_disabled = {value}: set it to 0 (sysctl -w kernel.io_uring_disabled=0){alternative}; {WITHOUT_IO_URING}"
    )]
    IoUringDisabled {
        /// The sysctl's value.
        value: u32,
        /// What else helps at this value, if anything.
        alternative: &'static str,
    },
    /// The system call is filtered, as container runtimes do by default.
    #[error(
        "io_uring is not permitted here although the kernel has it: a seccomp filter denies it, as in most container runtimes by default; run outside of the container or with a profile that allows io_uring_setup, io_uring_enter and io_uring_register (docker run --security-opt seccomp=...); {WITHOUT_IO_URING}"
    )]
    IoUringDenied,
    /// The kernel has no io_uring, or one without what is used here.
    #[error("this kernel's io_uring lacks {missing}: Linux 6.1 or later is needed; {WITHOUT_IO_URING}")]
    KernelTooOld {
        /// What it lacks.
        missing: &'static str,
    },
    /// A resource limit of this process.
    #[error("the limit on {limit} is too low: raise it ({remedy})")]
    Limit {
        /// Which limit.
        limit: &'static str,
        /// How to raise it.
        remedy: &'static str,
    },
    /// Another process has the port, perhaps another node.
    #[error("UDP port {address} is taken, perhaps by another node: stop it or choose another port")]
    PortTaken {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The address cannot be bound.
    #[error(
        "cannot bind UDP address {address}: {error}; set `bind` to an address of this host, as `ip address` lists them"
    )]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the kernel says.
        error: io::Error,
    },
    /// A shard cannot be pinned.
    #[error(
        "cannot pin a shard to core {core}: this process may not use it; choose among the cores that `nproc` and `taskset -p` show"
    )]
    Core {
        /// The core asked for.
        core: usize,
    },
    /// Another operation of the operating system failed.
    #[error("cannot {what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the kernel says.
        error: io::Error,
    },
}
