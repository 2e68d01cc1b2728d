//! What the validators of a cluster agree on besides who they are: limits, and names in files and flags.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alpenglow_control::block::SLICE_PAYLOAD_BYTES_MIN;
use alpenglow_rotor::parameters::{Code, CodingParameters};
use alpenglow_rotor::schedule::{EpochSeed, ScheduleKind};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::GenesisDefect;
use crate::encoding::parse_hex;
use crate::epoch_stakes::EpochParameters;

/// Largest datagram: what a jumbo frame of 9,000 bytes holds besides IPv4 and UDP headers.
pub(crate) const DATAGRAM_BYTES_MAX: usize = 8_972;
/// Longest time for one block.
pub(crate) const DELTA_BLOCK_MS_MAX: u64 = 60_000;
/// Longest timeout.
pub(crate) const DELTA_TIMEOUT_MS_MAX: u64 = 3_600_000;

/// What a new cluster is made with, besides its validators.
#[derive(Clone, Debug)]
pub(crate) struct ClusterParameters {
    /// How leaders follow each other.
    pub(crate) schedule: ScheduleName,
    /// What leaders and relays are drawn from.
    pub(crate) seed: EpochSeed,
    /// How long epochs are, and the stakes of later ones.
    pub(crate) epochs: EpochParameters,
    /// How slices are cut.
    pub(crate) coding: CodingParameters,
    /// Time of one block (paper: Δblock), in whole milliseconds.
    pub(crate) delta_block: Duration,
    /// What a window's first block may take besides (paper: Δtimeout), in whole milliseconds.
    pub(crate) delta_timeout: Duration,
    /// When window 0 starts; kept to the millisecond.
    pub(crate) start_time: SystemTime,
}

impl ClusterParameters {
    /// Those of an example, for tests and as seeds of fuzzing: what `alpenglow genesis` takes unless told otherwise,
    /// but for leaders in turn, a known seed, and a start long ago.
    pub(crate) fn example() -> Self {
        Self {
            schedule: ScheduleName::RoundRobin,
            seed: EpochSeed([7; 32]),
            epochs: EpochParameters::default(),
            coding: CodingParameters::default(),
            delta_block: Duration::from_millis(400),
            delta_timeout: Duration::from_millis(1_200),
            start_time: UNIX_EPOCH,
        }
    }
}

/// How leaders follow each other, by its name in files and flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ScheduleName {
    /// Each window's leader is drawn in proportion to stake
    #[default]
    StakeWeighted,
    /// The validators lead in turn, in the order of the genesis file
    RoundRobin,
}

/// The erasure code, by its name in files and flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lower")]
pub(crate) enum CodeName {
    /// Reed-Solomon over GF(2^8): the fast one, for up to 255 shreds
    #[default]
    Rs8,
    /// Reed-Solomon over GF(2^16), for up to 512 shreds
    Leopard16,
}

impl From<CodeName> for Code {
    fn from(name: CodeName) -> Self {
        match name {
            CodeName::Rs8 => Self::Rs8,
            CodeName::Leopard16 => Self::Leopard16,
        }
    }
}

impl From<Code> for CodeName {
    fn from(code: Code) -> Self {
        match code {
            Code::Rs8 => Self::Rs8,
            Code::Leopard16 => Self::Leopard16,
        }
    }
}

impl From<ScheduleName> for ScheduleKind {
    fn from(name: ScheduleName) -> Self {
        match name {
            ScheduleName::StakeWeighted => Self::StakeWeighted,
            ScheduleName::RoundRobin => Self::RoundRobin,
        }
    }
}

/// Text that is no seed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a number below 2^64 or 64 hexadecimal digits")]
pub(crate) struct SeedError;

/// The seed that 64 hexadecimal digits spell, or the one that belongs to a number:
/// SHA-256("alpenglow epoch seed 1" | number as u64 little-endian).
///
/// # Errors
/// [`SeedError`].
pub(crate) fn parse_seed(text: &str) -> Result<EpochSeed, SeedError> {
    if text.len() == 64 {
        return parse_hex(text).and_then(|bytes| bytes.try_into().ok()).map(EpochSeed).ok_or(SeedError);
    }
    let number: u64 = text.parse().map_err(|_| SeedError)?;
    let digest = Sha256::new().chain_update("alpenglow epoch seed 1").chain_update(number.to_le_bytes()).finalize();
    Ok(EpochSeed(digest.into()))
}

/// Whether a slice so cut holds the largest transaction.
///
/// # Errors
/// [`GenesisDefect::SliceBytes`] if it does not.
pub(crate) fn check_slices(coding: &CodingParameters) -> Result<(), GenesisDefect> {
    match coding.slice_payload_bytes() {
        found if found < SLICE_PAYLOAD_BYTES_MIN => Err(GenesisDefect::SliceBytes { found }),
        _ => Ok(()),
    }
}
