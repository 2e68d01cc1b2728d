//! The files that a node reads, each as a function that any bytes may be given to. None may panic, and what is read
//! must mean the same when it is written again. Messages, and the records in logs, are in `alpenglow_tools::fuzzing`.
//!
//! Each of these functions is a fuzz target of the program in `fuzz/`; `tests/fuzzing.rs` gives them mutated seeds with
//! every run of the tests.

use std::net::SocketAddr;
use std::path::Path;

use alpenglow_control::bls::SecretKey;
use alpenglow_rotor::types::{ClusterId, Stake, ValidatorIndex};
use ed25519_dalek::SigningKey;

use crate::config::{self, ConfigFlags, NewConfig};
use crate::epoch_stakes::EpochParameters;
use crate::evidence;
use crate::genesis::{ClusterParameters, GenesisFile, cluster_id};
use crate::keys::{self, AnyKey};
use crate::storage::block_log;
use crate::storage::frames::{End, FRAME_HEAD_BYTES};
use crate::storage::vote_log::{self, Owner};

/// A file that is read: the name of its fuzz target, what takes any bytes for it and says whether they were read or
/// refused, and bytes that are well-formed, for a start.
pub type EntryPoint = (&'static str, fn(&[u8]) -> bool, fn() -> Vec<Vec<u8>>);

/// All of them.
pub const ENTRY_POINTS: [EntryPoint; 9] = [
    ("genesis", genesis, geneses),
    ("config", config, configs),
    ("key_file", key_file, key_files),
    ("evidence_log", evidence_log, evidence_logs),
    ("vote_log", vote_log, vote_logs),
    ("reservation", reservation, reservations),
    ("block_segment", block_segment, block_segments),
    ("block_index", block_index, block_indexes),
    ("block_record", block_record, block_records),
];

const OWNER: Owner = Owner { cluster: ClusterId([7; 32]), identity: [4; 32] };
/// A genesis file's check takes milliseconds for each validator: more validators than the seeds have find nothing new.
const VALIDATORS_MAX: usize = 4;

/// A genesis file.
pub fn genesis(bytes: &[u8]) -> bool {
    let Ok(file) = GenesisFile::parse(bytes) else { return false };
    let again = GenesisFile::parse(file.to_json().as_bytes());
    assert_eq!(again.ok().as_ref(), Some(&file));
    if file.check_new().is_err() || file.validators() > VALIDATORS_MAX {
        return false;
    }
    let Ok(genesis) = file.check(cluster_id(bytes)) else { return false };
    let _ = (genesis.leader_schedule(), genesis.relay_sampler());
    true
}

fn geneses() -> Vec<Vec<u8>> {
    let mut file = GenesisFile::new(&ClusterParameters::example());
    for secret in [[1; 32], [2; 32]] {
        file.add_validator(&SigningKey::from_bytes(&secret), &SecretKey::from_entropy(&secret), Stake(5));
    }
    let without_end = file.to_json();
    file.set_epochs(&EpochParameters { slots: 8, later: vec![(2, vec![Stake(0), Stake(1)])] });
    [without_end, file.to_json()].map(String::into_bytes).to_vec()
}

/// A node's config file.
pub fn config(bytes: &[u8]) -> bool {
    let Ok(config) = config::parse(bytes, Path::new(""), &ConfigFlags::default()) else { return false };
    let validators = (1..=3).map(|secret| (SigningKey::from_bytes(&[secret; 32]).verifying_key().to_bytes(), Stake(1)));
    if let Ok(validators) = alpenglow_rotor::validators::ValidatorSet::new(validators.collect()) {
        let _ = config.addresses(&validators, ValidatorIndex(1)).map_err(|error| error.to_string());
    }
    true
}

fn configs() -> Vec<Vec<u8>> {
    let [identity, bls_key, genesis, data] = ["identity.json", "bls.json", "../genesis.json", "data"].map(Path::new);
    let peers = [8_000, 8_001, 8_002].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    vec![NewConfig::at(peers[1]).to_toml(identity, bls_key, genesis, data, &peers).into_bytes()]
}

/// A file of a secret key of either kind.
pub fn key_file(bytes: &[u8]) -> bool {
    match keys::parse_any(bytes) {
        Ok(AnyKey::Identity(key)) => {
            let again = keys::parse_any(&keys::text(&key.to_keypair_bytes()));
            assert!(matches!(again, Ok(AnyKey::Identity(again)) if again == key));
        }
        Ok(AnyKey::Voting(key)) => {
            let again = keys::parse_any(&keys::text(&*key.to_bytes()));
            assert!(matches!(again, Ok(AnyKey::Voting(again)) if *again.to_bytes() == *key.to_bytes()));
        }
        Err(_) => return false,
    }
    true
}

fn key_files() -> Vec<Vec<u8>> {
    let identity = SigningKey::from_bytes(&[3; 32]).to_keypair_bytes();
    let voting_key = SecretKey::from_entropy(&[3; 32]).to_bytes();
    vec![keys::text(&identity).to_vec(), keys::text(&*voting_key).to_vec()]
}

/// The log of proofs. Its whole records are found where they were written.
pub fn evidence_log(bytes: &[u8]) -> bool {
    let Ok(contents) = evidence::FORMAT.read(bytes) else { return false };
    for record in &contents.records {
        if let Some(record_bytes) = record.bytes {
            let frame = evidence::FORMAT.frame(record_bytes);
            assert_eq!(bytes[record.at as usize..][..FRAME_HEAD_BYTES + record_bytes.len()], frame);
            let _ = evidence::parse(record_bytes);
        }
    }
    contents.end == End::Whole
}

fn evidence_logs() -> Vec<Vec<u8>> {
    let header = evidence::FORMAT.header(OWNER.cluster);
    let record = [&1_764_000_000_000_u64.to_le_bytes()[..], b"no proof"].concat();
    vec![header.clone(), [header, evidence::FORMAT.frame(&record)].concat()]
}

/// The log of votes.
pub fn vote_log(bytes: &[u8]) -> bool {
    vote_log::fuzzing::log(bytes, &OWNER)
}

fn vote_logs() -> Vec<Vec<u8>> {
    vote_log::fuzzing::logs(&OWNER)
}

/// What says how far a node may have voted.
pub fn reservation(bytes: &[u8]) -> bool {
    vote_log::fuzzing::reservation(bytes, &OWNER)
}

fn reservations() -> Vec<Vec<u8>> {
    vote_log::fuzzing::reservations(&OWNER)
}

/// A segment of the block log.
pub fn block_segment(bytes: &[u8]) -> bool {
    block_log::fuzzing::segment(bytes)
}

fn block_segments() -> Vec<Vec<u8>> {
    block_log::fuzzing::segments()
}

/// What the index of a segment says.
pub fn block_index(bytes: &[u8]) -> bool {
    block_log::fuzzing::index(bytes)
}

fn block_indexes() -> Vec<Vec<u8>> {
    block_log::fuzzing::indexes()
}

/// A record of the block log: a block, that one is final, or what they are to be read with.
pub fn block_record(bytes: &[u8]) -> bool {
    block_log::fuzzing::record(bytes)
}

fn block_records() -> Vec<Vec<u8>> {
    block_log::fuzzing::records()
}
