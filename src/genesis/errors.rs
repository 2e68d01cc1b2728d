//! What may be wrong with a genesis file, and what to do about it.

use std::path::PathBuf;

use alpenglow_control::block::SLICE_PAYLOAD_BYTES_MIN;
use alpenglow_control::voting_keys::VotingKeysError;
use alpenglow_rotor::epochs::EpochsError;
use alpenglow_rotor::parameters::ParameterError;
use alpenglow_rotor::validators::ValidatorSetError;

use super::file::FORMAT;
use crate::encoding::Identity;
use crate::files::ReadError;

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
    /// Something else: a key file, perhaps.
    #[error("it is no genesis file, which is a JSON object (does the path lead to another file?)")]
    NoObject,
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
