//! Where threads run and how they wait, as files and flags say it.

use std::num::NonZero;
use std::str::FromStr;

use alpenglow_dataplane::EngineKind;
use alpenglow_rotor::erasure::Kernel;
use clap::ValueEnum;
use serde::Deserialize;

/// Most verifier threads.
const VERIFIERS_MAX: usize = 256;
/// No host has a core of this number or above.
const CORES_MAX: usize = 4_096;

/// How threads are placed on cores.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WordOr<Vec<usize>>")]
pub(crate) enum CorePolicy {
    /// Pin if every pinned thread gets a core of its own, else let the kernel place them.
    #[default]
    Auto,
    /// Never pin.
    Unpinned,
    /// These cores, each once: one for each shard, then one for control.
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

/// What a node's votes are remembered through without a pause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Durability {
    /// The end of the process: after a power loss the node does not vote for a few slots
    #[default]
    Process,
    /// A power loss: each vote waits for the disk
    Power,
}

impl Durability {
    /// As files and flags say it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Power => "power",
        }
    }
}

/// What the erasure code is computed with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum KernelPolicy {
    /// The fastest that this processor can run
    #[default]
    Auto,
    /// Plain code for every processor
    Portable,
    /// AVX2 instructions of x86-64
    Avx2,
    /// GFNI and AVX2 instructions of x86-64
    Gfni,
    /// GFNI and AVX-512 instructions of x86-64
    Gfni512,
}

/// How the node talks to the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub(crate) enum EnginePolicy {
    /// Through io_uring, shards and control alike
    #[default]
    IoUring,
    /// By plain system calls; nothing in the process uses io_uring
    Syscalls,
}

/// Number of verifier threads; `None` for as many as cores are left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WordOr<usize>")]
pub(super) struct Verifiers(pub(super) Option<NonZero<usize>>);

/// A value for which a word may stand.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a word in quotation marks, a number, or a list of numbers")]
enum WordOr<T> {
    Word(String),
    Value(T),
}

/// What is no [`CorePolicy`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected auto, none, or a list of different core numbers below {CORES_MAX}")]
pub(crate) struct CorePolicyError;

/// A kernel that cannot be used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this processor cannot run the {} kernel; choose auto, for {}", .0.name(), Kernel::best().name())]
pub(crate) struct KernelError(Kernel);

/// What is no number of verifiers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected auto or a number from 1 to {VERIFIERS_MAX}")]
pub(crate) struct VerifiersError;

impl KernelPolicy {
    /// The kernel.
    ///
    /// # Errors
    /// [`KernelError`] if this processor cannot run it.
    pub(crate) fn kernel(self) -> Result<Kernel, KernelError> {
        let kernel = match self {
            Self::Auto => return Ok(Kernel::best()),
            Self::Portable => Kernel::Portable,
            Self::Avx2 => Kernel::Avx2,
            Self::Gfni => Kernel::Gfni,
            Self::Gfni512 => Kernel::Gfni512,
        };
        if kernel.is_available() { Ok(kernel) } else { Err(KernelError(kernel)) }
    }

    /// As files and flags say it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Gfni => "gfni",
            Self::Gfni512 => "gfni512",
        }
    }
}

impl EnginePolicy {
    /// What shards are started with.
    pub(crate) const fn kind(self) -> EngineKind {
        match self {
            Self::IoUring => EngineKind::IoUring,
            Self::Syscalls => EngineKind::Syscalls,
        }
    }
}

impl CorePolicy {
    fn list(cores: Vec<usize>) -> Result<Self, CorePolicyError> {
        let again = cores.iter().enumerate().any(|(position, core)| cores[..position].contains(core));
        let unknown = cores.iter().any(|core| *core >= CORES_MAX);
        if cores.len() > CORES_MAX || unknown || again { Err(CorePolicyError) } else { Ok(Self::List(cores)) }
    }
}

impl FromStr for CorePolicy {
    type Err = CorePolicyError;

    /// A list's numbers are separated by commas.
    fn from_str(text: &str) -> Result<Self, CorePolicyError> {
        match text {
            "auto" => Ok(Self::Auto),
            "none" => Ok(Self::Unpinned),
            list => Self::list(list.split(',').map(str::parse).collect::<Result<_, _>>().map_err(|_| CorePolicyError)?),
        }
    }
}

impl TryFrom<WordOr<Vec<usize>>> for CorePolicy {
    type Error = CorePolicyError;

    fn try_from(value: WordOr<Vec<usize>>) -> Result<Self, CorePolicyError> {
        match value {
            WordOr::Word(word) if word == "auto" => Ok(Self::Auto),
            WordOr::Word(word) if word == "none" => Ok(Self::Unpinned),
            WordOr::Word(_) => Err(CorePolicyError),
            WordOr::Value(cores) => Self::list(cores),
        }
    }
}

impl FromStr for Verifiers {
    type Err = VerifiersError;

    fn from_str(text: &str) -> Result<Self, VerifiersError> {
        if text == "auto" {
            Ok(Self(None))
        } else {
            text.parse::<NonZero<usize>>().map_err(|_| VerifiersError)?.try_into()
        }
    }
}

impl TryFrom<NonZero<usize>> for Verifiers {
    type Error = VerifiersError;

    fn try_from(number: NonZero<usize>) -> Result<Self, VerifiersError> {
        if number.get() > VERIFIERS_MAX { Err(VerifiersError) } else { Ok(Self(Some(number))) }
    }
}

impl TryFrom<WordOr<usize>> for Verifiers {
    type Error = VerifiersError;

    fn try_from(value: WordOr<usize>) -> Result<Self, VerifiersError> {
        match value {
            WordOr::Word(word) if word == "auto" => Ok(Self(None)),
            WordOr::Word(_) => Err(VerifiersError),
            WordOr::Value(number) => NonZero::new(number).ok_or(VerifiersError)?.try_into(),
        }
    }
}
