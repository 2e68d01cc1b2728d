use std::fs;
use std::sync::LazyLock;
use std::time::UNIX_EPOCH;

use alpenglow_rotor::parameters::Code;
use alpenglow_rotor::schedule::EpochSeed;
use alpenglow_rotor::types::{Slot, Stake, VALIDATORS_MAX};
use clap::ValueEnum;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::parameters::SeedError;
use super::*;
use crate::encoding::Identity;
use crate::epoch_stakes::EpochParameters;

const IDENTITY_SECRETS: [[u8; 32]; 3] = [[1; 32], [2; 32], [3; 32]];

/// A good file of three validators; made once, because proofs of possession take long.
static FILE: LazyLock<GenesisFile> = LazyLock::new(|| {
    let mut file = GenesisFile::new(&ClusterParameters {
        start_time: UNIX_EPOCH + Duration::from_millis(1_764_000_000_123),
        ..ClusterParameters::example()
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
    assert_eq!((genesis.stakes.at(Slot(4)).total(), genesis.validators.stake(ValidatorIndex(0))), (Stake(7), Stake(5)));
    assert_eq!((genesis.schedule_kind, genesis.epochs.seed(Slot(1))), (ScheduleKind::RoundRobin, EpochSeed([7; 32])));
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
fn other_files_are_told_from_a_genesis_file() {
    for other in ["", " ", "[246,1,2]", "[1]", "1", "format = 1", "\u{feff}{}"] {
        let defect = GenesisFile::parse(other.as_bytes()).unwrap_err();
        assert!(matches!(defect, GenesisDefect::NoObject), "{other}: {defect}");
    }
    let syntax = GenesisFile::parse(b" {}").unwrap_err();
    assert!(matches!(syntax, GenesisDefect::Syntax(_)), "{syntax}");
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
    file.validators[0].stake = u64::MAX;
    file.validators = vec![file.validators[0].clone(); VALIDATORS_MAX];
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
