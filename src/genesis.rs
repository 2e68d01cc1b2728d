//! The genesis file: what all validators of a cluster agree on, in JSON. The SHA-256 of its exact bytes is the cluster's id,
//! so every validator needs the very same file. Addresses are not in it: they may change, and stand in each node's config.
//!
//! ```json
//! {
//!   "format": 1,
//!   "start_time_unix_ms": 1764000000000,
//!   "delta_block_ms": 400,
//!   "delta_timeout_ms": 1200,
//!   "leader_schedule": "stake-weighted",
//!   "epoch_seed": "64 hexadecimal digits",
//!   "coding": { "code": "rs8", "data_shreds": 32, "total_shreds": 64, "shred_bytes": 896, "datagram_bytes": 1232 },
//!   "validators": [
//!     { "identity": "base58", "stake": 1, "voting_key": "192 hexadecimal digits", "proof_of_possession": "192 more" }
//!   ]
//! }
//! ```
//! `data_shreds` and `total_shreds` are the paper's gamma and Gamma.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alpenglow_control::block::SLICE_PAYLOAD_BYTES_MIN;
use alpenglow_control::bls::{ProofOfPossession, PublicKeyBytes, SecretKey, SignatureBytes};
use alpenglow_control::stakes::Stakes;
use alpenglow_control::voting_keys::{VotingKeys, VotingKeysError};
use alpenglow_rotor::parameters::{CodingParameters, DATAGRAM_BYTES_DEFAULT, ParameterError};
use alpenglow_rotor::sampling::RelaySampler;
use alpenglow_rotor::schedule::{EpochSeed, LeaderSchedule, ScheduleKind};
use alpenglow_rotor::types::{ClusterId, Stake, VALIDATORS_MAX, ValidatorIndex};
use alpenglow_rotor::validators::{ValidatorSet, ValidatorSetError};
use clap::ValueEnum;
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::encoding::{Hex, Identity, parse_hex};
use crate::files::{self, Access, ReadError};
use crate::keys;

/// Name of the genesis file in a folder that `alpenglow` writes.
pub(crate) const GENESIS_FILE: &str = "genesis.json";
/// Longest genesis file: the largest validator set takes a third of it.
const FILE_BYTES_MAX: usize = 4 << 20;
/// The format that this program reads and writes.
const FORMAT: u32 = 1;
/// Largest datagram: what a jumbo frame holds with IPv6 and UDP headers.
const DATAGRAM_BYTES_MAX: usize = 8_972;
/// Longest time for one block.
pub(crate) const DELTA_BLOCK_MS_MAX: u64 = 60_000;
/// Longest timeout.
pub(crate) const DELTA_TIMEOUT_MS_MAX: u64 = 3_600_000;
/// The end of the year 9999. A start time past it is in another unit.
const START_TIME_UNIX_MS_MAX: u64 = 253_402_300_799_999;

/// A genesis file, checked: what a node needs of it.
pub(crate) struct Genesis {
    /// SHA-256 of the file.
    pub(crate) cluster: ClusterId,
    /// Identities and stakes.
    pub(crate) validators: Arc<ValidatorSet>,
    /// The same stakes, as the Pool reads them.
    pub(crate) stakes: Arc<Stakes>,
    /// Voting keys, with their proofs of possession checked.
    pub(crate) voting_keys: Arc<VotingKeys>,
    /// How leaders follow each other.
    pub(crate) schedule_kind: ScheduleKind,
    /// What leaders and relays are drawn from.
    pub(crate) seed: EpochSeed,
    /// How slices are cut.
    pub(crate) coding: CodingParameters,
    /// Time of one block (paper: Δblock).
    pub(crate) delta_block: Duration,
    /// What a window's first block may take besides (paper: Δtimeout).
    pub(crate) delta_timeout: Duration,
    /// When window 0 starts; a node that starts later starts it at once.
    pub(crate) start_time: SystemTime,
}

