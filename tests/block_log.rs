//! What nodes leave in their block logs, as `alpenglow blocks` shows it.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up is to panic")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use alpenglow_control::block_log::decode_block;
use alpenglow_control::message::decode_certificate;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Longest that anything here waits: far more than it takes on any machine.
const PATIENCE: Duration = Duration::from_secs(120);
const NODES: usize = 5;

fn alpenglow(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_alpenglow")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn blocks(action: &[&str], data: &Path) -> Output {
    alpenglow(&[&["blocks"], action, &["--data", data.to_str().unwrap()]].concat())
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn verify(data: &Path, genesis: &Path) -> (Option<i32>, Value) {
    let output = blocks(&["verify", "--output", "json", "--genesis", genesis.to_str().unwrap()], data);
    (output.status.code(), json(&output))
}

fn bytes(value: &Value) -> Vec<u8> {
    let digits = value.as_str().unwrap().as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// How many places are corrupt, blocks missing, and wrong.
fn lengths(found: &Value) -> [usize; 3] {
    ["corrupt", "missing", "wrong"].map(|key| found[key].as_array().unwrap().len())
}

/// The record of an exported block.
fn record(exported: &Value) -> Vec<u8> {
    let mut record = Vec::new();
    for (slot, hash) in [("slot", "hash"), ("parent_slot", "parent_hash")] {
        record.extend(exported[slot].as_u64().unwrap().to_le_bytes());
        record.extend(bytes(&exported[hash]));
    }
    let slices = exported["slices"].as_array().unwrap();
    record.extend((slices.len() as u16).to_le_bytes());
    for slice in slices {
        record.extend(bytes(&slice["root"]));
        record.extend(slice["leader_stamp_ns"].as_u64().unwrap().to_le_bytes());
        record.extend((bytes(&slice["payload"]).len() as u32).to_le_bytes());
    }
    slices.iter().for_each(|slice| record.extend(bytes(&slice["payload"])));
    record
}

#[test]
fn every_node_of_a_cluster_leaves_a_log_that_verifies_until_a_byte_of_it_is_spoilt() {
    const SLOTS: u64 = 12;
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let run = alpenglow(&[
        "cluster",
        "--nodes",
        "5",
        "--slots",
        &SLOTS.to_string(),
        "--tx-rate",
        "200",
        "--out",
        out.to_str().unwrap(),
    ]);
    assert!(run.status.success(), "{run:?}");
    let genesis = out.join("genesis.json");
    let data: Vec<PathBuf> = (0..5).map(|node| out.join(format!("node-{node}/data"))).collect();
    for data in &data {
        let (code, found) = verify(data, &genesis);
        assert_eq!((code, lengths(&found)), (Some(0), [0, 0, 0]), "{found:#}");
        assert!(found["final_blocks"].as_u64() >= Some(SLOTS / 2) && found["chain_is_whole"] == true, "{found:#}");
        assert!(found["certificates"].as_u64() >= Some(1) && found["signatures_checked"] == true, "{found:#}");
        assert!(found["vote_log_final_slot"].is_u64() && found["last_final_slot"].is_u64(), "{found:#}");
        assert!(found["incomplete_at"].is_null(), "it was stopped cleanly: {found:#}");
    }

    let list = json(&blocks(&["list", "--output", "json"], &data[0]));
    let listed = list["blocks"].as_array().unwrap();
    let exported = blocks(&["export"], &data[0]);
    let lines = String::from_utf8(exported.stdout).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), listed.iter().filter(|block| block["finality"] != "not-final").count());
    for exported in &lines {
        let block = decode_block(&record(exported)).unwrap();
        assert_eq!(block.id.hash.0.to_vec(), bytes(&exported["hash"]));
        for certificate in exported["certificates"].as_array().unwrap() {
            let certificate = decode_certificate(&bytes(certificate), 5).unwrap().0;
            assert_eq!(certificate.statement.slot(), block.id.slot);
        }
    }
    let slot = lines[1]["slot"].to_string();
    let shown = json(&blocks(&["show", &slot, "--output", "json"], &data[0]));
    assert_eq!((&shown[0]["hash"], &shown[0]["parent_hash"]), (&lines[1]["hash"], &lines[0]["hash"]));
    assert_eq!(blocks(&["show", "99999"], &data[0]).status.code(), Some(1));
    assert_eq!(blocks(&["list", "--from", "2", "--through", "1"], &data[0]).status.code(), Some(2));
    assert_eq!(alpenglow(&["blocks", "list"]).status.code(), Some(2));
    for action in [&["list"][..], &["show", "1"], &["verify"], &["export"]] {
        let refused = blocks(action, &out);
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(1) && told.contains("there is no block log in"), "{told}");
    }

    let segment = data[0].join("blocks/00000001.segment");
    let whole = fs::read(&segment).unwrap();
    // What the segment is to be read with, of which the chain has no need, and blocks of which it has.
    let kept: Vec<Frame> = frames(&whole).into_iter().filter(|frame| frame.kind == 1).collect();
    let [half, third] = [2, 3].map(|part| kept[kept.len() / part]).map(|frame| frame.at + frame.bytes / 2);
    for (at, missing) in [(60, 0), (half, 1), (third, 1)] {
        let mut spoilt = whole.clone();
        spoilt[at] ^= 1;
        fs::write(&segment, spoilt).unwrap();
        let (code, found) = verify(&data[0], &genesis);
        assert_eq!((code, lengths(&found)), (Some(missing), [1, missing as usize, 0]), "byte {at}: {found:#}");
        assert_eq!(found["chain_is_whole"], missing == 0);
        assert_eq!(found["corrupt"][0]["loss"], if missing == 0 { "nothing" } else { "unknown" });
        let exported = blocks(&["export"], &data[0]);
        let told = String::from_utf8_lossy(&exported.stderr).into_owned();
        let why = if missing == 0 { "what the blocks of the log are to be read with" } else { "1 final blocks" };
        assert!(exported.status.code() == Some(1) && told.contains(why), "{told}");
        let listed = json(&blocks(&["list", "--output", "json"], &data[0]));
        assert_eq!(
            (listed["corrupt"].as_u64(), listed["missing"].as_array().unwrap().len()),
            (Some(1), missing as usize)
        );
        if let Some(slot) = found["missing"][0]["slot"].as_u64() {
            let refused = blocks(&["show", &slot.to_string()], &data[0]);
            let told = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert!(refused.status.code() == Some(1) && told.contains("is final and not in the log"), "{told}");
        }
    }
    fs::write(&segment, [&[0; 48], &whole[48..]].concat()).unwrap();
    let (code, found) = verify(&data[0], &genesis);
    assert_eq!((code, lengths(&found), &found["chain_is_whole"]), (Some(1), [1, 0, 0], &false.into()), "{found:#}");
    assert_eq!(blocks(&["export"], &data[0]).status.code(), Some(1));
    fs::write(&segment, &whole[..whole.len() - 3]).unwrap();
    let (code, found) = verify(&data[0], &genesis);
    assert!(code == Some(0) && found["incomplete_at"].is_u64(), "{found:#}");
    // The top of the chain, of which no block tells.
    fs::write(&segment, &whole[..kept[3].at - 8]).unwrap();
    let (code, found) = verify(&data[0], &genesis);
    assert!(code == Some(0) && found["vote_log_final_slot"].as_u64() > found["last_final_slot"].as_u64(), "{found:#}");
    let text = String::from_utf8(blocks(&["verify"], &data[0]).stdout).unwrap();
    let first = found["last_final_slot"].as_u64().unwrap() + 1;
    assert!(text.contains(&format!("those from slot {first} on are not in the block log")), "{text}");
    let other = folder.path().join("other");
    let made = alpenglow(&["genesis", "--validators", "5", "--out", other.to_str().unwrap()]);
    assert!(made.status.success(), "{made:?}");
    let refused = blocks(&["verify", "--genesis", other.join("genesis.json").to_str().unwrap()], &data[1]);
    assert!(refused.status.code() == Some(1) && String::from_utf8_lossy(&refused.stderr).contains("is of cluster"));
}

