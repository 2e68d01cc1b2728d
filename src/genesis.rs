//! The genesis file: what all validators of a cluster agree on, in JSON. The SHA-256 of its exact bytes is the
//! cluster's id, so every validator needs the very same file. Addresses are not in it: they may change, and stand in
//! each node's config.
//!
//! ```json
//! {
//!   "format": 1,
//!   "start_time_unix_ms": 1764000000000,
//!   "delta_block_ms": 400,
//!   "delta_timeout_ms": 1200,
//!   "leader_schedule": "stake-weighted",
//!   "epoch_seed": "64 hexadecimal digits",
//!   "epoch_slots": 18000,
//!   "coding": { "code": "rs8", "data_shreds": 32, "total_shreds": 64, "shred_bytes": 896, "datagram_bytes": 1232 },
//!   "validators": [
//!     { "identity": "base58", "stake": 1, "voting_key": "192 hexadecimal digits", "proof_of_possession": "192 more" }
//!   ],
//!   "epochs": [
//!     { "first_epoch": 2, "validators": [{ "identity": "base58", "stake": 1 }] }
//!   ]
//! }
//! ```
//! Stakes in `validators` are those of epoch 0; `epochs` lists the sets that follow, each complete: whoever it leaves out is
//! no member until a later set names it. Who becomes a member only then has stake 0 in `validators`. Without `epoch_slots`,
//! an epoch has 18,000 slots if there is a later set, and otherwise epoch 0 has no end.
//!
//! `data_shreds` and `total_shreds` are the paper's gamma and Gamma; `code` is `rs8`, or `leopard16` for more than 255
//! shreds.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alpenglow_control::block::SLICE_PAYLOAD_BYTES_MIN;
use alpenglow_control::bls::{ProofOfPossession, PublicKeyBytes, SecretKey, SignatureBytes};
use alpenglow_control::evidence::Authority;
use alpenglow_control::stakes::Stakes;
use alpenglow_control::voting_keys::{VotingKeys, VotingKeysError};
use alpenglow_rotor::epochs::{EPOCH_SETS_MAX, EPOCH_SLOTS_DEFAULT, Epochs, EpochsError};
use alpenglow_rotor::parameters::{Code, CodingParameters, DATAGRAM_BYTES_DEFAULT, ParameterError};
use alpenglow_rotor::sampling::RelaySampler;
use alpenglow_rotor::schedule::{EpochSeed, LeaderSchedule, ScheduleKind};
use alpenglow_rotor::types::{ClusterId, Stake, VALIDATORS_MAX, ValidatorIndex};
use alpenglow_rotor::validators::{ValidatorSet, ValidatorSetError};
use clap::ValueEnum;
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::encoding::{Hex, Identity, parse_hex};
use crate::epoch_stakes::EpochParameters;
use crate::files::{self, Access, ReadError};
use crate::keys;

/// Name of the genesis file in a folder that `alpenglow` writes.
pub(crate) const GENESIS_FILE: &str = "genesis.json";
/// Longest genesis file: as many sets of as many validators as possible take three quarters of it.
const FILE_BYTES_MAX: usize = 24 << 20;
/// The format that this program reads and writes.
const FORMAT: u32 = 1;
/// Largest datagram: what a jumbo frame of 9,000 bytes holds besides IPv4 and UDP headers.
pub(crate) const DATAGRAM_BYTES_MAX: usize = 8_972;
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
    /// Identities.
    pub(crate) validators: Arc<ValidatorSet>,
    /// Stakes and seeds.
    pub(crate) epochs: Arc<Epochs>,
    /// The same stakes, as the Pool reads them.
    pub(crate) stakes: Arc<Stakes>,
    /// Voting keys, with their proofs of possession checked.
    pub(crate) voting_keys: Arc<VotingKeys>,
    /// How leaders follow each other.
    pub(crate) schedule_kind: ScheduleKind,
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
    #[error(
        "coding: a slice holds {found} bytes, at least {SLICE_PAYLOAD_BYTES_MIN} are needed: take more data shreds, or longer ones"
    )]
    SliceBytes {
        /// What it holds.
        found: usize,
    },
    /// Identities and stakes.
    #[error(transparent)]
    Validators(#[from] ValidatorSetError),
    /// Lengths and stakes of epochs.
    #[error("epochs: {0}")]
    Epochs(#[from] EpochsError),
    /// A later set names somebody who is not in `validators`.
    #[error(
        "epochs: {identity} in the set of epoch {first_epoch} is not listed in `validators`, with its keys and stake 0"
    )]
    UnknownMember {
        /// The set's first epoch.
        first_epoch: u64,
        /// Whom it names.
        identity: Identity,
    },
    /// A later set names somebody twice.
    #[error("epochs: {identity} is named twice in the set of epoch {first_epoch}")]
    MemberTwice {
        /// The set's first epoch.
        first_epoch: u64,
        /// Whom it names.
        identity: Identity,
    },
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    epoch_slots: Option<u64>,
    coding: Coding,
    validators: Vec<Validator>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    epochs: Vec<LaterSet>,
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
    code: CodeName,
    data_shreds: usize,
    total_shreds: usize,
    shred_bytes: usize,
    datagram_bytes: usize,
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