/// Why a genesis file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GenesisError {
    /// The file cannot be read.
    #[error(
        "cannot read the genesis file {path}: {reason}; check the path, or make a cluster with `alpenglow genesis`"
    )]
    Read {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: ReadError,
    },
    /// What it says is wrong.
    #[error(
        "the genesis file {path} is refused: {defect}; every validator needs an exact copy of the file that the cluster was made with: copy it again, or make a new cluster with `alpenglow genesis`"
    )]
    Refused {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        defect: GenesisDefect,
    },
}

/// What is wrong with a genesis file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GenesisDefect {
    /// Not this format.
    #[error("{0}")]
    Syntax(#[from] serde_json::Error),
    /// A later format, perhaps.
    #[error("its format is {0}, this program knows format {FORMAT}")]
    Format(u32),
    /// A number out of its range.
    #[error("{key} must be between {least} and {most}, found {found}")]
    Range {
        /// Which.
        key: &'static str,
        /// Smallest allowed.
        least: u64,
        /// Largest allowed.
        most: u64,
        /// Value found.
        found: u64,
    },
    /// The code's parameters.
    #[error("coding: {0}")]
    Coding(#[from] ParameterError),
    /// Slices too small to hold a transaction.
    #[error("coding: a slice holds {found} bytes, at least {SLICE_PAYLOAD_BYTES_MIN} are needed")]
    SliceBytes {
        /// What it holds.
        found: usize,
    },
    /// Identities and stakes.
    #[error(transparent)]
    Validators(#[from] ValidatorSetError),
    /// Voting keys.
    #[error(transparent)]
    VotingKeys(#[from] VotingKeysError),
}

/// Why a node's keys do not fit the cluster.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OwnKeysError {
    /// The identity is no validator's.
    #[error(
        "the identity {0} is not a validator of this cluster; set `identity` to a validator's key, or `genesis` to its cluster's file"
    )]
    NotAValidator(String),
    /// The voting key is another.
    #[error(
        "the voting key of validator {validator} is {expected} in the genesis file, but `bls_key` holds {found}; set `bls_key` to the file made with the identity"
    )]
    OtherVotingKey {
        /// Whose.
        validator: u16,
        /// In the genesis file.
        expected: String,
        /// In the key's file.
        found: String,
    },
}

/// A genesis file as it is written, not checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GenesisFile {
    format: u32,
    start_time_unix_ms: u64,
    delta_block_ms: u64,
    delta_timeout_ms: u64,
    leader_schedule: ScheduleName,
    epoch_seed: Hex<32>,
    coding: Coding,
    validators: Vec<Validator>,
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

/// How slices are cut into shreds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Coding {
    code: Code,
    data_shreds: usize,
    total_shreds: usize,
    shred_bytes: usize,
    datagram_bytes: usize,
}

/// The erasure code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Code {
    /// The systematic Reed-Solomon code over GF(2^8), for up to 255 shreds.
    #[serde(rename = "rs8")]
    Rs8,
}

/// A validator's place in the set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Validator {
    identity: Identity,
    stake: u64,
    voting_key: Hex<96>,
    proof_of_possession: Hex<96>,
}

/// What a new cluster is made with, besides its validators.
#[derive(Clone, Debug)]
pub(crate) struct ClusterParameters {
    /// How leaders follow each other.
    pub(crate) schedule: ScheduleName,
    /// What leaders and relays are drawn from.
    pub(crate) seed: EpochSeed,
    /// How slices are cut.
    pub(crate) coding: CodingParameters,
    /// Time of one block (paper: Δblock), in whole milliseconds.
    pub(crate) delta_block: Duration,
    /// What a window's first block may take besides (paper: Δtimeout), in whole milliseconds.
    pub(crate) delta_timeout: Duration,
    /// When window 0 starts; kept to the millisecond.
    pub(crate) start_time: SystemTime,
}

