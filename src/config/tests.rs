use std::fs;

use alpenglow_rotor::types::Stake;
use clap::Parser;
use ed25519_dalek::SigningKey;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

/// Flags as the command line reads them.
#[derive(Debug, Parser)]
struct Flags {
    #[command(flatten)]
    flags: ConfigFlags,
}

fn flags(line: &str) -> Result<ConfigFlags, clap::Error> {
    Flags::try_parse_from(format!("node {line}").split_whitespace()).map(|parsed| parsed.flags)
}

fn address(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// The text of a new config with three peers.
fn text(config: &NewConfig) -> String {
    let [identity, bls_key, genesis, data] = ["identity.json", "bls.json", "../genesis.json", "data"].map(Path::new);
    config.to_toml(identity, bls_key, genesis, data, &[8_000, 8_001, 8_002].map(address))
}

fn default_text() -> String {
    text(&NewConfig::at(address(8_001)))
}

struct Written {
    _folder: TempDir,
    path: PathBuf,
}

fn write(text: impl AsRef<[u8]>) -> Written {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.toml");
    fs::write(&path, text).unwrap();
    Written { _folder: folder, path }
}

fn load_text(text: &str) -> Result<NodeConfig, ConfigError> {
    load(&write(text).path, &ConfigFlags::default())
}

fn complaint(text: &str) -> String {
    load_text(text).expect_err(text).to_string()
}

fn validators(count: u8) -> ValidatorSet {
    let identity = |index| SigningKey::from_bytes(&[index; 32]).verifying_key().to_bytes();
    ValidatorSet::new((0..count).map(|index| (identity(index), Stake(1))).collect()).unwrap()
}

fn with_peers(peers: &str) -> NodeConfig {
    let text = default_text();
    let (head, _) = text.split_once("[peers]").unwrap();
    load_text(&format!("{head}[peers]\n{peers}")).unwrap()
}

#[test]
fn a_new_config_says_every_key_and_is_read_as_it_was_meant() {
    let new = NewConfig {
        bind: "[::1]:9".parse().unwrap(),
        shards: NonZero::new(2).unwrap(),
        cores: CorePolicy::List(vec![4, 0, 7]),
        engine: EnginePolicy::Syscalls,
        poll: PollPolicy::Spin,
        kernel: KernelPolicy::Portable,
        verifiers: NonZero::new(3),
        slice_interval_ms: 25,
        crashed_leader_timer: true,
        slice_memory_mib: 128,
        block_log_mib: 16,
        block_log_slots: 64,
        egress_mbit: 900,
        durability: Durability::Power,
        clients: ClientLimits { of_source_per_s: NonZero::new(70).unwrap(), total_per_s: NonZero::new(700).unwrap() },
        debuggable: true,
        silent_relay: true,
        drop_shreds: true,
        equivocate: true,
        flood_per_s: 5,
    };
    let text = text(&new);
    for key in KEYS {
        let key = key.rsplit('.').next().unwrap();
        assert!(text.contains(&format!("\n{key} = ")) || text.contains(&format!("\n[{key}]")), "{key}");
    }
    let written = write(text);
    let config = load(&written.path, &ConfigFlags::default()).unwrap();
    let folder = written.path.parent().unwrap();
    assert_eq!(config.identity, folder.join("identity.json"));
    assert_eq!(config.bls_key, folder.join("bls.json"));
    assert_eq!(config.genesis, folder.join("../genesis.json"));
    assert_eq!(config.data, folder.join("data"));
    assert_eq!((config.bind, config.shards, config.poll), (new.bind, new.shards, new.poll));
    assert_eq!((config.cores, config.verifiers, config.silent_relay), (new.cores, new.verifiers, true));
    assert!(config.drop_shreds && config.equivocate && config.debuggable && config.crashed_leader_timer);
    assert_eq!((config.flood_per_s, config.durability), (NonZero::new(5), Durability::Power));
    assert_eq!((config.engine, config.kernel), (EngineKind::Syscalls, Kernel::Portable));
    assert_eq!((config.slice_interval, config.slice_memory_bytes), (Duration::from_millis(25), 128 << 20));
    assert_eq!((config.egress_mbit, config.clients), (NonZero::new(900), new.clients));
    assert_eq!(config.block_log, Some(Limits { bytes_max: 16 << 20, slots_max: 64 }));
}

#[test]
fn only_files_addresses_and_peers_must_be_given_and_the_rest_has_the_defaults_of_a_new_config() {
    let mut short = String::new();
    for line in default_text().lines() {
        let needed = ["identity =", "bls_key =", "genesis =", "bind =", "[peers]", "0 =", "1 =", "2 ="];
        if needed.iter().any(|start| line.starts_with(start)) {
            short += line;
            short += "\n";
        }
    }
    let written = write(&short);
    let config = load(&written.path, &ConfigFlags::default()).unwrap();
    fs::write(&written.path, default_text()).unwrap();
    assert_eq!(config, load(&written.path, &ConfigFlags::default()).unwrap());
    assert!(complaint("").contains("missing field `identity`"));
}

#[test]
fn flags_override_the_file() {
    let written = write(default_text());
    let line = "--identity a --bls-key b --genesis c --data d --bind 127.0.0.1:7 --shards 2 --cores 3,1,2 --poll wait \
                --engine syscalls --kernel portable --verifiers 5 --slice-interval-ms 50 --slice-memory-mib 32 \
                --crashed-leader-timer --egress-mbit 40 --client-transactions-per-s 7 --durability power \
                --debuggable --silent-relay --drop-shreds --equivocate --flood-per-s 7";
    let config = load(&written.path, &flags(line).unwrap()).unwrap();
    let paths = [&config.identity, &config.bls_key, &config.genesis, &config.data];
    assert_eq!(paths, ["a", "b", "c", "d"].map(Path::new));
    assert_eq!((config.bind, config.shards.get(), config.poll), (address(7), 2, PollPolicy::Wait));
    assert_eq!((config.cores, config.verifiers), (CorePolicy::List(vec![3, 1, 2]), NonZero::new(5)));
    assert_eq!((config.slice_interval, config.slice_memory_bytes), (Duration::from_millis(50), 32 << 20));
    assert_eq!(config.egress_mbit, NonZero::new(40));
    assert_eq!((config.clients.of_source_per_s.get(), config.clients.total_per_s.get()), (7, 20_000));
    assert!(config.silent_relay && config.drop_shreds && config.equivocate && config.debuggable);
    assert!(config.crashed_leader_timer && config.durability == Durability::Power);
    assert_eq!(config.flood_per_s, NonZero::new(7));
    assert_eq!((config.engine, config.kernel), (EngineKind::Syscalls, Kernel::Portable));
    let unset = load(&written.path, &flags("--cores none --verifiers auto").unwrap()).unwrap();
    assert_eq!((unset.cores, unset.verifiers, unset.silent_relay), (CorePolicy::Unpinned, None, false));
    assert!(!unset.drop_shreds && !unset.equivocate && !unset.debuggable && !unset.crashed_leader_timer);
    assert_eq!((unset.engine, unset.kernel, unset.egress_mbit), (EngineKind::IoUring, Kernel::best(), None));
}

#[test]
fn wrong_flags_are_usage_errors() {
    for line in [
        "--shards 0",
        "--shards 65",
        "--shards -1",
        "--cores",
        "--cores 1,1",
        "--cores 5000",
        "--cores all",
        "--poll sometimes",
        "--verifiers 0",
        "--verifiers 257",
        "--slice-interval-ms 0",
        "--slice-memory-mib 1",
        "--bind here",
        "--peers 1",
    ] {
        assert_eq!(flags(line).expect_err(line).exit_code(), 2, "{line}");
    }
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one() {
    let misspelt = |key: &str| complaint(&format!("{key} = 1\n{}", default_text()));
    assert!(misspelt("shard").contains("unknown key `shard`: did you mean `shards`?"));
    assert!(misspelt("slice-interval-ms").contains("did you mean `slice_interval_ms`?"));
    assert!(misspelt("silent_relay").contains("did you mean `testing.silent_relay`?"));
    let far = misspelt("wholly_unlike_all");
    assert!(!far.contains("did you mean") && far.contains("slice_memory_mib"), "{far}");
    let nested = complaint(&default_text().replace("silent_relay", "silent_relays"));
    assert!(nested.contains("`testing.silent_relays`: did you mean `testing.silent_relay`?"), "{nested}");
}

#[test]
fn wrong_values_are_refused_with_what_would_be_right() {
    let with = |from: &str, to: &str| {
        let text = default_text();
        assert!(text.contains(from), "{from}");
        complaint(&text.replace(from, to))
    };
    for (from, to, said) in [
        ("shards = 1", "shards = 0", "`shards` must be between 1 and 64, found 0"),
        ("shards = 1", "shards = -1", "expected u64"),
        ("shards = 1", "shards = 9223372036854775807", "`shards` must be between"),
        ("shards = 1", "shards = \"1\"", "expected u64"),
        ("slice_interval_ms = 10", "slice_interval_ms = 10001", "`slice_interval_ms` must be between 1 and 10000"),
        ("slice_memory_mib = 64", "slice_memory_mib = 1", "`slice_memory_mib` must be between 4 and 65536"),
        ("block_log_mib = 1024", "block_log_mib = 15", "`block_log_mib` must be between 16 and 16777216"),
        ("block_log_slots = 100000", "block_log_slots = 63", "`block_log_slots` must be between 64 and 100000000"),
        ("egress_mbit = 0", "egress_mbit = 1000001", "`egress_mbit` must be between 0 and 1000000"),
        (
            "total_transactions_per_s = 20000",
            "total_transactions_per_s = 0",
            "`total_transactions_per_s` must be between 1 and 10000000",
        ),
        ("cores = \"auto\"", "cores = \"all\"", "expected auto, none, or a list of different core numbers"),
        ("cores = \"auto\"", "cores = [1, 1]", "expected auto, none, or a list of different core numbers"),
        ("cores = \"auto\"", "cores = [-1, 1]", "expected a word in quotation marks, a number, or a list of numbers"),
        ("poll = \"auto\"", "poll = \"often\"", "expected one of `spin`, `wait`, `auto`"),
        ("engine = \"io_uring\"", "engine = \"epoll\"", "expected `io_uring` or `syscalls`"),
        ("kernel = \"auto\"", "kernel = \"mmx\"", "expected one of `auto`, `portable`, `avx2`, `gfni`, `gfni512`"),
        ("verifiers = \"auto\"", "verifiers = 0", "expected auto or a number from 1 to 256"),
        ("bind = \"127.0.0.1:8001\"", "bind = \"127.0.0.1\"", "invalid socket address"),
        ("bind = \"127.0.0.1:8001\"", "bind = \"127.0.0.1:0\"", "`bind` has port 0"),
        ("silent_relay = false", "silent_relay = 0", "expected a boolean"),
        ("0 = \"127.0.0.1:8000\"", "one = \"127.0.0.1:8000\"", "name validators by index"),
        ("0 = \"127.0.0.1:8000\"", "70000 = \"127.0.0.1:8000\"", "name validators by index"),
        ("0 = \"127.0.0.1:8000\"", "1 = \"127.0.0.1:8000\"", "duplicate key"),
        ("[peers]", "[peers", "line"),
    ] {
        let complaint = with(from, to);
        assert!(complaint.contains(said), "{to}: {complaint}");
    }
}

#[test]
fn peers_are_named_by_index_or_identity() {
    let set = validators(3);
    let second = Identity(set.identity(ValidatorIndex(2)).to_bytes());
    let config = with_peers(&format!("0 = \"127.0.0.1:5\"\n{second} = \"127.0.0.1:6\""));
    let expected = [address(5), address(8_001), address(6)];
    assert_eq!(config.addresses(&set, ValidatorIndex(1)).unwrap(), expected);
}

#[test]
fn peers_must_be_the_other_validators_each_where_it_can_be_reached() {
    let set = validators(3);
    let first = Identity(set.identity(ValidatorIndex(0)).to_bytes());
    let stranger = Identity([7; 32]);
    for (peers, said) in [
        ("0 = \"127.0.0.1:5\"".to_owned(), "lacks validator 2;"),
        ("0 = \"127.0.0.1:5\"\n2 = \"127.0.0.1:5\"".to_owned(), "validators 0 and 2 both have the address"),
        ("0 = \"127.0.0.1:5\"\n2 = \"127.0.0.1:8001\"".to_owned(), "validators 1 and 2 both have the address"),
        ("0 = \"127.0.0.1:5\"\n2 = \"127.0.0.1:0\"".to_owned(), "nothing can be sent to 127.0.0.1:0"),
        ("0 = \"127.0.0.1:5\"\n2 = \"0.0.0.0:6\"".to_owned(), "nothing can be sent to 0.0.0.0:6"),
        ("0 = \"127.0.0.1:5\"\n2 = \"[::1]:6\"".to_owned(), "use one address family"),
        ("0 = \"127.0.0.1:5\"\n3 = \"127.0.0.1:6\"".to_owned(), "names 3, who is no validator"),
        (format!("0 = \"127.0.0.1:5\"\n{stranger} = \"127.0.0.1:6\""), "who is no validator"),
        (format!("0 = \"127.0.0.1:5\"\n{first} = \"127.0.0.1:6\""), "names validator 0 twice"),
    ] {
        let complaint = with_peers(&peers).addresses(&set, ValidatorIndex(1)).expect_err(&peers).to_string();
        assert!(complaint.contains(said), "{peers}: {complaint}");
    }
    let many = with_peers("").addresses(&validators(9), ValidatorIndex(1)).unwrap_err().to_string();
    assert!(many.contains("lacks validator 0, 2, 3, 4, 5 and 3 more;"), "{many}");
}

proptest! {
    #[test]
    fn any_bytes_are_taken_or_refused_without_a_panic(bytes: Vec<u8>) {
        let _ = ConfigFile::parse(&bytes, Path::new("")).map(|file| file.check(Path::new("")));
    }

    #[test]
    fn a_mutated_config_is_taken_or_refused_without_a_panic(
        mutations in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut: prop::sample::Index,
    ) {
        let mut bytes = default_text().into_bytes();
        for (at, byte) in mutations {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = ConfigFile::parse(&bytes[..cut.index(bytes.len())], Path::new(""));
        if let Ok(config) = ConfigFile::parse(&bytes, Path::new("")).and_then(|file| file.check(Path::new(""))) {
            let _ = config.addresses(&validators(3), ValidatorIndex(1));
        }
    }
}
