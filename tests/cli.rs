//! The command line as a user meets it: exit codes, and what messages say.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up is to panic")]

use std::fs::{self, Permissions};
use std::io::Write;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use proptest::prelude::*;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// How a run of the program ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ended {
    fn succeeded(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }

    /// It failed, for a reason that names all of `said`.
    fn failed_with(self, said: &[&str]) {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert!(self.stderr.lines().any(|line| line.starts_with("error: ")), "{self:?}");
        for part in said {
            assert!(self.stderr.contains(part), "no {part:?} in {self:?}");
        }
    }
}

fn run(arguments: &[&str]) -> Ended {
    run_with_input(arguments, b"")
}

fn run_with_input(arguments: &[&str], input: &[u8]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_alpenglow"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may end without reading.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap().into()
}

/// The files of a cluster.
struct Cluster {
    folder: TempDir,
}

impl Cluster {
    fn new(flags: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let flags: Vec<&str> = flags.split_whitespace().collect();
        run(&[&["genesis", "--out", folder.path().to_str().unwrap()], flags.as_slice()].concat()).succeeded();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn genesis(&self) -> serde_json::Value {
        serde_json::from_slice(&fs::read(self.path("genesis.json")).unwrap()).unwrap()
    }

    fn submit_to(&self, to: &str, flags: &[&str], input: &[u8]) -> Ended {
        let genesis = self.text("genesis.json");
        run_with_input(&[&["submit", "--genesis", &genesis, "--to", to], flags].concat(), input)
    }
}

fn edit(path: &Path, change: impl FnOnce(String) -> String) {
    let text = fs::read_to_string(path).unwrap();
    fs::write(path, change(text)).unwrap();
}

#[test]
fn help_names_every_subcommand_and_each_teaches_by_example() {
    let help = run(&["--help"]).succeeded();
    for subcommand in ["blocks", "cluster", "evidence", "genesis", "init", "keys", "node", "submit"] {
        assert!(help.contains(&format!("\n  {subcommand} ")), "{subcommand}: {help}");
    }
    for line in [
        "blocks",
        "blocks list",
        "blocks show",
        "blocks verify",
        "blocks export",
        "cluster",
        "evidence",
        "genesis",
        "init",
        "keys",
        "keys new",
        "keys pubkey",
        "node",
        "submit",
    ] {
        let subcommand: Vec<&str> = line.split(' ').collect();
        let help = run(&[subcommand.as_slice(), &["--help"]].concat()).succeeded();
        assert!(help.contains("Example") && help.contains(&format!("  alpenglow {line} ")), "{line}: {help}");
    }
    assert!(run(&["--version"]).succeeded().starts_with("alpenglow "));
}

#[test]
fn wrong_flags_exit_with_2_and_name_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out").to_str().unwrap().to_owned();
    for (line, said) in [
        ("", "Usage"),
        ("nonsense", "nonsense"),
        ("genesis", "--validators"),
        ("genesis --validators 0 --out OUT", "1..=2000"),
        ("genesis --validators 2001 --out OUT", "1..=2000"),
        ("genesis --validators 3 --stakes 1,2 --out OUT", "2 stakes are given for 3 validators"),
        ("genesis --validators 3 --stakes 1,0,1 --out OUT", "a stake above 0"),
        ("genesis --validators 3 --schedule random --out OUT", "round-robin"),
        ("genesis --validators 3 --block-ms 0 --out OUT", "--block-ms"),
        ("genesis --validators 3 --seed xyz --out OUT", "64 hexadecimal digits"),
        ("genesis --validators 3 --base-port 65534 --out OUT", "65536"),
        ("genesis --validators 3 --base-port 65534 --out OUT", "Usage: alpenglow genesis"),
        ("genesis --validators 3 --host somewhere --out OUT", "--host"),
        ("genesis --validators 3 --host 10.0.0.1,10.0.0.2 --out OUT", "one for all, or one for each"),
        ("genesis --validators 2 --host 10.0.0.1,::1 --out OUT", "one address family"),
        ("genesis --validators 2 --host 0.0.0.0 --out OUT", "nothing can be sent to 0.0.0.0"),
        ("keys", "Usage"),
        ("cluster --nodes 0", "2..=2000"),
        ("cluster --start 9@5", "there is no node 9, the nodes are 0 to 4\n\nUsage: alpenglow cluster"),
        ("blocks list --data x --from 5 --through 3", "--from is above --through"),
        ("keys new", "--out"),
        ("keys pubkey", "<FILE>"),
        ("node", "--config"),
        ("node --config x --shards 0", "1..=64"),
        ("node --config x --cores 1,1", "different core numbers"),
        ("node --config x --poll often", "spin"),
        ("node --config x --bind 127.0.0.1", "as in 127.0.0.1:8000"),
        ("node --config x --bind 127.0.0.1:0", "as in 127.0.0.1:8000"),
        ("node --config x --block-log-mib 3", "0 or from 16"),
        ("submit --to 127.0.0.1:1", "--genesis"),
        ("submit --to 127.0.0.1 --genesis x --text a", "expected a host and a port"),
        ("submit --to 127.0.0.1:1 --genesis x --text a --hex 00", "cannot be used with"),
        ("submit --to 127.0.0.1:1 --genesis x --hex 0", "even number"),
    ] {
        let arguments: Vec<&str> =
            line.split_whitespace().map(|word| if word == "OUT" { &out } else { word }).collect();
        let ended = run(&arguments);
        assert_eq!(ended.code, Some(2), "{line}: {ended:?}");
        assert!(ended.stderr.contains(said), "{line}: {ended:?}");
    }
    assert!(!Path::new(&out).exists());
}