/// Five nodes, each a process of its own.
struct Cluster {
    folder: TempDir,
    nodes: Vec<Option<Child>>,
    /// The last slot that the first node has decided.
    decided: Arc<AtomicU64>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.nodes.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Cluster {
    /// With none of its nodes running.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, out) = (common::free_ports(NODES as u16).to_string(), folder.path().join("cluster"));
        let out = out.to_str().unwrap();
        let timing = ["--block-ms", "50", "--start-in-ms", "500"];
        let made =
            alpenglow(&[&["genesis", "--validators", "5", "--base-port", &port, "--out", out], &timing[..]].concat());
        assert!(made.status.success(), "{made:?}");
        Self { folder, nodes: (0..NODES).map(|_| None).collect(), decided: Arc::default() }
    }

    fn path(&self, node: usize, name: &str) -> PathBuf {
        self.folder.path().join(format!("cluster/node-{node}")).join(name)
    }

    fn log(&self, node: usize) -> String {
        fs::read_to_string(self.path(node, "stderr.log")).unwrap()
    }

    fn start(&mut self, node: usize, flags: &[&str]) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_alpenglow"));
        command.args(["node", "--debuggable", "--poll", "wait", "--events", "--config"]);
        command.arg(self.path(node, "node.toml")).args(flags).stdout(Stdio::piped());
        let log = File::options().create(true).append(true).open(self.path(node, "stderr.log")).unwrap();
        let mut child = command.stderr(log).spawn().unwrap();
        let (output, decided) = (BufReader::new(child.stdout.take().unwrap()), Arc::clone(&self.decided));
        thread::spawn(move || {
            let events = output.lines().map_while(Result::ok).map(|line| serde_json::from_str::<Value>(&line).unwrap());
            for event in events.filter(|event| node == 0 && event["event"] == "decided") {
                decided.fetch_max(event["slot"].as_u64().unwrap(), Ordering::Relaxed);
            }
        });
        self.nodes[node] = Some(child);
    }

    fn stop(&mut self, node: usize) {
        let mut child = self.nodes[node].take().unwrap();
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let status = child.wait().unwrap();
        assert!(status.success(), "node {node} ended with {status}: {}", self.log(node));
    }

    fn verify(&self, node: usize) -> (Option<i32>, Value) {
        verify(&self.path(node, "data"), &self.folder.path().join("cluster/genesis.json"))
    }

    /// The exported final blocks of a node by slot, without their certificates, which every node collects for itself.
    fn exported(&self, node: usize) -> BTreeMap<u64, Value> {
        let exported = blocks(&["export"], &self.path(node, "data"));
        assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
        let lines = String::from_utf8(exported.stdout).unwrap();
        let block = |line: &str| {
            let mut block: Value = serde_json::from_str(line).unwrap();
            block.as_object_mut().unwrap().remove("certificates");
            (block["slot"].as_u64().unwrap(), block)
        };
        lines.lines().map(block).collect()
    }
}