/// Reads and checks a genesis file; some 1.5 ms for each validator.
///
/// # Errors
/// [`GenesisError`].
pub(crate) fn load(path: &Path) -> Result<Genesis, GenesisError> {
    let (file, cluster) = read(path)?;
    file.check(cluster).map_err(|defect| GenesisError::Refused { path: path.to_owned(), defect })
}

/// Reads a genesis file for its cluster's id, without checking its validators.
///
/// # Errors
/// [`GenesisError`].
pub(crate) fn load_cluster_id(path: &Path) -> Result<ClusterId, GenesisError> {
    read(path).map(|(_, cluster)| cluster)
}

fn read(path: &Path) -> Result<(GenesisFile, ClusterId), GenesisError> {
    let bytes = files::read(path, FILE_BYTES_MAX, Access::Public)
        .map_err(|reason| GenesisError::Read { path: path.to_owned(), reason })?;
    let file = GenesisFile::parse(&bytes).map_err(|defect| GenesisError::Refused { path: path.to_owned(), defect })?;
    Ok((file, cluster_id(&bytes)))
}

/// The id of the cluster whose genesis file has these bytes.
#[must_use]
pub(crate) fn cluster_id(file: &[u8]) -> ClusterId {
    ClusterId(Sha256::digest(file).into())
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

impl Genesis {
    /// Who leads when.
    pub(crate) fn leader_schedule(&self) -> LeaderSchedule {
        LeaderSchedule::new(self.schedule_kind, self.seed, &self.validators)
    }

    /// Who relays what.
    pub(crate) fn relay_sampler(&self) -> RelaySampler {
        RelaySampler::new(&self.validators, self.seed, self.coding.total_shreds())
    }

    /// The validator that has these keys.
    ///
    /// # Errors
    /// [`OwnKeysError`] if there is none.
    pub(crate) fn own_index(
        &self,
        identity: &SigningKey,
        voting_key: &SecretKey,
    ) -> Result<ValidatorIndex, OwnKeysError> {
        let own = self.validators.index_of(&identity.verifying_key().to_bytes());
        let own = own.ok_or_else(|| OwnKeysError::NotAValidator(keys::show_identity(identity)))?;
        let expected = self.voting_keys.get(own).expect("as many voting keys as validators");
        if *expected != voting_key.public_key() {
            let expected = crate::encoding::hex(&expected.to_bytes().0);
            return Err(OwnKeysError::OtherVotingKey { validator: own.0, expected, found: keys::show_bls(voting_key) });
        }
        Ok(own)
    }
}

impl GenesisFile {
    /// A file for a new cluster. Its numbers are checked by [`GenesisFile::check`] only.
    pub(crate) fn new(parameters: &ClusterParameters) -> Self {
        let coding = &parameters.coding;
        let mut file = Self {
            format: FORMAT,
            start_time_unix_ms: 0,
            delta_block_ms: milliseconds(parameters.delta_block),
            delta_timeout_ms: milliseconds(parameters.delta_timeout),
            leader_schedule: parameters.schedule,
            epoch_seed: Hex(parameters.seed.0),
            coding: Coding {
                code: Code::Rs8,
                data_shreds: coding.data_shreds(),
                total_shreds: coding.total_shreds(),
                shred_bytes: coding.shred_bytes(),
                datagram_bytes: coding.datagram_bytes(),
            },
            validators: Vec::new(),
        };
        file.set_start_time(parameters.start_time);
        file
    }

    /// Adds a validator behind those before it.
    pub(crate) fn add_validator(&mut self, identity: &SigningKey, voting_key: &SecretKey, stake: Stake) {
        self.validators.push(Validator {
            identity: Identity(identity.verifying_key().to_bytes()),
            stake: stake.0,
            voting_key: Hex(voting_key.public_key().to_bytes().0),
            proof_of_possession: Hex(voting_key.prove_possession().0.0),
        });
    }

    /// Sets when window 0 starts, which makes it another cluster's file.
    pub(crate) fn set_start_time(&mut self, start_time: SystemTime) {
        self.start_time_unix_ms = milliseconds(start_time.duration_since(UNIX_EPOCH).unwrap_or_default());
    }

    /// The text of the file.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("its keys are strings") + "\n"
    }

    fn parse(bytes: &[u8]) -> Result<Self, GenesisDefect> {
        /// What every format has.
        #[derive(Deserialize)]
        struct AnyFormat {
            format: u32,
        }
        // First, because a later format would fail by its unknown keys otherwise.
        match serde_json::from_slice::<AnyFormat>(bytes)?.format {
            FORMAT => Ok(serde_json::from_slice(bytes)?),
            format => Err(GenesisDefect::Format(format)),
        }
    }

    /// The cluster's numbers. Cheap: the validators are not looked at.
    fn coding(&self) -> Result<CodingParameters, GenesisDefect> {
        let range = |key, found, least, most| {
            if (least..=most).contains(&found) { Ok(()) } else { Err(GenesisDefect::Range { key, least, most, found }) }
        };
        range("start_time_unix_ms", self.start_time_unix_ms, 0, START_TIME_UNIX_MS_MAX)?;
        range("delta_block_ms", self.delta_block_ms, 1, DELTA_BLOCK_MS_MAX)?;
        range("delta_timeout_ms", self.delta_timeout_ms, 1, DELTA_TIMEOUT_MS_MAX)?;
        let Coding { code: Code::Rs8, data_shreds, total_shreds, shred_bytes, datagram_bytes } = self.coding;
        let datagram_range = (DATAGRAM_BYTES_DEFAULT as u64, DATAGRAM_BYTES_MAX as u64);
        range("coding.datagram_bytes", datagram_bytes as u64, datagram_range.0, datagram_range.1)?;
        let coding = CodingParameters::new(data_shreds, total_shreds, shred_bytes, datagram_bytes)?;
        match coding.slice_payload_bytes() {
            found if found < SLICE_PAYLOAD_BYTES_MIN => Err(GenesisDefect::SliceBytes { found }),
            _ => Ok(coding),
        }
    }

    fn validator_set(&self) -> Result<ValidatorSet, ValidatorSetError> {
        ValidatorSet::new(
            self.validators.iter().map(|validator| (validator.identity.0, Stake(validator.stake))).collect(),
        )
    }

    /// Everything but the voting keys, whose check takes long; for a file whose keys were made here.
    ///
    /// # Errors
    /// [`GenesisDefect`] names the first defect.
    pub(crate) fn check_new(&self) -> Result<(), GenesisDefect> {
        self.coding()?;
        self.validator_set()?;
        Ok(())
    }

    fn check(&self, cluster: ClusterId) -> Result<Genesis, GenesisDefect> {
        let coding = self.coding()?;
        let validators = self.validator_set()?;
        let voting_keys = self.validators.iter().map(|validator| {
            let proof = ProofOfPossession(SignatureBytes(validator.proof_of_possession.0));
            (PublicKeyBytes(validator.voting_key.0), proof)
        });
        let voting_keys = VotingKeys::new(&voting_keys.collect::<Vec<_>>())?;
        let stakes = Stakes::new(validators.indices().map(|v| validators.stake(v)).collect());
        assert!(validators.len() == voting_keys.len() && validators.len() <= VALIDATORS_MAX);
        Ok(Genesis {
            cluster,
            validators: Arc::new(validators),
            stakes: Arc::new(stakes),
            voting_keys: Arc::new(voting_keys),
            schedule_kind: self.leader_schedule.into(),
            seed: EpochSeed(self.epoch_seed.0),
            coding,
            delta_block: Duration::from_millis(self.delta_block_ms),
            delta_timeout: Duration::from_millis(self.delta_timeout_ms),
            start_time: UNIX_EPOCH + Duration::from_millis(self.start_time_unix_ms),
        })
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

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