/// A validator's place in the set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Validator {
    identity: Identity,
    stake: u64,
    voting_key: Hex<96>,
    proof_of_possession: Hex<96>,
}

/// The validators that have stake from an epoch on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LaterSet {
    first_epoch: u64,
    validators: Vec<Member>,
}

/// A validator's stake in a later set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Member {
    identity: Identity,
    stake: u64,
}

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
        LeaderSchedule::of_epochs(self.schedule_kind, Arc::clone(&self.epochs))
    }

    /// What proofs are checked against.
    pub(crate) fn authority(&self) -> Authority {
        Authority {
            cluster: self.cluster,
            validators: Arc::clone(&self.validators),
            voting_keys: Arc::clone(&self.voting_keys),
            schedule: Arc::new(self.leader_schedule()),
            coding: self.coding,
        }
    }

    /// Who relays what.
    pub(crate) fn relay_sampler(&self) -> RelaySampler {
        RelaySampler::of_epochs(Arc::clone(&self.epochs), self.coding.total_shreds())
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
                code: coding.code().into(),
                data_shreds: coding.data_shreds(),
                total_shreds: coding.total_shreds(),
                shred_bytes: coding.shred_bytes(),
                datagram_bytes: coding.datagram_bytes(),
            },
            epoch_slots: Some(parameters.epochs.slots),
            validators: Vec::new(),
            epochs: Vec::new(),
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

    /// Sets how the stakes of all validators added change.
    ///
    /// # Panics
    /// If a set has not as many stakes as there are validators.
    pub(crate) fn set_epochs(&mut self, epochs: &EpochParameters) {
        self.epoch_slots = Some(epochs.slots);
        let sets = epochs.later.iter().map(|(first_epoch, stakes)| {
            assert!(stakes.len() == self.validators.len(), "a stake for each validator");
            let members = self.validators.iter().zip(stakes).filter(|(_, stake)| stake.0 > 0);
            let members = members.map(|(validator, stake)| Member { identity: validator.identity, stake: stake.0 });
            LaterSet { first_epoch: *first_epoch, validators: members.collect() }
        });
        self.epochs = sets.collect();
    }

    /// Sets when window 0 starts, which makes it another cluster's file.
    pub(crate) fn set_start_time(&mut self, start_time: SystemTime) {
        self.start_time_unix_ms = milliseconds(start_time.duration_since(UNIX_EPOCH).unwrap_or_default());
    }

    /// The text of the file.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("its keys are strings") + "\n"
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// [`GenesisDefect`] if it is none of this format.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, GenesisDefect> {
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
        let Coding { code, data_shreds, total_shreds, shred_bytes, datagram_bytes } = self.coding;
        let datagram_range = (DATAGRAM_BYTES_DEFAULT as u64, DATAGRAM_BYTES_MAX as u64);
        range("coding.datagram_bytes", datagram_bytes as u64, datagram_range.0, datagram_range.1)?;
        let coding = CodingParameters::new(code.into(), data_shreds, total_shreds, shred_bytes, datagram_bytes)?;
        check_slices(&coding)?;
        Ok(coding)
    }

    fn validator_set(&self) -> Result<ValidatorSet, ValidatorSetError> {
        ValidatorSet::with_later_members(
            self.validators.iter().map(|validator| (validator.identity.0, Stake(validator.stake))).collect(),
        )
    }

    fn epochs(&self, validators: &ValidatorSet) -> Result<Epochs, GenesisDefect> {
        let seed = EpochSeed(self.epoch_seed.0);
        let stakes = validators.indices().map(|v| validators.stake(v)).collect();
        if self.epoch_slots.is_none() && self.epochs.is_empty() {
            return Ok(Epochs::endless(stakes, seed)?);
        }
        if self.epochs.len() >= EPOCH_SETS_MAX {
            // Before stakes are laid out for all of them.
            return Err(EpochsError::TooMany { found: self.epochs.len() + 1 }.into());
        }
        let later: Result<_, GenesisDefect> =
            self.epochs.iter().map(|set| Ok((set.first_epoch, set.stakes(validators)?))).collect();
        Ok(Epochs::new(self.epoch_slots.unwrap_or(EPOCH_SLOTS_DEFAULT), stakes, later?, seed)?)
    }

    /// How many validators it names.
    pub(crate) const fn validators(&self) -> usize {
        self.validators.len()
    }

    /// Everything but the voting keys, whose check takes long; for a file whose keys were made here.
    ///
    /// # Errors
    /// [`GenesisDefect`] names the first defect.
    pub(crate) fn check_new(&self) -> Result<(), GenesisDefect> {
        self.coding()?;
        self.epochs(&self.validator_set()?)?;
        Ok(())
    }

    /// Checks all that the file of `cluster` says.
    ///
    /// # Errors
    /// [`GenesisDefect`] names the first defect.
    pub(crate) fn check(&self, cluster: ClusterId) -> Result<Genesis, GenesisDefect> {
        let coding = self.coding()?;
        let validators = self.validator_set()?;
        let epochs = Arc::new(self.epochs(&validators)?);
        let voting_keys = self.validators.iter().map(|validator| {
            let proof = ProofOfPossession(SignatureBytes(validator.proof_of_possession.0));
            (PublicKeyBytes(validator.voting_key.0), proof)
        });
        let voting_keys = VotingKeys::new(&voting_keys.collect::<Vec<_>>())?;
        assert!(validators.len() == voting_keys.len() && validators.len() <= VALIDATORS_MAX);
        Ok(Genesis {
            cluster,
            validators: Arc::new(validators),
            stakes: Arc::new(Stakes::of_epochs(Arc::clone(&epochs))),
            epochs,
            voting_keys: Arc::new(voting_keys),
            schedule_kind: self.leader_schedule.into(),
            coding,
            delta_block: Duration::from_millis(self.delta_block_ms),
            delta_timeout: Duration::from_millis(self.delta_timeout_ms),
            start_time: UNIX_EPOCH + Duration::from_millis(self.start_time_unix_ms),
        })
    }
}

