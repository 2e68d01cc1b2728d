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
//! Stakes in `validators` are those of epoch 0; `epochs` lists the sets that follow, each complete: whoever it leaves
//! out is no member until a later set names it. Who becomes a member only then has stake 0 in `validators`. Without
//! `epoch_slots`, an epoch has 18,000 slots if there is a later set, and otherwise epoch 0 has no end.
//!
//! `data_shreds` and `total_shreds` are the paper's gamma and Gamma; `code` is `rs8`, or `leopard16` for more than 255
//! shreds.

mod errors;
mod file;
mod parameters;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use alpenglow_control::bls::SecretKey;
use alpenglow_control::evidence::Authority;
use alpenglow_control::stakes::Stakes;
use alpenglow_control::voting_keys::VotingKeys;
use alpenglow_rotor::epochs::Epochs;
use alpenglow_rotor::parameters::CodingParameters;
use alpenglow_rotor::sampling::RelaySampler;
use alpenglow_rotor::schedule::{LeaderSchedule, ScheduleKind};
use alpenglow_rotor::types::{ClusterId, ValidatorIndex};
use alpenglow_rotor::validators::ValidatorSet;
use ed25519_dalek::SigningKey;
use sha2::{Digest, Sha256};

use crate::files::{self, Access};
use crate::keys;

pub(crate) use self::errors::{GenesisDefect, GenesisError, OwnKeysError};
pub(crate) use self::file::GenesisFile;
pub(crate) use self::parameters::{
    ClusterParameters, CodeName, DATAGRAM_BYTES_MAX, DELTA_BLOCK_MS_MAX, DELTA_TIMEOUT_MS_MAX, ScheduleName,
    check_slices, parse_seed,
};

/// Name of the genesis file in a folder that `alpenglow` writes.
pub(crate) const GENESIS_FILE: &str = "genesis.json";
/// Longest genesis file: as many sets of as many validators as possible take three quarters of it.
const FILE_BYTES_MAX: usize = 24 << 20;

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
