//! Clusters of real processes. They take what processor there is, so they run one at a time; nothing here depends on
//! how fast that is but the time they take.
#![allow(clippy::unwrap_used, reason = "a test may panic, and says where")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use alpenglow_rotor::erasure::Kernel;
use serde_json::Value;
use tempfile::TempDir;

/// Slots past the highest decided one that may have votes of a node on the way when it is killed: those whose blocks
/// could be complete while earlier ones are not decided yet.
const SLOTS_IN_FLIGHT: u64 = 8;
/// Longest that anything here waits: far more than it takes on any machine.
const PATIENCE: Duration = Duration::from_secs(120);

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

fn alpenglow(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_alpenglow"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// A cluster that ran to its end.
struct Run {
    code: Option<i32>,
    report: Value,
    log: Vec<Value>,
    stderr: String,
    folder: TempDir,
}

impl Run {
    /// Runs `alpenglow cluster` with `arguments`.
    fn of(arguments: &str) -> Self {
        let _alone = alone();
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("run");
        let mut command = alpenglow(&["cluster", "--output", "json", "--out"]);
        let Output { status, stdout, stderr } = command.arg(&out).args(arguments.split_whitespace()).output().unwrap();
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        let report = serde_json::from_slice(&stdout).unwrap_or_else(|error| {
            panic!("standard output is not one JSON object ({error}), status {status}\n{stderr}")
        });
        let log = fs::read_to_string(out.join("events.jsonl")).unwrap();
        let log = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        Self { code: status.code(), report, log, stderr, folder }
    }

    fn number(&self, pointer: &str) -> u64 {
        self.report.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("{pointer}: {self}"))
    }

    fn reasons(&self) -> Vec<&str> {
        self.report["reasons"].as_array().unwrap().iter().map(|reason| reason.as_str().unwrap()).collect()
    }

    fn assert_valid(&self) {
        assert_eq!((self.code, self.report["verdict"].as_str()), (Some(0), Some("valid")), "{self}");
        assert!(self.reasons().is_empty() && self.report["agreement"] == true, "{self}");
        assert_eq!(self.number("/slots/decided"), self.number("/config/slots"), "{self}");
    }

    /// The slots that nodes decided in one of the ways `how`.
    fn decided<'a>(&'a self, how: &'a [&str]) -> impl Iterator<Item = u64> + 'a {
        let events = self.log.iter().map(|line| &line["event"]).filter(|event| event["event"] == "decided");
        events
            .filter(move |event| event["how"].as_str().is_some_and(|decided| how.contains(&decided)))
            .map(|event| event["slot"].as_u64().unwrap())
    }

    /// The highest slot that any node had decided when the last node was killed.
    fn highest_at_kill(&self) -> u64 {
        self.log
            .iter()
            .filter_map(|line| line["highest"].as_u64())
            .max()
            .unwrap_or_else(|| panic!("nobody killed: {self}"))
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit {:?}\n{:#}\n{}", self.code, self.report, self.stderr)
    }
}

#[test]
fn five_nodes_decide_every_slot_and_agree() {
    let run = Run::of("--nodes 5 --slots 12 --tx-rate 200");
    run.assert_valid();
    assert_eq!(run.report["schema"], "alpenglow.cluster/1");
    assert!(run.number("/slots/finalized") > 0, "{run}");
    assert!(run.number("/transactions/finalized") > 0, "{run}");
    assert!(run.number("/shreds/from_relays") > 0 && run.number("/shreds/from_leader") > 0, "{run}");
    for stage in [
        "rx_queue",
        "shred_verify",
        "relay",
        "slice_assembly",
        "handoff",
        "encode",
        "slice_dissemination",
        "block_dissemination",
        "block_dissemination_last",
        "notarized",
        "finalized",
        "finalized_last",
        "handover",
        "transaction_finalized",
    ] {
        assert!(run.number(&format!("/stages/{stage}/count")) > 0, "no sample of {stage}: {run}");
    }
    assert!(run.report["resources"]["rss_mib_max"].as_f64().unwrap() > 0.0, "{run}");
}

#[test]
fn every_kernel_of_this_processor_carries_a_cluster() {
    for kernel in Kernel::ALL.into_iter().filter(|kernel| kernel.is_available()) {
        let run = Run::of(&format!("--nodes 5 --slots 4 --kernel {}", kernel.name()));
        run.assert_valid();
        assert_eq!(run.report["config"]["kernel"], kernel.name());
    }
}

#[test]
fn a_kernel_that_this_processor_lacks_is_refused() {
    for kernel in Kernel::ALL.into_iter().filter(|kernel| !kernel.is_available()) {
        let output = alpenglow(&["cluster", "--kernel", kernel.name()]).output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        let expected = format!("this processor cannot run the {} kernel; choose auto", kernel.name());
        assert!(output.status.code() == Some(2) && message.contains(&expected), "{message}");
    }
}

#[test]
fn one_of_five_killed_leaves_a_cluster_that_goes_on() {
    let run = Run::of("--nodes 5 --slots 12 --tx-rate 200 --kill 4@4");
    run.assert_valid();
    assert!(run.highest_at_kill() < 12, "the kill came after the last slot: {run}");
}

#[test]
fn two_of_five_killed_leave_a_cluster_that_finalizes_slowly_and_skips_their_windows() {
    let run = Run::of("--nodes 5 --slots 24 --tx-rate 200 --schedule round-robin --kill 4@4 --kill 3@4");
    run.assert_valid();
    assert!(run.number("/slots/skipped") >= 4, "no window of a dead leader was skipped: {run}");
    let after = run.highest_at_kill() + SLOTS_IN_FLIGHT;
    assert_eq!(run.decided(&["fast"]).filter(|slot| *slot > after).count(), 0, "fast with 60% of the stake: {run}");
    assert!(run.decided(&["slow"]).any(|slot| slot > after), "nothing finalized after the kills: {run}");
}

#[test]
fn three_of_five_killed_stop_the_cluster_without_disagreement() {
    let run = Run::of("--nodes 5 --slots 20 --tx-rate 0 --kill 4@3 --kill 3@3 --kill 2@3");
    assert_eq!((run.code, run.report["verdict"].as_str()), (Some(1), Some("invalid")), "{run}");
    assert_eq!(run.report["agreement"], true, "{run}");
    let reasons = run.reasons();
    assert!(reasons.len() == 1 && reasons[0].starts_with("not decided in time: "), "{run}");
    let after = run.highest_at_kill() + SLOTS_IN_FLIGHT;
    let late = run.decided(&["fast", "slow", "ancestor", "skipped"]).filter(|slot| *slot > after).count();
    assert_eq!(late, 0, "40% of the stake decided slots: {run}");
}

#[test]
fn relays_silent_for_a_fifth_of_the_stake_do_not_hinder_finality() {
    let run = Run::of("--nodes 5 --slots 12 --tx-rate 200 --silent-relay 4");
    run.assert_valid();
    assert!(run.number("/slots/finalized") > 0, "{run}");
}

/// Few shreds, more shreds than usual in larger datagrams, and many in the largest by the second code.
#[test]
fn slices_may_be_cut_differently() {
    for (flags, code, shred_bytes) in [
        ("--data-shreds 16 --total-shreds 32", "rs8", 960),
        ("--total-shreds 96 --datagram-bytes 1472", "rs8", 1_088),
        ("--code leopard16 --total-shreds 320 --datagram-bytes 8972", "leopard16", 8_512),
    ] {
        let run = Run::of(&format!("--nodes 3 --slots 4 --tx-rate 50 {flags}"));
        run.assert_valid();
        assert!(run.number("/slots/finalized") > 0 && run.number("/transactions/finalized") > 0, "{run}");
        assert_eq!(
            (&run.report["config"]["coding"]["code"], run.number("/config/coding/shred_bytes")),
            (&code.into(), shred_bytes)
        );
    }
}

#[test]
fn without_any_relay_nothing_is_finalized() {
    let silent = "--silent-relay 0 --silent-relay 1 --silent-relay 2 --silent-relay 3 --silent-relay 4";
    let run = Run::of(&format!("--nodes 5 --slots 7 --tx-rate 0 {silent}"));
    assert_eq!(run.number("/slots/finalized"), 0, "{run}");
    assert_eq!(run.report["agreement"], true, "{run}");
}

/// In slot 16 node 0 leaves, node 4 comes, and node 1 gets more stake than each of the others.
#[test]
fn members_and_stakes_change_at_the_boundary_of_an_epoch() {
    let epochs = "--epoch-slots 8 --epoch 0:4=0 --epoch 2:0=0,1=2,4=1";
    let run = Run::of(&format!("--nodes 5 --slots 32 --tx-rate 200 --schedule round-robin {epochs}"));
    run.assert_valid();
    assert!(run.decided(&["fast", "slow"]).any(|slot| slot < 16), "{run}");
    assert!(run.decided(&["fast", "slow"]).any(|slot| slot >= 16), "{run}");
    assert_eq!(run.report["config"]["epochs"], serde_json::json!([{"first_epoch": 2, "stakes": [0, 2, 1, 1, 1]}]));
    let no_member = run.report["drops"].get("vote_not_member").or(run.report["drops"].get("certificate_not_member"));
    assert_eq!(no_member, None, "{run}");
}

/// Every block reaches it by repair; in its own windows it leads like any other.
#[test]
fn a_node_that_drops_every_shred_follows_by_repair() {
    let run = Run::of("--nodes 5 --slots 24 --tx-rate 200 --drop-shreds 3");
    run.assert_valid();
    assert!(run.number("/slots/finalized") > 0, "{run}");
    let report = fs::read(run.folder.path().join("run/node-3/data/report.json")).unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    let count = |pointer: &str| report.pointer(pointer).and_then(Value::as_u64).unwrap();
    assert_eq!((count("/shreds/from_relays"), count("/shreds/decoded_slices")), (0, 0), "{report}");
    assert!(count("/repair/blocks") >= 10, "{report}");
    assert!(report["drops"].get("finalized_gap").is_none(), "{report}");
}

/// Valid MACs, and the costliest contents of each kind. What arrives is looked at closely a few times, and then no
/// more. The run would be invalid if a slot of another leader were skipped, or if nothing of a kind were looked at
/// closely.
#[test]
fn a_validator_that_floods_the_others_stops_nobody() {
    let run = Run::of("--nodes 6 --slots 24 --tx-rate 100 --flood 5");
    run.assert_valid();
    let dropped = |reason: &str| run.report["drops"][reason].as_u64().unwrap_or(0);
    for (checked, unchecked) in [("shred_bad_signature", "shred_sender_spent"), ("vote_wrong_signature", "vote_barred")]
    {
        assert!(dropped(checked) > 0, "nothing got as far as {checked}: {run}");
        assert!(dropped(unchecked) > dropped(checked), "{checked} too often: {run}");
    }
    for kind in ["certificate_barred", "repair_answer_not_awaited"] {
        assert!(dropped(kind) > 0, "no {kind}: {run}");
    }
    assert!(run.number("/flood/other_slots") > 0 && run.number("/flood/finalized/count") > 0, "{run}");
    for kind in ["shreds", "votes", "certificates", "repair_requests", "transactions"] {
        assert!(run.number(&format!("/flood/checked/{kind}")) > 0, "{run}");
    }
}

/// All others see both versions of its slices, come to the same end, and keep proofs that hold.
#[test]
fn a_leader_that_signs_two_blocks_is_proven_by_all_others() {
    let run = Run::of("--nodes 6 --slots 12 --tx-rate 0 --schedule round-robin --equivocate 1");
    run.assert_valid();
    let genesis = run.folder.path().join("run/genesis.json");
    for node in [0, 2, 3, 4, 5] {
        let data = run.folder.path().join(format!("run/node-{node}/data"));
        let listing = |file: &Path| {
            let mut command = alpenglow(&["evidence", "--output", "json", "--data"]);
            let output = command.arg(&data).arg("--genesis").arg(file).output().unwrap();
            (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
        };
        let (code, listed) = listing(&genesis);
        assert_eq!(code, Some(0), "node {node}: {listed}, {run}");
        let proofs = listed["proofs"].as_array().unwrap();
        assert!(!proofs.is_empty(), "node {node} has no proof, {run}");
        for proof in proofs {
            assert_eq!((proof["validator"].as_u64(), proof["standing"].as_str()), (Some(1), Some("proven")), "{proof}");
            assert!((4..8).contains(&proof["slot"].as_u64().unwrap()), "{proof}");
        }
        let file = data.join("evidence.log");
        let whole = fs::read(&file).unwrap();
        fs::write(&file, &whole[..whole.len() - 1]).unwrap();
        let (code, listed) = listing(&genesis);
        assert_eq!((code, listed["proofs"].as_array().unwrap().len()), (Some(0), proofs.len() - 1), "a torn tail");
        assert!(listed["incomplete_at"].is_u64(), "{listed}");
        let mut spoilt = whole.clone();
        spoilt[48] ^= 1;
        fs::write(&file, spoilt).unwrap();
        let (code, listed) = listing(&genesis);
        assert_eq!((code, &listed["corrupt_at"][0]), (Some(1), &Value::from(48)), "{listed}");
        fs::remove_file(&file).unwrap();
        assert_eq!(listing(&genesis).0, Some(0), "nothing found is no failure");
    }
}

#[test]
fn a_node_that_joins_late_fetches_what_it_missed_and_votes() {
    let run = Run::of("--nodes 5 --slots 40 --tx-rate 200 --start 4@12");
    run.assert_valid();
    let started = run.log.iter().position(|line| line["started"] == 4).unwrap_or_else(|| panic!("not started: {run}"));
    let highest = run.log[started]["highest"].as_u64().unwrap();
    assert!((12..40).contains(&highest), "{run}");
    assert!(run.log[..started].iter().all(|line| line["node"] != 4), "it spoke before it was started: {run}");
    let of_late = |event: &str, field: &str| -> Vec<u64> {
        let lines = run.log.iter().filter(|line| line["node"] == 4 && line["event"]["event"] == event);
        lines.map(|line| line["event"][field].as_u64().unwrap()).collect()
    };
    assert!(of_late("voted", "slot").iter().any(|slot| *slot > highest), "{run}");
    let (decided, applied) = (of_late("decided", "slot"), of_late("applied", "slot"));
    assert!((1..=40).all(|slot| decided.contains(&slot)), "what was decided before it came is no secret: {decided:?}");
    assert!(applied.is_sorted() && applied.iter().any(|slot| *slot < highest), "nothing was fetched: {applied:?}");
    let report = fs::read(run.folder.path().join("run/node-4/data/report.json")).unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    assert!(report.pointer("/repair/blocks").and_then(Value::as_u64).unwrap() > 0, "{report}");
    assert!(report["drops"].get("finalized_gap").is_none(), "{report}");
}

impl Run {
    /// The highest slot that any node had decided when each of `nodes` was started, and those for whose blocks it voted
    /// from then on.
    fn votes_since_start(&self, node: u64) -> (u64, Vec<u64>) {
        let started = self.log.iter().position(|line| line["started"] == node);
        let started = started.unwrap_or_else(|| panic!("node {node} was not started: {self}"));
        let voted = self.log[started..].iter().filter(|line| line["node"] == node && line["event"]["event"] == "voted");
        let slots = voted.map(|line| line["event"]["slot"].as_u64().unwrap()).collect();
        (self.log[started]["highest"].as_u64().unwrap(), slots)
    }

    /// Nobody has proof that anybody signed twice.
    fn assert_no_evidence(&self) {
        for node in 0..self.number("/config/nodes") {
            let data = self.folder.path().join(format!("run/node-{node}/data"));
            let mut command = alpenglow(&["evidence", "--output", "json", "--data"]);
            let listed: Value = serde_json::from_slice(&command.arg(data).output().unwrap().stdout).unwrap();
            assert_eq!(listed["proofs"], serde_json::json!([]), "node {node}: {self}");
        }
    }
}

#[test]
fn a_node_that_was_killed_starts_again_and_votes() {
    let run = Run::of("--nodes 5 --slots 28 --tx-rate 200 --kill 3@8 --start 3@16");
    run.assert_valid();
    let (highest, voted) = run.votes_since_start(3);
    assert!((16..28).contains(&highest) && voted.iter().any(|slot| *slot > highest), "{voted:?}, {run}");
    run.assert_no_evidence();
}

#[test]
fn three_of_five_killed_stop_the_cluster_until_one_of_them_is_back() {
    let run = Run::of("--nodes 5 --slots 32 --tx-rate 0 --kill 4@4 --kill 3@4 --kill 2@4 --start 2@20");
    run.assert_valid();
    let (highest, voted) = run.votes_since_start(2);
    assert!(highest < 20, "40% of the stake went on: {run}");
    assert!(voted.iter().any(|slot| *slot > highest), "{run}");
    assert!(run.decided(&["slow"]).any(|slot| slot > highest), "nothing final after the start: {run}");
    run.assert_no_evidence();
}

/// The blocks that no process holds any more cannot be recomputed, and the application waits for them.
#[test]
fn all_nodes_killed_at_once_go_on_when_they_are_started_again() {
    let all = |what: &str, slot: u64| (0..5).map(|node| format!("--{what} {node}@{slot} ")).collect::<String>();
    let run = Run::of(&format!("--nodes 5 --slots 32 --tx-rate 0 {} {}", all("kill", 6), all("start", 18)));
    run.assert_valid();
    for node in 0..5 {
        let (highest, voted) = run.votes_since_start(node);
        assert!(highest < 18 && voted.iter().any(|slot| *slot > highest), "node {node}: {run}");
        assert!(run.decided(&["fast", "slow"]).any(|slot| slot > highest), "nothing final after the start: {run}");
    }
    run.assert_no_evidence();
}

#[test]
fn a_folder_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("precious"), "").unwrap();
    let output = alpenglow(&["cluster", "--out"]).arg(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not empty"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn wrong_flags_exit_2_with_a_message() {
    for wrong in [
        "--nodes 0",
        "--nodes 1",
        "--slots 0",
        "--nodes 2001",
        "--tx-size 23",
        "--tx-size 1025",
        "--block-ms 0",
        "--kill 5@1",
        "--kill 1@41",
        "--kill 1",
        "--start 5@1",
        "--start 1@29",
        "--start 1@3 --start 1@4",
        "--start 1@3 --kill 2@3 --kill 2@4",
        "--start 1@3 --kill 1@3",
        "--start 1@3 --start 2@3 --start 3@3",
        "--silent-relay 5",
        "--drop-shreds 5",
        "--equivocate 5",
        "--cores 3-1",
        "--stakes 1,2",
        "--schedule lottery",
        "--code raptor",
        "--data-shreds 0",
        "--data-shreds 64",
        "--total-shreds 256",
        "--code leopard16 --total-shreds 513",
        "--code leopard16 --data-shreds 256 --total-shreds 512",
        "--shred-bytes 897",
        "--shred-bytes 930",
        "--datagram-bytes 1231",
        "--datagram-bytes 8973",
        "--data-shreds 1 --total-shreds 2 --shred-bytes 64",
        "--epoch-slots 10",
        "--epoch 2",
        "--epoch 2:5=1",
        "--epoch 0:1=0",
        "--epoch 2:1=0 --epoch 2:2=0",
        "--output xml",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = alpenglow(&["cluster", "--out"]);
        let output = command.arg(folder.path()).args(wrong.split_whitespace()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{wrong}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{wrong}");
    }
}

/// A process that is killed when the test is over.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Fails if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Files of a cluster of one validator at `port`; the path of its config.
fn cluster_of_one(folder: &Path, port: &str) -> PathBuf {
    let mut command = alpenglow(&["genesis", "--validators", "1", "--base-port", port, "--out"]);
    assert!(command.arg(folder).stdout(Stdio::null()).status().unwrap().success());
    folder.join("node-0/node.toml")
}

/// Starts a node that has to get ready.
fn start_node(config: &Path) -> Killed {
    let mut command = alpenglow(&["node", "--poll", "wait", "--events", "--config"]);
    let mut node = Killed(command.arg(config).stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(node.0.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), r#"{"event":"ready"}"#);
    node
}

/// Starts a node that has to fail; its message.
fn refused_node(config: &Path) -> String {
    let mut command = alpenglow(&["node", "--config"]);
    let mut node = Killed(command.arg(config).stderr(Stdio::piped()).spawn().unwrap());
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = node.0.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < deadline, "the node runs");
        thread::sleep(Duration::from_millis(20));
    };
    let mut stderr = String::new();
    node.0.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{stderr}");
    stderr
}

#[test]
fn the_second_node_on_a_port_is_refused() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let port = common::free_ports(1).to_string();
    let [one, two] = ["one", "two"].map(|name| cluster_of_one(&folder.path().join(name), &port));
    let mut first = start_node(&one);
    let message = refused_node(&two);
    assert!(message.contains(&port), "the message does not name the port: {message}");
    assert!(first.0.try_wait().unwrap().is_none(), "the first node died of it");
}