impl LaterSet {
    /// The stakes of all validators of the cluster.
    fn stakes(&self, validators: &ValidatorSet) -> Result<Vec<Stake>, GenesisDefect> {
        let first_epoch = self.first_epoch;
        let mut stakes = vec![None; validators.len()];
        for &Member { identity, stake } in &self.validators {
            let index = validators.index_of(&identity.0);
            let index = index.ok_or(GenesisDefect::UnknownMember { first_epoch, identity })?;
            if stakes[index.get()].replace(Stake(stake)).is_some() {
                return Err(GenesisDefect::MemberTwice { first_epoch, identity });
            }
        }
        Ok(stakes.into_iter().map(Option::unwrap_or_default).collect())
    }
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

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::LazyLock;

    use alpenglow_rotor::types::Slot;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const IDENTITY_SECRETS: [[u8; 32]; 3] = [[1; 32], [2; 32], [3; 32]];

    /// A good file of three validators; made once, because proofs of possession take long.
    static FILE: LazyLock<GenesisFile> = LazyLock::new(|| {
        let mut file = GenesisFile::new(&ClusterParameters {
            schedule: ScheduleName::RoundRobin,
            seed: EpochSeed([7; 32]),
            epochs: EpochParameters::default(),
            coding: CodingParameters::default(),
            delta_block: Duration::from_millis(400),
            delta_timeout: Duration::from_millis(1_200),
            start_time: UNIX_EPOCH + Duration::from_millis(1_764_000_000_123),
        });
        for (secret, stake) in IDENTITY_SECRETS.iter().zip([5, 1, 1]) {
            file.add_validator(&SigningKey::from_bytes(secret), &SecretKey::from_entropy(secret), Stake(stake));
        }
        file
    });

