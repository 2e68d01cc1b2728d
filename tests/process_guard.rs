//! What a node lets others see of its memory, and what it asks of its surroundings.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up is to panic")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A node that runs and says so.
struct Node(Child);

impl Node {
    fn start(folder: &Path, flags: &[&str]) -> Self {
        Self::start_logging_to(folder, flags, Stdio::inherit())
    }

    fn start_logging_to(folder: &Path, flags: &[&str], log: Stdio) -> Self {
        let config = folder.join("node-0/node.toml");
        let address = format!("127.0.0.1:{}", common::free_ports(1));
        let mut command = Command::new(env!("CARGO_BIN_EXE_alpenglow"));
        command.arg("node").arg("--config").arg(config).args(["--events", "--bind", &address]).args(flags);
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
        assert!(lines.next().unwrap().unwrap().contains("ready"));
        Self(child)
    }

    /// The soft and the hard limit on the size of a core dump.
    fn core_limits(&self) -> [String; 2] {
        let limits = fs::read_to_string(format!("/proc/{}/limits", self.0.id())).unwrap();
        let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap().to_owned();
        let mut columns = line.split_whitespace().map(str::to_owned);
        [columns.next().unwrap(), columns.next().unwrap()]
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // One that has ended cannot be killed.
        let _ = self.0.kill();
        self.0.wait().unwrap();
    }
}

fn cluster_of_one() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_alpenglow"));
    let made = command.args(["genesis", "--validators", "1", "--out"]).arg(folder.path().join("cluster"));
    assert!(made.output().unwrap().status.success());
    folder
}

#[test]
fn a_node_that_holds_keys_leaves_no_core_dump() {
    let folder = cluster_of_one();
    let node = Node::start(&folder.path().join("cluster"), &[]);
    assert_eq!(node.core_limits(), ["0", "0"]);
}

#[test]
fn a_debuggable_node_keeps_the_limits_that_it_was_started_with() {
    let folder = cluster_of_one();
    let node = Node::start(&folder.path().join("cluster"), &["--debuggable"]);
    let own = fs::read_to_string("/proc/self/limits").unwrap();
    let line = own.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    assert_eq!(node.core_limits().to_vec(), line.split_whitespace().take(2).collect::<Vec<_>>());
}

#[test]
fn a_node_whose_log_cannot_be_written_goes_on() {
    let folder = cluster_of_one();
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut node = Node::start_logging_to(&folder.path().join("cluster"), &[], full().into());
    let pid = node.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(node.0.wait().unwrap().code(), Some(0), "it stopped cleanly");
    // What a command has to say on its way out is lost, its exit code is not.
    let mut command = Command::new(env!("CARGO_BIN_EXE_alpenglow"));
    let ended = command.args(["node", "--config", "/does/not/exist"]).stderr(full()).status().unwrap();
    assert_eq!(ended.code(), Some(1));
}

/// What a node says that starts with a lowered limit, and ends.
fn said_below(limit: &str, shards: u8) -> String {
    let folder = cluster_of_one();
    let config = folder.path().join("cluster/node-0/node.toml");
    let line = format!("ulimit {limit} && exec \"$0\" node --shards {shards} --config {}", config.display());
    let ended = Command::new("sh").args(["-c", &line, env!("CARGO_BIN_EXE_alpenglow")]).output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    String::from_utf8_lossy(&ended.stderr).into_owned()
}

#[test]
fn too_little_memory_to_lock_is_refused_with_what_is_needed() {
    for (shards, needed) in [(1, "ulimit -l 512"), (16, "ulimit -l 1016")] {
        let said = said_below("-l 64", shards);
        assert!(said.contains("may lock 64 KiB") && said.contains(needed), "{said}");
    }
}

#[test]
fn too_few_open_files_are_refused_with_the_number_that_is_needed() {
    let said = said_below("-n 30", 1);
    assert!(said.contains("may open 30 files") && said.contains("ulimit -n 40"), "{said}");
}

/// The watch of a run gives nodes 20 s to stop, but not those that have ended.
#[test]
fn a_cluster_whose_nodes_cannot_start_does_not_wait_for_them_to_stop() {
    let folder = tempfile::tempdir().unwrap();
    let line = "ulimit -n 20 && exec \"$0\" cluster --nodes 2 --slots 4 --out \"$1\"";
    let mut command = Command::new("sh");
    command.args(["-c", line, env!("CARGO_BIN_EXE_alpenglow")]).arg(folder.path());
    let begun = Instant::now();
    let ended = command.output().unwrap();
    let took = begun.elapsed();
    assert_eq!(ended.status.code(), Some(1));
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(said.contains("INVALID") && said.contains("may open 20 files"), "{said}");
    assert!(took < Duration::from_secs(20), "it took {took:?}");
}
