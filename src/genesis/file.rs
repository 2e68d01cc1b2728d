//! The genesis file as it is written, and its check.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alpenglow_control::bls::{ProofOfPossession, PublicKeyBytes, SecretKey, SignatureBytes};
use alpenglow_control::stakes::Stakes;
use alpenglow_control::voting_keys::VotingKeys;
use alpenglow_rotor::epochs::{EPOCH_SETS_MAX, EPOCH_SLOTS_DEFAULT, Epochs, EpochsError};
use alpenglow_rotor::parameters::{CodingParameters, DATAGRAM_BYTES_DEFAULT};
use alpenglow_rotor::schedule::EpochSeed;
use alpenglow_rotor::types::{ClusterId, Stake, VALIDATORS_MAX};
use alpenglow_rotor::validators::{ValidatorSet, ValidatorSetError};
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use super::parameters::{CodeName, ScheduleName, check_slices};
use super::{ClusterParameters, DATAGRAM_BYTES_MAX, DELTA_BLOCK_MS_MAX, DELTA_TIMEOUT_MS_MAX, Genesis, GenesisDefect};
use crate::encoding::{Hex, Identity};
use crate::epoch_stakes::EpochParameters;

/// The format that this program reads and writes.
pub(super) const FORMAT: u32 = 1;
/// The end of the year 9999. A start time past it is in another unit.
const START_TIME_UNIX_MS_MAX: u64 = 253_402_300_799_999;

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
    pub(super) epoch_slots: Option<u64>,
    pub(super) coding: Coding,
    pub(super) validators: Vec<Validator>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) epochs: Vec<LaterSet>,
}

/// How slices are cut into shreds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Coding {
    pub(super) code: CodeName,
    data_shreds: usize,
    total_shreds: usize,
    shred_bytes: usize,
    datagram_bytes: usize,
}

/// A validator's place in the set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Validator {
    identity: Identity,
    pub(super) stake: u64,
    voting_key: Hex<96>,
    proof_of_possession: Hex<96>,
}

/// The validators that have stake from an epoch on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LaterSet {
    pub(super) first_epoch: u64,
    pub(super) validators: Vec<Member>,
}

/// A validator's stake in a later set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Member {
    pub(super) identity: Identity,
    pub(super) stake: u64,
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
        // An array would be taken for the values in order, and a key file's first byte for the format.
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(GenesisDefect::NoObject);
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

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