    fn load_bytes(bytes: impl AsRef<[u8]>) -> Result<Genesis, GenesisError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(GENESIS_FILE);
        fs::write(&path, bytes).unwrap();
        load(&path)
    }

    /// What is said about the good file after `change`.
    fn complaint(change: impl FnOnce(&mut Value)) -> String {
        let mut value = serde_json::to_value(&*FILE).unwrap();
        change(&mut value);
        let error = load_bytes(value.to_string()).map(|_| ()).expect_err(&value.to_string()).to_string();
        assert!(error.contains("copy it again, or make a new cluster with `alpenglow genesis`"), "{error}");
        error
    }

    #[test]
    fn a_genesis_file_is_read_as_it_was_made() {
        let text = FILE.to_json();
        let genesis = load_bytes(&text).unwrap();
        assert_eq!(genesis.cluster.0, <[u8; 32]>::from(Sha256::digest(&text)));
        assert_eq!((genesis.validators.len(), genesis.voting_keys.len(), genesis.stakes.len()), (3, 3, 3));
        assert_eq!(
            (genesis.stakes.at(Slot(4)).total(), genesis.validators.stake(ValidatorIndex(0))),
            (Stake(7), Stake(5))
        );
        assert_eq!(
            (genesis.schedule_kind, genesis.epochs.seed(Slot(1))),
            (ScheduleKind::RoundRobin, EpochSeed([7; 32]))
        );
        assert_eq!((genesis.delta_block.as_millis(), genesis.delta_timeout.as_millis()), (400, 1_200));
        assert_eq!(genesis.start_time, UNIX_EPOCH + Duration::from_millis(1_764_000_000_123));
        assert_eq!(genesis.coding, CodingParameters::default());
        assert_eq!(genesis.leader_schedule().leader(Slot(4)), ValidatorIndex(1));
        assert_eq!(genesis.relay_sampler().total_shreds(), 64);
    }

    #[test]
    fn without_epochs_the_first_one_has_no_end() {
        let mut file = FILE.clone();
        file.epoch_slots = None;
        let text = file.to_json();
        assert!(!text.contains("epoch_slots") && !text.contains("epochs"), "{text}");
        let epochs = load_bytes(text).unwrap().epochs;
        assert_eq!((epochs.epoch(Slot(u64::MAX)), epochs.seed(Slot(u64::MAX))), (0, EpochSeed([7; 32])));
        assert_eq!(load_bytes(FILE.to_json()).unwrap().epochs.epoch(Slot(36_000)), 2, "a new file has epochs");
    }

    #[test]
    fn later_sets_are_read_as_they_were_made() {
        let mut file = FILE.clone();
        file.validators[2].stake = 0;
        let later = vec![(2, [0, 1, 4].map(Stake).to_vec()), (5, [3, 0, 4].map(Stake).to_vec())];
        file.set_epochs(&EpochParameters { slots: 8, later });
        let genesis = load_bytes(file.to_json()).unwrap();
        let stakes = |slot| [0, 1, 2].map(|index| genesis.stakes.at(Slot(slot)).of(ValidatorIndex(index)).0);
        assert_eq!(
            [0, 15, 16, 39, 40, 1_000].map(stakes),
            [[5, 1, 0], [5, 1, 0], [0, 1, 4], [0, 1, 4], [3, 0, 4], [3, 0, 4]]
        );
        let schedule = genesis.leader_schedule();
        let leaders = [0, 4, 8, 12, 16, 20, 24, 40, 44].map(|slot| schedule.leader(Slot(slot)).0);
        assert_eq!(leaders, [0, 1, 0, 1, 1, 2, 1, 0, 2], "members lead in turn");
        file.epoch_slots = None;
        assert_eq!(load_bytes(file.to_json()).unwrap().epochs.epoch(Slot(36_000)), 2, "18,000 slots by default");
    }

    #[test]
    fn later_sets_that_cannot_be_are_refused_with_what_is_wrong() {
        type Change<'a> = &'a dyn Fn(&mut GenesisFile);
        let mut file = FILE.clone();
        let later = (1..=2).map(|epoch| (epoch, [0, 1, 4].map(Stake).to_vec())).collect();
        file.set_epochs(&EpochParameters { slots: 8, later });
        let said = |change: Change<'_>| {
            let mut file = file.clone();
            change(&mut file);
            load_bytes(file.to_json()).map(|_| ()).unwrap_err().to_string()
        };
        let stranger = Identity(SigningKey::from_bytes(&[9; 32]).verifying_key().to_bytes());
        let changes: [(Change<'_>, &str); 8] = [
            (&|file| file.epoch_slots = Some(18), "a multiple of 4 slots, above 0, found 18"),
            (&|file| file.epoch_slots = Some(0), "a multiple of 4 slots, above 0, found 0"),
            (&|file| file.epochs[0].first_epoch = 2, "the set of epoch 2 comes after that of epoch 2"),
            (&|file| file.epochs[1].validators.clear(), "nobody has stake from epoch 2 on"),
            (&|file| file.epochs[1].validators[0].stake = u64::MAX, "the total stake from epoch 2 on exceeds"),
            (&|file| file.epochs[1].validators[0].identity = stranger, "is not listed in `validators`"),
            (
                &|file| file.epochs[1].validators[0] = file.epochs[1].validators[1].clone(),
                "named twice in the set of epoch 2",
            ),
            (&|file| file.epochs = vec![file.epochs[0].clone(); 64], "65 validator sets, at most 64"),
        ];
        for (change, expected) in changes {
            let complaint = said(change);
            assert!(complaint.contains(expected), "{complaint}");
        }
    }

    /// The two codes make different shreds of the same slice: nodes that do not agree on it must not be in one cluster.
    #[test]
    fn the_code_is_part_of_the_clusters_id() {
        let clusters = Code::ALL.map(|code| {
            let mut file = FILE.clone();
            file.coding.code = code.into();
            let genesis = load_bytes(file.to_json()).unwrap();
            assert_eq!(genesis.coding.code(), code);
            genesis.cluster
        });
        assert_ne!(clusters[0], clusters[1]);
    }

    #[test]
    fn the_names_of_codes_are_those_of_their_crate() {
        for code in Code::ALL {
            assert_eq!(serde_json::to_value(CodeName::from(code)).unwrap(), json!(code.name()));
            assert_eq!(CodeName::from_str(code.name(), false).map(Code::from), Ok(code));
        }
    }

    #[test]
    fn every_byte_of_the_file_counts_for_the_clusters_id() {
        let text = FILE.to_json();
        let ids = [text.clone(), text + "\n"].map(|text| load_bytes(text).unwrap().cluster);
        assert_ne!(ids[0], ids[1]);
    }

    #[test]
    fn a_node_is_the_validator_that_has_both_its_keys() {
        let genesis = load_bytes(FILE.to_json()).unwrap();
        let identity = |secret: &[u8; 32]| SigningKey::from_bytes(secret);
        let voting = SecretKey::from_entropy;
        let [zero, one, _] = &IDENTITY_SECRETS;
        assert_eq!(genesis.own_index(&identity(one), &voting(one)), Ok(ValidatorIndex(1)));
        let other = genesis.own_index(&identity(one), &voting(zero)).unwrap_err();
        assert!(matches!(other, OwnKeysError::OtherVotingKey { validator: 1, .. }), "{other}");
        let stranger = genesis.own_index(&identity(&[9; 32]), &voting(zero)).unwrap_err();
        assert!(matches!(stranger, OwnKeysError::NotAValidator(_)), "{stranger}");
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        for (key, value, said) in [
            ("/format", json!(2), "its format is 2, this program knows format 1"),
            ("/start_time_unix_ms", json!(1_764_000_000_000_000_000_u64), "start_time_unix_ms must be between 0 and"),
            ("/delta_block_ms", json!(0), "delta_block_ms must be between 1 and 60000, found 0"),
            ("/delta_block_ms", json!(60_001), "delta_block_ms must be between"),
            ("/delta_timeout_ms", json!(0), "delta_timeout_ms must be between 1 and 3600000"),
            ("/delta_block_ms", json!(-1), "expected u64"),
            ("/delta_block_ms", json!(0.4), "expected u64"),
            ("/leader_schedule", json!("random"), "unknown variant `random`"),
            ("/epoch_seed", json!("07"), "expected 64 hexadecimal digits"),
            ("/coding/code", json!("leopard8"), "unknown variant `leopard8`, expected `rs8` or `leopard16`"),
            ("/coding/data_shreds", json!(64), "coding: 64 data shreds of 64 in all: there must be 1 to 255"),
            ("/coding/total_shreds", json!(256), "coding: 256 shreds: the code rs8 makes at most 255; leopard16"),
            ("/coding/total_shreds", json!(u64::MAX), "shreds: the code rs8 makes at most 255"),
            ("/coding/total_shreds", json!(255), "coding: shreds of 896 bytes: must be even and between 64 and 864"),
            ("/coding/shred_bytes", json!(897), "coding: shreds of 897 bytes: must be even and between 64 and 928"),
            ("/coding/datagram_bytes", json!(1_231), "coding.datagram_bytes must be between 1232 and 8972"),
            ("/coding/datagram_bytes", json!(65_507), "coding.datagram_bytes must be between"),
            ("/validators/1/stake", json!(0), "validator 1 has no stake"),
            ("/validators/1/stake", json!(u64::MAX), "the total stake exceeds"),
            ("/validators", json!([]), "there is no validator"),
        ] {
            let complaint = complaint(|file| *file.pointer_mut(key).unwrap() = value.clone());
            assert!(complaint.contains(said), "{key} = {value}: {complaint}");
        }
        let small = complaint(|file| {
            file["coding"]["data_shreds"] = json!(1);
            file["coding"]["shred_bytes"] = json!(64);
        });
        assert!(small.contains("a slice holds 52 bytes, at least"), "{small}");
        let unknown = complaint(|file| file["color"] = json!("red"));
        assert!(unknown.contains("unknown field `color`"), "{unknown}");
    }

    /// Twice the same key would count its votes twice; keys that cancel out or are not held by who names them would
    /// verify what nobody signed.
    #[test]
    fn defect_25_keys_that_are_doubled_unproven_or_unsound_are_refused() {
        let copied = |key: &str| complaint(|file| file["validators"][2][key] = file["validators"][0][key].clone());
        assert!(copied("identity").contains("validators 0 and 2 have the same identity"));
        assert!(copied("voting_key").contains("the voting key of validator 2 equals that of validator 0"));
        assert!(copied("proof_of_possession").contains("the proof of possession of validator 2's voting key"));
        let with = |key: &str, text: String| complaint(|file| file["validators"][1][key] = json!(text));
        let infinity = format!("c0{}", "00".repeat(95));
        assert!(with("voting_key", infinity).contains("voting key of validator 1: the point at infinity"));
        assert!(with("voting_key", "ff".repeat(96)).contains("voting key of validator 1"));
        assert!(with("voting_key", "ff".repeat(95)).contains("expected 192 hexadecimal digits"));
        assert!(with("proof_of_possession", "00".repeat(96)).contains("validator 1"));
        let neutral = Identity(std::array::from_fn(|position| u8::from(position == 0)));
        assert!(with("identity", neutral.to_string()).contains("validator 1 is a weak key"));
        assert!(with("identity", "0OIl".to_owned()).contains("expected an identity"));
    }

    /// Refused by their number, before keys are looked at.
    #[test]
    fn more_than_the_most_validators_are_refused() {
        let many = complaint(|file| {
            let validator = file["validators"][0].clone();
            file["validators"] = Value::Array(vec![validator; VALIDATORS_MAX + 1]);
        });
        assert!(many.contains("2001 validators, at most 2000 are possible"), "{many}");
    }

    #[test]
    fn the_largest_genesis_file_fits_what_is_read() {
        let mut file = FILE.clone();
        let validator = Validator { stake: u64::MAX, ..file.validators[0].clone() };
        file.validators = vec![validator; VALIDATORS_MAX];
        assert!(2 * file.to_json().len() < FILE_BYTES_MAX);
    }

    #[test]
    fn a_missing_or_oversized_file_is_refused_with_the_reason() {
        let error = load(Path::new("/does/not/exist")).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("/does/not/exist") && error.contains("check the path"), "{error}");
        let error = load_bytes(vec![b' '; FILE_BYTES_MAX + 1]).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("longer than"), "{error}");
    }

    #[test]
    fn seeds_are_numbers_or_hexadecimal() {
        assert_eq!(parse_seed(&"0a".repeat(32)), Ok(EpochSeed([10; 32])));
        assert_ne!(parse_seed("1"), parse_seed("2"));
        assert_eq!(parse_seed("1"), parse_seed("01"));
        for text in ["", "-1", "x", "0a0a", "18446744073709551616", &"0g".repeat(32), &"0a".repeat(33)] {
            assert_eq!(parse_seed(text), Err(SeedError), "{text:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_are_taken_or_refused_without_a_panic(bytes: Vec<u8>) {
            prop_assert!(GenesisFile::parse(&bytes).is_err());
        }

        #[test]
        fn a_mutated_file_is_another_cluster_or_refused(
            mutations in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            cut: prop::sample::Index,
        ) {
            let good = FILE.to_json().into_bytes();
            let mut bytes = good.clone();
            for (at, byte) in mutations {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            prop_assert!(GenesisFile::parse(&bytes[..cut.index(bytes.len() - 1)]).is_err());
            if let Ok(genesis) = GenesisFile::parse(&bytes).and_then(|file| file.check(cluster_id(&bytes))) {
                prop_assert_eq!(bytes == good, genesis.cluster == cluster_id(&good));
                let _ = (genesis.leader_schedule(), genesis.relay_sampler());
            }
        }
    }
}
