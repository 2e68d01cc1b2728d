//! A node alone that is stopped, killed, or has no room to write, and starts again: it is a cluster of its own, so it
//! goes on if and only if it may vote.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up is to panic")]

mod common;

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::iter;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Longest that anything here waits: far more than it takes on any machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a node that is told to stop may take.
const STOP_MAX: Duration = Duration::from_secs(2);

/// The files of a cluster of one.
struct Alone {
    folder: TempDir,
}

impl Alone {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = common::free_ports(1).to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_alpenglow"));
        command.args(["genesis", "--validators", "1", "--block-ms", "20", "--start-in-ms", "0", "--base-port", &port]);
        assert!(command.arg("--out").arg(folder.path().join("cluster")).output().unwrap().status.success());
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("cluster/node-0").join(name)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("stderr.log")).unwrap_or_default()
    }

    /// Starts the node from a shell that says this first.
    fn start_after(&self, before: &str) -> Node {
        let line = format!("{before} exec \"$0\" node --debuggable --poll wait --events --config \"$1\"");
        let mut command = Command::new("sh");
        command.args(["-c", &line, env!("CARGO_BIN_EXE_alpenglow")]).arg(self.path("node.toml"));
        let log = File::options().create(true).append(true).open(self.path("stderr.log")).unwrap();
        Node::of(command.stderr(log).stdout(Stdio::piped()).spawn().unwrap())
    }

    fn start(&self) -> Node {
        let node = self.start_after("");
        assert_eq!(node.event().unwrap()["event"], "ready", "{}", self.log());
        node
    }

    fn wait_for_log(&self, part: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.log().contains(part) {
            assert!(Instant::now() < deadline, "no {part:?} in {}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn is_final(event: &Value) -> bool {
    event["event"] == "decided" && event["how"] != "skipped"
}

/// A process that is killed when the test is over.
struct Node {
    child: Child,
    events: Receiver<Value>,
}

impl Node {
    fn of(mut child: Child) -> Self {
        let (sender, events) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            let lines = output.lines().map_while(Result::ok);
            lines.for_each(|line| drop(sender.send(serde_json::from_str(&line).unwrap())));
        });
        Self { child, events }
    }

    /// What it says next; `None` when it has ended.
    fn event(&self) -> Option<Value> {
        self.events.recv_timeout(PATIENCE).ok()
    }

    /// Waits until it has finalized a slot from this one on by votes; which one.
    fn wait_for_finalized(&self, from: u64) -> u64 {
        loop {
            let event = self.event().expect("the node ended");
            let slot = event["slot"].as_u64().unwrap_or(0);
            if is_final(&event) && slot >= from {
                return slot;
            }
        }
    }

    /// Watches it for a while, many slots long, in which it must not vote.
    fn assert_silent(&self) {
        let deadline = Instant::now() + Duration::from_millis(800);
        while let Ok(event) = self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            assert_ne!(event["event"], "voted", "it voted");
        }
    }

    /// Tells it to stop, and waits until it has.
    fn stop(mut self) -> (ExitStatus, Duration) {
        let begun = Instant::now();
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        (self.child.wait().unwrap(), begun.elapsed())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Fails if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_data_folder_serves_one_node_at_a_time() {
    let alone = Alone::new();
    let first = alone.start();
    let second = alone.start_after("");
    assert_eq!(second.event(), None, "it started");
    assert!(alone.log().contains("in use by another node (process "), "{}", alone.log());
    drop(first);
    alone.start();
}

#[test]
fn a_node_that_is_killed_goes_on_from_its_vote_log() {
    let alone = Alone::new();
    let mut last = 0;
    for _ in 0..5 {
        let node = alone.start();
        let before = last;
        last = node.wait_for_finalized(last + 8);
        assert!(last > before);
    }
    assert!(!alone.log().contains("does not vote"), "{}", alone.log());
}

#[test]
fn a_node_that_is_told_to_stop_does_so_soon_and_marks_it() {
    let alone = Alone::new();
    let node = alone.start();
    let last = node.wait_for_finalized(8);
    let (status, took) = node.stop();
    assert!(status.success() && took < STOP_MAX, "{status} after {took:?}");
    let reservation = fs::read(alone.path("data/reservation")).unwrap();
    assert_eq!(reservation[reservation.len() - 6..reservation.len() - 4], [1, 0], "clean, not synced");
    alone.start().wait_for_finalized(last + 8);
}

/// Alone it cannot go on: nobody else can skip the slots in which it may have voted.
#[test]
fn a_node_whose_log_is_spoilt_or_gone_says_so_and_does_not_vote_up_to_the_reservation() {
    let alone = Alone::new();
    alone.start().wait_for_finalized(20);
    let log = alone.path("data/vote.log");
    let mut bytes = fs::read(&log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&log, bytes).unwrap();
    alone.start().assert_silent();
    alone.wait_for_log("the vote log is corrupt: this node does not vote up to that slot");
    fs::remove_file(&log).unwrap();
    alone.start().assert_silent();
    alone.wait_for_log("the vote log is missing: this node does not vote up to that slot");
}

#[test]
fn a_node_that_lost_its_data_folder_does_not_vote_until_it_sees_a_finalization_or_is_told_that_it_never_did() {
    let alone = Alone::new();
    fs::remove_dir_all(alone.path("data")).unwrap();
    let node = alone.start();
    node.assert_silent();
    assert!(alone.log().contains("nothing tells how far this node has voted"), "{}", alone.log());
    drop(node);
    let init = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_alpenglow"));
        command.args(["init", "--config"]).arg(alone.path("node.toml")).output().unwrap()
    };
    let refused = init();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("would make it forget its votes"));
    fs::remove_dir_all(alone.path("data")).unwrap();
    assert!(init().status.success());
    alone.start().wait_for_finalized(8);
}

/// Own votes that are nowhere written down are forgotten when the process ends: nothing may have followed from them.
/// How far a node gets decides which entry finds no room first.
#[test]
fn nothing_is_final_by_votes_that_are_not_in_the_vote_log() {
    for blocks in 4..12 {
        let alone = Alone::new();
        let node = alone.start_after(&format!("trap '' XFSZ; ulimit -f {blocks};"));
        alone.wait_for_log("cannot write the vote log");
        thread::sleep(Duration::from_millis(200));
        let last = node.events.try_iter().filter(is_final).last().unwrap();
        drop(node);
        let node = alone.start();
        let decided = |event: &Value| event["event"] == "decided" && event["slot"] == last["slot"];
        let again = iter::from_fn(|| node.event()).take(10_000).find(decided).unwrap();
        assert_eq!(again["hash"], last["hash"], "{last} before, {again} after");
    }
}

/// The limit is one of 4096 bytes for each file: room for some slots.
#[test]
fn a_node_that_cannot_write_its_vote_log_says_nothing_more_and_lives() {
    let alone = Alone::new();
    let mut node = alone.start_after("ulimit -f 8;");
    alone.wait_for_log("cannot write the vote log");
    thread::sleep(Duration::from_millis(500));
    assert_eq!(node.child.try_wait().unwrap(), None, "{}", alone.log());
    let said =
        node.events.try_iter().filter(|event| event["event"] == "voted").filter_map(|event| event["slot"].as_u64());
    let voted = said.max().unwrap();
    drop(node);
    assert!(fs::metadata(alone.path("data/vote.log")).unwrap().len() <= 4_096);
    let node = alone.start();
    node.wait_for_finalized(voted + 8);
    assert!(!alone.log().contains("does not vote"), "a log that was full is whole: {}", alone.log());
}