#[test]
fn genesis_names_the_keys_that_it_wrote() {
    let cluster =
        Cluster::new("--validators 3 --stakes 5,1,2 --schedule round-robin --seed 7 --block-ms 200 --base-port 9000");
    let genesis = cluster.genesis();
    assert_eq!((&genesis["delta_block_ms"], &genesis["delta_timeout_ms"]), (&200.into(), &600.into()));
    assert_eq!(genesis["leader_schedule"], "round-robin");
    for (index, stake) in [5, 1, 2].into_iter().enumerate() {
        let public = |name: &str| {
            let path = cluster.path(&format!("node-{index}/{name}"));
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            run(&["keys", "pubkey", path.to_str().unwrap()]).succeeded()
        };
        let validator = &genesis["validators"][index];
        assert_eq!(validator["identity"], public("identity.json").trim_end());
        assert_eq!(validator["voting_key"], public("bls.json").trim_end());
        assert_eq!(validator["stake"], stake);
        let config = fs::read_to_string(cluster.path(&format!("node-{index}/node.toml"))).unwrap();
        assert!(config.contains(&format!("bind = \"127.0.0.1:{}\"", 9_000 + index)), "{config}");
    }
    let same_seed = Cluster::new("--validators 1 --seed 7");
    assert_eq!(same_seed.genesis()["epoch_seed"], genesis["epoch_seed"]);
    let (random, another) = (Cluster::new("--validators 1"), Cluster::new("--validators 1"));
    assert_ne!(random.genesis()["epoch_seed"], another.genesis()["epoch_seed"]);
}

#[test]
fn genesis_prints_the_clusters_id_and_overwrites_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["genesis", "--validators", "2", "--out", folder.path().to_str().unwrap()];
    let printed = run(&arguments).succeeded();
    let file = fs::read(folder.path().join("genesis.json")).unwrap();
    let id: String = Sha256::digest(&file).iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(printed.contains(&id), "{printed}");
    run(&arguments).failed_with(&["genesis.json is there already", "--out"]);
    assert_eq!(fs::read(folder.path().join("genesis.json")).unwrap(), file);
    run(&["genesis", "--validators", "2", "--out", "/proc/nowhere"])
        .failed_with(&["/proc/nowhere", "choose another folder"]);
}

#[test]
fn new_keys_are_the_ones_printed_and_are_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let printed = run(&["keys", "new", "--out", out]).succeeded();
    for (file, label) in [("identity.json", "identity: "), ("bls.json", "voting_key: ")] {
        let public = run(&["keys", "pubkey", &format!("{out}/{file}")]).succeeded();
        assert!(printed.contains(&format!("{label}{public}")), "{printed}");
    }
    run(&["keys", "new", "--out", out]).failed_with(&["identity.json is there already"]);
    fs::remove_file(folder.path().join("identity.json")).unwrap();
    run(&["keys", "new", "--out", out]).failed_with(&["bls.json is there already"]);
    assert!(!folder.path().join("identity.json").exists());
}