/// A frame of a segment: where it begins, its length, the first byte of its record, and the slot that follows it.
#[derive(Clone, Copy)]
struct Frame {
    at: usize,
    bytes: usize,
    kind: u8,
    slot: u64,
}

fn frames(segment: &[u8]) -> Vec<Frame> {
    // Each has a mark before it.
    let (mut at, mut frames) = (48 + 8, Vec::new());
    while at < segment.len() {
        let length = u32::from_le_bytes(*segment[at..].first_chunk().unwrap()) as usize;
        let record = &segment[at + 12..][..length];
        let slot = u64::from_le_bytes(*record[1..].first_chunk().unwrap());
        frames.push(Frame { at, bytes: 12 + length, kind: record[0], slot });
        at += 12 + length + 8;
    }
    frames
}

/// Spoils one thing in each of five segments in the middle of a log; the slots of the records that are lost by it.
fn spoil(folder: &Path) -> Vec<u64> {
    let mut names: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|extension| extension == "segment"));
    names.sort();
    // That a block is final as an ancestor is said without certificates.
    let middle = |bytes: &[u8], kind: u8, bytes_min: usize| {
        let frames = frames(bytes);
        let matching: Vec<Frame> =
            frames.iter().copied().filter(|frame| frame.kind == kind && frame.bytes > bytes_min).collect();
        matching.get(matching.len() / 2).copied()
    };
    let (block, is_final) = ((1, 0), (2, 60));
    let kinds = [(block, "payload"), (block, "head"), (is_final, "certificates"), (block, "index"), (block, "cut")];
    let mut kinds = kinds.into_iter().peekable();
    let mut lost = Vec::new();
    for path in &names[1..names.len() - 1] {
        let Some(((kind, bytes_min), what)) = kinds.peek().copied() else { break };
        let mut bytes = fs::read(path).unwrap();
        let Some(frame) = middle(&bytes, kind, bytes_min).filter(|_| frames(&bytes).len() > 6) else { continue };
        kinds.next();
        match what {
            "payload" | "certificates" => bytes[frame.at + frame.bytes * 3 / 4] ^= 1,
            "head" => bytes[frame.at + 1] ^= 1,
            "cut" => bytes.truncate(frame.at + frame.bytes / 2),
            _ => {
                let index = path.with_extension("index");
                let mut bytes = fs::read(&index).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                fs::write(index, bytes).unwrap();
            }
        }
        if what != "index" {
            lost.push(frame.slot);
        }
        fs::write(path, bytes).unwrap();
    }
    assert!(kinds.peek().is_none(), "too few segments with enough in them: {names:?}");
    lost
}