/// Processes that have `needle` in their arguments.
fn processes_about(needle: &Path) -> usize {
    let needle = needle.to_str().unwrap().as_bytes();
    let about = |entry: &fs::DirEntry| {
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        arguments.windows(needle.len()).any(|window| window == needle)
    };
    fs::read_dir("/proc").unwrap().filter_map(Result::ok).filter(about).count()
}

/// Starts a long cluster in `folder` and waits until it decides slots.
fn start_cluster(folder: &Path) -> Child {
    let mut command = alpenglow(&["cluster", "--slots", "2000", "--out"]);
    let mut child = command.arg(folder.join("run")).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    lines.by_ref().map(Result::unwrap).find(|line| line.starts_with("slot ")).expect("no slot was decided");
    thread::spawn(move || lines.for_each(drop));
    child
}

fn assert_all_end(child: &mut Child, folder: &Path) -> Option<i32> {
    let deadline = Instant::now() + PATIENCE;
    let mut status = None;
    while status.is_none() || processes_about(folder) > 0 {
        assert!(Instant::now() < deadline, "{} processes are left", processes_about(folder));
        thread::sleep(Duration::from_millis(20));
        status = status.or_else(|| child.try_wait().unwrap());
    }
    status.unwrap().code()
}

#[test]
fn nodes_die_with_a_killed_cluster() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let mut child = start_cluster(folder.path());
    assert!(processes_about(folder.path()) >= 6);
    child.kill().unwrap();
    assert_eq!(assert_all_end(&mut child, folder.path()), None);
}

#[test]
fn an_interrupt_stops_the_nodes_and_fails() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let mut child = start_cluster(folder.path());
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
    assert_eq!(assert_all_end(&mut child, folder.path()), Some(1));
}