/// Half a key would be in the way of another try.
#[test]
fn keys_that_cannot_be_written_leave_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    // No file may have a byte.
    command.args([
        "-c",
        "trap '' XFSZ; ulimit -f 0; exec \"$0\" keys new --out \"$1\"",
        env!("CARGO_BIN_EXE_alpenglow"),
    ]);
    let ended = Ended::from(command.arg(folder.path()).output().unwrap());
    ended.failed_with(&["cannot create the key file", "identity.json"]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// Messages end up in logs and in questions to others.
#[test]
fn a_key_given_in_the_place_of_another_file_is_not_shown() {
    let cluster = Cluster::new("--validators 1");
    for name in ["node-0/identity.json", "node-0/bls.json"] {
        let path = cluster.text(name);
        let secret = fs::read_to_string(&path).unwrap();
        let begin = &secret.trim_start_matches('[')[..12];
        for line in [
            &["node", "--config", &path][..],
            &["init", "--config", &path],
            &["node", "--config", &cluster.text("node-0/node.toml"), "--genesis", &path],
            &["submit", "--to", "127.0.0.1:9", "--text", "hello", "--genesis", &path],
        ] {
            let Ended { code, stdout, stderr } = run(line);
            assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
            assert!(stderr.starts_with("error: ") && stderr.contains(name), "{stderr}");
            assert!(!stderr.contains(begin), "{stderr}");
        }
    }
}

#[test]
fn nodes_that_share_a_host_share_its_cores_and_others_have_theirs() {
    let config = |cluster: &Cluster, index: usize| {
        let text = fs::read_to_string(cluster.path(&format!("node-{index}/node.toml"))).unwrap();
        let table: toml::Table = toml::from_str(&text).unwrap();
        ["bind", "cores", "poll"].map(|key| table[key].as_str().unwrap().to_owned())
    };
    let spread = Cluster::new("--validators 4 --host 10.0.0.1,10.0.0.2,10.0.0.2,10.0.0.3 --base-port 9000");
    let expected = [
        ["10.0.0.1:9000", "auto", "auto"],
        ["10.0.0.2:9000", "none", "wait"],
        ["10.0.0.2:9001", "none", "wait"],
        ["10.0.0.3:9000", "auto", "auto"],
    ];
    assert_eq!([0, 1, 2, 3].map(|index| config(&spread, index)), expected);
    assert_eq!(config(&Cluster::new("--validators 1"), 0), ["127.0.0.1:8000", "auto", "auto"]);
    assert_eq!(config(&Cluster::new("--validators 2"), 1), ["127.0.0.1:8001", "none", "wait"]);
}

/// As when each validator's operator makes its keys, and gives away their public halves only.
#[test]
fn keys_made_elsewhere_take_a_place_in_a_cluster() {
    let (cluster, elsewhere) = (Cluster::new("--validators 2"), tempfile::tempdir().unwrap());
    let printed = run(&["keys", "new", "--out", elsewhere.path().to_str().unwrap()]).succeeded();
    let mut genesis = cluster.genesis();
    for (field, value) in printed.lines().map(|line| line.split_once(": ").unwrap()) {
        assert!(genesis["validators"][1][field].is_string(), "{field}");
        genesis["validators"][1][field] = value.into();
    }
    fs::write(cluster.path("genesis.json"), genesis.to_string()).unwrap();
    for name in ["identity.json", "bls.json"] {
        fs::rename(elsewhere.path().join(name), cluster.path("node-1").join(name)).unwrap();
    }
    let config = cluster.text("node-1/node.toml");
    // Made ready for the cluster that it was.
    fs::remove_dir_all(cluster.path("node-1/data")).unwrap();
    run(&["init", "--config", &config]).succeeded();
    // It gets as far as its address, which is nobody's.
    run(&["node", "--config", &config, "--bind", "192.0.2.1:8000"])
        .failed_with(&["cannot bind UDP address 192.0.2.1:8000", "set `bind` to an address of this host"]);
}

#[test]
fn folders_that_no_node_wrote_into_are_refused() {
    let cluster = Cluster::new("--validators 1");
    for (data, said) in [
        (cluster.text("node-0"), "holds nothing that a node wrote"),
        (cluster.text("nowhere"), "is no folder"),
        (cluster.text("genesis.json"), "is no folder"),
    ] {
        run(&["evidence", "--data", &data]).failed_with(&[&data, said, "give the data folder of a node"]);
    }
    run(&["evidence", "--data", &cluster.text("node-0/data")]).succeeded();
}

#[test]
fn another_nodes_data_folder_is_refused_before_anything_in_it_changes() {
    let cluster = Cluster::new("--validators 2");
    // What is no file of slices, a node removes at its start.
    let spoilt = cluster.path("node-1/data/blocks/00000001.held");
    fs::create_dir(spoilt.parent().unwrap()).unwrap();
    fs::write(&spoilt, [1; 100]).unwrap();
    let (config, data) = (cluster.text("node-0/node.toml"), cluster.text("node-1/data"));
    run(&["node", "--config", &config, "--data", &data]).failed_with(&["reservation is of another identity"]);
    assert_eq!(fs::read(&spoilt).unwrap(), [1; 100]);
}

#[test]
fn a_reader_that_has_read_enough_is_no_failure() {
    let cluster = Cluster::new("--validators 1");
    let data = cluster.text("node-0/data");
    for line in [&["keys", "pubkey", &cluster.text("node-0/identity.json")][..], &["evidence", "--data", &data]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_alpenglow"));
        let ended = Ended::from(command.args(line).stdout(writer).output().unwrap());
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{line:?}");
    }
}

#[test]
fn bad_key_files_are_refused_with_what_to_do() {
    let cluster = Cluster::new("--validators 1");
    let (path, name) = (cluster.path("node-0/identity.json"), cluster.text("node-0/identity.json"));
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    run(&["keys", "pubkey", &name]).failed_with(&["mode 644", &format!("chmod 600 {name}")]);
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    edit(&path, |text| text.replacen(',', ";", 1));
    run(&["keys", "pubkey", &name]).failed_with(&[&name, "line 1", "alpenglow keys new"]);
    fs::remove_file(&path).unwrap();
    run(&["keys", "pubkey", &name]).failed_with(&[&name, "No such file", "alpenglow keys new"]);
    run(&["keys", "pubkey", cluster.folder.path().to_str().unwrap()]).failed_with(&["not a regular file"]);
}

#[test]
fn bad_genesis_files_are_refused_with_what_to_do() {
    let cluster = Cluster::new("--validators 1");
    let submit = || cluster.submit_to("127.0.0.1:9", &["--text", "hello"], b"");
    edit(&cluster.path("genesis.json"), |text| text.replace("\"format\": 1", "\"format\": 9"));
    submit().failed_with(&["genesis.json", "format is 9", "alpenglow genesis"]);
    edit(&cluster.path("genesis.json"), |text| text[..text.len() / 2].to_owned());
    submit().failed_with(&["genesis.json", "EOF", "alpenglow genesis"]);
    fs::remove_file(cluster.path("genesis.json")).unwrap();
    submit().failed_with(&["genesis.json", "No such file", "alpenglow genesis"]);
}

/// Each of these is noticed before the node touches the network.
#[test]
fn a_node_that_cannot_start_says_what_to_do() {
    let cluster = Cluster::new("--validators 2");
    let (other, config) = (Cluster::new("--validators 1"), cluster.text("node-0/node.toml"));
    let node = |flags: &[&str]| run(&[&["node", "--config", &config], flags].concat());
    let changed = |name: &str, from: &str, to: &str, said: &[&str]| {
        let (path, before) = (cluster.path(name), fs::read_to_string(cluster.path(name)).unwrap());
        assert!(before.contains(from), "no {from:?} in {before}");
        fs::write(&path, before.replacen(from, to, 1)).unwrap();
        node(&[]).failed_with(said);
        fs::write(&path, before).unwrap();
    };
    run(&["node", "--config", "/does/not/exist"]).failed_with(&["/does/not/exist", "check the path"]);
    changed(
        "node-0/node.toml",
        "shards = 1",
        "shard = 1",
        &["node.toml", "unknown key `shard`: did you mean `shards`?"],
    );
    changed("node-0/node.toml", "shards = 1", "shards = 0", &["`shards` must be between 1 and 64"]);
    changed("node-0/node.toml", "shards = 1", "shards =", &["line 21", "correct it there"]);
    changed("node-0/node.toml", "\n1 = ", "\n# 1 = ", &["node.toml", "`peers` lacks validator 1"]);
    changed("node-0/node.toml", "../genesis.json", "genesis.json", &["node-0/genesis.json", "check the path"]);
    changed(
        "genesis.json",
        "\"stake\": 1",
        "\"stake\": 0",
        &["genesis.json", "validator 0 has no stake", "alpenglow genesis"],
    );
    changed("genesis.json", "\"validators\"", "\"validator\"", &["unknown field `validator`", "alpenglow genesis"]);
    let proof = cluster.genesis()["validators"][1]["proof_of_possession"].as_str().unwrap().to_owned();
    let another = other.genesis()["validators"][0]["proof_of_possession"].as_str().unwrap().to_owned();
    changed("genesis.json", &proof, &another, &["proof of possession of validator 1", "alpenglow genesis"]);
    let [stranger, neighbour] = [other.text("node-0/identity.json"), cluster.text("node-1/bls.json")];
    node(&["--identity", &stranger]).failed_with(&["is not a validator of this cluster", "`identity`"]);
    node(&["--bls-key", &neighbour]).failed_with(&["the voting key of validator 0 is", "`bls_key`"]);
    fs::set_permissions(cluster.path("node-0/bls.json"), Permissions::from_mode(0o640)).unwrap();
    node(&[]).failed_with(&["mode 640", &format!("chmod 600 {}", cluster.text("node-0/bls.json"))]);
}

#[test]
fn a_submitted_transaction_is_one_datagram_as_documented() {
    let cluster = Cluster::new("--validators 1");
    let validator = UdpSocket::bind("127.0.0.1:0").unwrap();
    validator.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let to = validator.local_addr().unwrap().to_string();
    let file = cluster.path("transaction");
    fs::write(&file, b"from a file").unwrap();
    let id = Sha256::digest(fs::read(cluster.path("genesis.json")).unwrap());
    for (flags, input, transaction) in [
        (&["--text", "hello"][..], &b""[..], &b"hello"[..]),
        (&["--hex", "00FFa5"], b"", b"\x00\xff\xa5"),
        (&["--file", file.to_str().unwrap()], b"", b"from a file"),
        (&[], b"from standard input", b"from standard input"),
        (&[], &[7; 1_024], &[7; 1_024]),
    ] {
        cluster.submit_to(&to, flags, input).succeeded();
        let mut datagram = [0; 2_000];
        let length = validator.recv(&mut datagram).unwrap();
        let (header, body) = datagram[..length].split_at(32);
        assert_eq!(body, transaction);
        assert_eq!((&header[..2], &header[3..8]), (&[1, 4][..], &[0, 255, 255, 0, 0][..]));
        assert_eq!((&header[8..16], &header[16..]), (&id[..8], &[0; 16][..]));
    }
}

#[test]
fn what_is_no_transaction_is_not_sent() {
    let cluster = Cluster::new("--validators 1");
    let submit = |flags: &[&str], input: &[u8]| cluster.submit_to("127.0.0.1:9", flags, input);
    submit(&[], b"").failed_with(&["a transaction has 1 to 1024 bytes"]);
    submit(&["--text", ""], b"").failed_with(&["a transaction has 1 to 1024 bytes"]);
    submit(&[], &[7; 1_025]).failed_with(&["a transaction has 1 to 1024 bytes"]);
    let file = cluster.text("genesis.json");
    fs::write(cluster.path("long"), [7; 1_025]).unwrap();
    submit(&["--file", &cluster.text("long")], b"").failed_with(&["long", "longer than 1024 bytes"]);
    submit(&["--file", &format!("{file}.not")], b"").failed_with(&["genesis.json.not", "No such file"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// 101 is how a panic ends.
    #[test]
    fn mutated_key_files_end_in_an_answer_or_an_error(at: prop::sample::Index, byte: u8) {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().to_str().unwrap();
        run(&["keys", "new", "--out", out]).succeeded();
        for name in ["identity.json", "bls.json"] {
            let path = folder.path().join(name);
            let mut bytes = fs::read(&path).unwrap();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            fs::write(&path, bytes).unwrap();
            let ended = run(&["keys", "pubkey", path.to_str().unwrap()]);
            prop_assert!(matches!(ended.code, Some(0 | 1)), "{:?}", ended);
        }
    }
}