/// Cuts the last segment in half, and removes what is written beside it before votes.
fn cut_top(folder: &Path) {
    let mut names: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let has = |path: &PathBuf, extension: &str| path.extension().is_some_and(|found| found == extension);
    let last = names.iter().rfind(|path| has(path, "segment")).unwrap();
    let bytes = fs::read(last).unwrap();
    fs::write(last, &bytes[..bytes.len() / 2]).unwrap();
    names.iter().filter(|path| has(path, "held")).for_each(|path| fs::remove_file(path).unwrap());
}

#[test]
fn a_node_whose_log_is_spoilt_says_so_and_fetches_from_others_what_is_lost() {
    let mut cluster = Cluster::new();
    // A segment holds a sixteenth of the slots that are kept.
    cluster.start(0, &["--block-log-slots", "256"]);
    (1..NODES).for_each(|node| cluster.start(node, &[]));
    let start = Instant::now();
    while cluster.decided.load(Ordering::Relaxed) < 170 {
        assert!(start.elapsed() < PATIENCE, "{}", cluster.log(0));
        thread::sleep(Duration::from_millis(20));
    }
    cluster.stop(0);
    let (code, found) = cluster.verify(0);
    assert_eq!((code, lengths(&found)), (Some(0), [0, 0, 0]), "{found:#}");
    let lost = spoil(&cluster.path(0, "data/blocks"));
    let (code, found) = cluster.verify(0);
    assert!(code == Some(1) && lengths(&found)[1] >= 4, "{found:#}");
    assert_eq!(found["chain_is_whole"], false);
    assert!(!cluster.log(0).contains("corrupt"), "{}", cluster.log(0));

    // Now nothing that is there goes any more.
    cluster.start(0, &[]);
    let start = Instant::now();
    let found = loop {
        let (code, found) = cluster.verify(0);
        if code == Some(0) {
            break found;
        }
        assert!(start.elapsed() < PATIENCE, "{found:#}\n{}", cluster.log(0));
        thread::sleep(Duration::from_millis(200));
    };
    // The spoilt index is made anew; each of the other places is named still.
    assert_eq!(lengths(&found), [4, 0, 0], "{found:#}");
    let healed: Vec<u64> =
        found["corrupt"].as_array().unwrap().iter().filter_map(|place| place["slot"].as_u64()).collect();
    assert_eq!(healed, lost[..3], "{found:#}");
    for place in found["corrupt"].as_array().unwrap() {
        let loss = if place["slot"].is_null() { "nothing" } else { "written-again" };
        assert_eq!(place["loss"], loss, "{found:#}");
    }
    let told = cluster.log(0);
    for part in
        ["a record of the block log is corrupt", "the block log is corrupt: what is lost is fetched from others"]
    {
        assert!(told.contains(part), "{told}");
    }
    assert!(told.contains("final blocks are not in the block log: they are fetched from others"), "{told}");

    // Another one loses the top of its chain, of which none of its blocks tells.
    cluster.stop(1);
    let before = cluster.exported(1);
    cut_top(&cluster.path(1, "data/blocks"));
    assert!(cluster.exported(1).len() < before.len());
    cluster.start(1, &[]);
    let start = Instant::now();
    // What is far below the others' chain is left out at first, and then told to be missing.
    let is_there_again = |list: &Value| {
        let finals = list["blocks"].as_array().unwrap().iter().filter(|block| block["finality"] != "not-final");
        let slots: BTreeSet<u64> = finals.map(|block| block["slot"].as_u64().unwrap()).collect();
        before.keys().all(|slot| slots.contains(slot)) && list["missing"].as_array().unwrap().is_empty()
    };
    while !is_there_again(&json(&blocks(&["list", "--output", "json"], &cluster.path(1, "data")))) {
        assert!(start.elapsed() < PATIENCE, "{}", cluster.log(1));
        thread::sleep(Duration::from_millis(200));
    }

    (0..NODES).for_each(|node| cluster.stop(node));
    assert_eq!((cluster.verify(0).0, cluster.verify(1).0), (Some(0), Some(0)));
    let text = String::from_utf8(blocks(&["verify"], &cluster.path(0, "data")).stdout).unwrap();
    assert!(text.contains("what it said is written again elsewhere") && text.contains("the chain is whole"), "{text}");
    let [own, others] = [0, 1].map(|node| cluster.exported(node));
    for (slot, block) in &own {
        assert!(others.get(slot).is_none_or(|other| other == block), "slot {slot}");
    }
    for slot in &lost {
        assert!(own.contains_key(slot) && others.contains_key(slot), "slot {slot}");
        let show = |node| json(&blocks(&["show", &slot.to_string(), "--output", "json"], &cluster.path(node, "data")));
        let [own, other] = [0, 1].map(show);
        assert_eq!((&own[0]["hash"], &own[0]["slices"]), (&other[0]["hash"], &other[0]["slices"]));
    }
}
