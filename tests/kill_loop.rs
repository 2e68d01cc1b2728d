//! A cluster of real processes under load whose nodes are killed at random instants, or kill themselves right before or
//! after they write down or send something, or in the midst of a write, and start again, some from a disk as a power
//! loss leaves it: nobody ever signs twice, what was voted for was written before, all agree, and all catch up.
//!
//! `ALPENGLOW_KILLS=500 cargo test --test kill_loop` (`just kill-loop`) kills more often. A run prints its seed, which
//! says whom it kills when; `ALPENGLOW_SEED=N` does the same once more. The instants are real ones, so what happens is
//! not quite the same.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up is to panic")]

mod common;
#[path = "kill_loop/kept_blocks.rs"]
mod kept_blocks;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use alpenglow_control::vote::VotePayload;
use alpenglow_control::vote_record::Entry;
use alpenglow_dataplane::datagram::Header;
use alpenglow_rotor::types::{ClusterId, ValidatorIndex};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const NODES: usize = 5;
/// Kills of a run, unless the environment says otherwise.
const KILLS: usize = 50;
/// Longest that anything here waits: far more than it takes on any machine.
const PATIENCE: Duration = Duration::from_secs(150);
/// A transaction leaves each time.
const LOAD_INTERVAL: Duration = Duration::from_millis(10);
/// Where nodes end by themselves, and the most times that one passes there before it does. All but two are passed many
/// times a slot; to renew a reservation takes four steps, a start seven, the first and the last of which change nothing
/// any more.
const POINTS: [(&str, u64); 10] = [
    ("within-start", 7),
    ("before-log", 60),
    ("within-log", 60),
    ("after-log", 60),
    ("before-send", 60),
    ("after-send", 60),
    ("before-reservation", 4),
    ("within-reservation", 20),
    ("after-reservation", 4),
    ("within-held", 60),
];
/// Bytes before the frames of a vote log, and of a frame before its record.
const HEADER_BYTES: usize = 48;
const FRAME_HEAD_BYTES: usize = 12;
/// Where the boot id is in a reservation.
const BOOT_ID: std::ops::Range<usize> = 93..109;
/// After a power loss nobody else loses its power for so long: a node that did may not vote up to its reservation, and
/// if three of five may not, the chain stops.
const SLOTS_BETWEEN_POWER_LOSSES: u64 = 24;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn milliseconds(&mut self, bound: u64) -> Duration {
        Duration::from_millis(self.below(bound))
    }
}

/// A node's process, and what is known of all that it had.
struct Node {
    child: Option<Child>,
    /// Where it is going to kill itself.
    ends_at: Option<&'static str>,
    /// All that was ever in its vote log.
    logged: BTreeSet<VotePayload>,
    /// The highest slots since its start: one that it finalized, and one whose block it voted for.
    finalized: u64,
    voted: u64,
}

struct Cluster {
    folder: TempDir,
    flags: &'static [&'static str],
    nodes: Vec<Node>,
    say: Sender<(usize, Value)>,
    said: Receiver<(usize, Value)>,
    /// What each slot came to, as the first node told it: a hash, or null where it was skipped.
    outcomes: BTreeMap<u64, Value>,
    /// Who signed what, as the certificates tell that nodes wrote down.
    certified: BTreeSet<(u16, VotePayload)>,
    /// What must never happen.
    violations: Vec<String>,
    load: UdpSocket,
    base_port: u16,
    id: ClusterId,
    sent: u64,
    kills: usize,
    /// How many killed themselves at each point.
    ended_at: BTreeMap<&'static str, usize>,
    /// Blocks that were looked for since they were voted for, at each kill.
    voted_blocks: usize,
    power_losses: usize,
    /// No power is lost before this slot.
    power_until: u64,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        (0..NODES).for_each(|node| self.kill(node));
    }
}

impl Cluster {
    /// With all nodes running.
    fn start(flags: &'static [&'static str]) -> Self {
        let (folder, base_port) = (tempfile::tempdir().unwrap(), common::free_ports(NODES as u16));
        let mut command = Command::new(env!("CARGO_BIN_EXE_alpenglow"));
        command.args(["genesis", "--validators", "5", "--block-ms", "150", "--start-in-ms", "500", "--base-port"]);
        command.arg(base_port.to_string()).arg("--out").arg(folder.path().join("cluster"));
        assert!(command.output().unwrap().status.success());
        let id = ClusterId(Sha256::digest(fs::read(folder.path().join("cluster/genesis.json")).unwrap()).into());
        let (say, said) = mpsc::channel();
        let node = || Node { child: None, ends_at: None, logged: BTreeSet::new(), finalized: 0, voted: 0 };
        let mut cluster = Self {
            folder,
            flags,
            nodes: std::iter::repeat_with(node).take(NODES).collect(),
            say,
            said,
            outcomes: BTreeMap::new(),
            certified: BTreeSet::new(),
            violations: Vec::new(),
            load: UdpSocket::bind("127.0.0.1:0").unwrap(),
            base_port,
            id,
            sent: 0,
            kills: 0,
            ended_at: POINTS.map(|(point, _)| (point, 0)).into(),
            voted_blocks: 0,
            power_losses: 0,
            power_until: 0,
        };
        (0..NODES).for_each(|node| cluster.start_node(node, None));
        cluster
    }

    fn path(&self, node: usize, name: &str) -> PathBuf {
        self.folder.path().join(format!("cluster/node-{node}")).join(name)
    }

    /// It ends when it has passed a point so many times.
    fn start_node(&mut self, node: usize, end: Option<(&'static str, u64)>) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_alpenglow"));
        command
            .args(["node", "--debuggable", "--poll", "wait", "--events", "--config"])
            .arg(self.path(node, "node.toml"));
        command.args(self.flags);
        if let Some((point, count)) = end {
            command.arg("--fail-at").arg(format!("{point}:{count}"));
        }
        let log = File::options().create(true).append(true).open(self.path(node, "stderr.log")).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let (output, say) = (BufReader::new(child.stdout.take().unwrap()), self.say.clone());
        thread::spawn(move || {
            // The last line of a process that was killed may be a part of one.
            let events = output.lines().map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok());
            events.for_each(|event| drop(say.send((node, event))));
        });
        let state = &mut self.nodes[node];
        (state.child, state.ends_at, state.finalized, state.voted) = (Some(child), end.map(|(point, _)| point), 0, 0);
    }

    /// Kills it with SIGKILL, if it runs.
    fn kill(&mut self, node: usize) {
        if let Some(mut child) = self.nodes[node].child.take() {
            // Fails if it has killed itself.
            let _ = child.kill();
            child.wait().unwrap();
            self.kills += 1;
            self.read_log(node);
            if !self.flags.contains(&"--block-log-mib") {
                self.look_for_voted_blocks(node);
            }
        }
    }

    /// Makes of the disk of a node that does not run what a power loss may leave of it: a part of what was in the log
    /// when the node started and after that, perhaps zeros in the place of the rest, and another boot id. What was cut
    /// off was said all the same.
    fn lose_power(&mut self, node: usize, random: &mut Random) {
        let (log, reservation) = (self.path(node, "data/vote.log"), self.path(node, "data/reservation"));
        let (Ok(mut bytes), Ok(mut durable)) = (fs::read(&log), fs::read(&reservation)) else { return };
        let length = bytes.len();
        bytes.truncate(HEADER_BYTES + random.below((length - HEADER_BYTES) as u64 + 1) as usize);
        if random.below(3) == 0 {
            bytes.resize(length, 0);
        }
        fs::write(&log, bytes).unwrap();
        durable[BOOT_ID.start] ^= 1;
        let checked = durable.len() - 4;
        let checksum = crc32c::crc32c(&durable[..checked]).to_le_bytes();
        durable[checked..].copy_from_slice(&checksum);
        fs::write(&reservation, durable).unwrap();
        self.power_losses += 1;
        self.power_until = self.highest() + SLOTS_BETWEEN_POWER_LOSSES;
    }

    /// Takes note of those that killed themselves.
    fn bury(&mut self) {
        for node in 0..NODES {
            let Some(child) = &mut self.nodes[node].child else { continue };
            if let Some(status) = child.try_wait().unwrap() {
                let log = fs::read_to_string(self.path(node, "stderr.log")).unwrap();
                let end = log.lines().last().unwrap_or_default();
                assert_eq!(status.signal(), Some(9), "node {node} died of {status}: {end}");
                let point = self.nodes[node].ends_at.expect("nobody else kills it");
                *self.ended_at.get_mut(point).expect("a point of the list") += 1;
                self.kill(node);
            }
        }
    }

    /// Takes note of all that the vote log of a node that does not run says.
    fn read_log(&mut self, node: usize) {
        let Ok(bytes) = fs::read(self.path(node, "data/vote.log")) else { return };
        let records = kept_blocks::records(&bytes, 0);
        for record in records.into_iter().skip(1) {
            match Entry::decode(record, NODES).unwrap() {
                Entry::Vote(payload) => self.take_vote(node, payload),
                Entry::Finalized(certificates) => {
                    for certificate in certificates {
                        let payload = certificate.statement.payload();
                        let signers = (0..NODES as u16).filter(|v| certificate.signers.contains(ValidatorIndex(*v)));
                        self.certified.extend(signers.map(|signer| (signer, payload)));
                    }
                }
                Entry::Window(_) | Entry::Barred(_) => {}
            }
        }
    }

    /// Every block that was voted for must have been written before.
    fn look_for_voted_blocks(&mut self, node: usize) {
        let log = fs::read_to_string(self.path(node, "stderr.log")).unwrap();
        // A disk that stalls, or a machine that does, keeps no node from voting.
        if log.contains("the disk holds up votes") {
            return;
        }
        let kept = kept_blocks::kept_blocks(&self.path(node, "data"));
        for payload in &self.nodes[node].logged {
            if let VotePayload::Notar(block) | VotePayload::NotarFallback(block) = payload {
                self.voted_blocks += 1;
                if !kept.contains(block) {
                    self.violations.push(format!("node {node} voted for {block}, which it has not written"));
                }
            }
        }
    }

    fn take_vote(&mut self, node: usize, payload: VotePayload) {
        let logged = &mut self.nodes[node].logged;
        let conflict = logged.iter().find(|before| exclude(before, &payload) || exclude(&payload, before));
        self.violations.extend(conflict.map(|before| format!("node {node} logged {before:?} and {payload:?}")));
        logged.insert(payload);
    }

    /// Lets time pass, under load, until `is_enough` or for so long.
    fn run_for(&mut self, most: Duration, mut is_enough: impl FnMut(&Self) -> bool) -> bool {
        let deadline = Instant::now() + most;
        loop {
            self.send_transaction();
            let next = (Instant::now() + LOAD_INTERVAL).min(deadline);
            while let Ok((node, event)) = self.said.recv_timeout(next.saturating_duration_since(Instant::now())) {
                self.hear(node, &event);
                if is_enough(self) {
                    return true;
                }
            }
            if Instant::now() >= deadline {
                return false;
            }
        }
    }

    fn send_transaction(&mut self) {
        self.sent += 1;
        let header = Header::of_transaction(self.sent as u8, self.id).encode();
        let datagram = [&header[..], &self.sent.to_le_bytes(), &[7; 200]].concat();
        let to = self.base_port + (self.sent % NODES as u64) as u16;
        // Nobody may listen there just now.
        let _ = self.load.send_to(&datagram, ("127.0.0.1", to));
    }

    fn hear(&mut self, node: usize, event: &Value) {
        let Some(slot) = event["slot"].as_u64() else { return };
        match event["event"].as_str() {
            Some("voted") => self.nodes[node].voted = self.nodes[node].voted.max(slot),
            Some("decided") => {
                let hash = &event["hash"];
                let before = self.outcomes.entry(slot).or_insert_with(|| hash.clone());
                if before != hash {
                    self.violations.push(format!("slot {slot}: {before} and, as node {node} says, {hash}"));
                }
                if !hash.is_null() {
                    self.nodes[node].finalized = self.nodes[node].finalized.max(slot);
                }
            }
            _ => {}
        }
    }

    fn highest(&self) -> u64 {
        self.outcomes.iter().rev().find(|(_, hash)| !hash.is_null()).map_or(0, |(slot, _)| *slot)
    }

    /// Kills and starts until so many died, and some at each point.
    fn kill_until(&mut self, kills: usize, random: &mut Random) {
        let deadline = Instant::now() + PATIENCE.max(Duration::from_secs(10 * kills as u64));
        while self.kills < kills || self.ended_at.values().any(|ended| *ended == 0) {
            assert!(
                Instant::now() < deadline,
                "after {} kills not all points were reached: {:?}",
                self.kills,
                self.ended_at
            );
            let time = random.milliseconds(1_200);
            self.run_for(time, |_| false);
            let count = [1, 1, 1, 1, 1, 2, 3, 3, NODES, 1][random.below(10) as usize];
            let first = random.below(NODES as u64) as usize;
            (first..first + count).for_each(|node| self.kill(node % NODES));
            let time = random.milliseconds(200);
            self.run_for(time, |_| false);
            self.bury();
            let dead = (0..NODES).find(|node| self.nodes[*node].child.is_none());
            if let Some(node) = dead
                && self.highest() >= self.power_until
            {
                self.lose_power(node, random);
            }
            for node in 0..NODES {
                let end = self.an_end(random);
                let is_doomed = random.below(2) == 0;
                if self.nodes[node].child.is_none() {
                    self.start_node(node, is_doomed.then_some(end));
                }
            }
        }
    }

    /// A point that few ended at, and how often it is to be passed. As long as there is one that nobody ended at, not
    /// often: who lives long is killed before.
    fn an_end(&self, random: &mut Random) -> (&'static str, u64) {
        let least = self.ended_at.values().min().copied().unwrap_or_default();
        let points: Vec<_> = POINTS.into_iter().filter(|(point, _)| self.ended_at[point] == least).collect();
        let (point, most) = points[random.below(points.len() as u64) as usize];
        (point, 1 + random.below(if least == 0 { most.min(8) } else { most }))
    }

    /// From now on nobody dies, and all have to finalize and vote again.
    fn assert_all_go_on(&mut self) {
        for node in 0..NODES {
            if self.nodes[node].ends_at.is_some() || self.nodes[node].child.is_none() {
                self.kill(node);
                self.start_node(node, None);
            }
        }
        let target = self.highest() + 24;
        let went_on =
            self.run_for(PATIENCE, |cluster| cluster.nodes.iter().all(|node| node.finalized.min(node.voted) > target));
        let reached: Vec<(u64, u64)> = self.nodes.iter().map(|node| (node.finalized, node.voted)).collect();
        assert!(went_on, "not all finalized and voted past slot {target}: {reached:?}, {:?}", self.violations);
    }

    /// Tells all nodes to stop, and looks at what they leave.
    fn stop(&mut self) {
        for node in 0..NODES {
            let mut child = self.nodes[node].child.take().unwrap();
            kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
            let status = child.wait().unwrap();
            assert!(status.success(), "node {node} ended with {status}");
            self.read_log(node);
        }
        while let Ok((node, event)) = self.said.try_recv() {
            self.hear(node, &event);
        }
        for (signer, payload) in std::mem::take(&mut self.certified) {
            if !self.nodes[usize::from(signer)].logged.contains(&payload) {
                self.violations.push(format!("{payload:?} is certified with node {signer}, which never logged it"));
            }
        }
        (0..NODES).for_each(|node| self.take_evidence(node));
    }

    /// What a node has proof of.
    fn take_evidence(&mut self, node: usize) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_alpenglow"));
        let genesis = self.folder.path().join("cluster/genesis.json");
        command
            .args(["evidence", "--output", "json", "--data"])
            .arg(self.path(node, "data"))
            .arg("--genesis")
            .arg(genesis);
        let listed: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
        for proof in listed["proofs"].as_array().unwrap() {
            let what = ["validator", "slot", "kind", "standing"].map(|key| proof[key].to_string()).join(" ");
            self.violations.push(format!("node {node} has proof: validator {what}"));
        }
    }
}

fn exclude(one: &VotePayload, other: &VotePayload) -> bool {
    use VotePayload::{Final, Notar, NotarFallback, Skip, SkipFallback};
    match (one, other) {
        (Notar(one), Notar(other)) => one.slot == other.slot && one != other,
        (Notar(_), Skip(_)) | (Final(_), Skip(_) | SkipFallback(_) | NotarFallback(_)) => one.slot() == other.slot(),
        _ => false,
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[test]
fn nodes_killed_at_any_moment_never_sign_twice_agree_and_catch_up() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let random_seed = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_micros().into();
    let seed = number("ALPENGLOW_SEED").unwrap_or_else(random_seed);
    let kills = number("ALPENGLOW_KILLS").map_or(KILLS, |kills| kills as usize);
    eprintln!("the seed is {seed}; ALPENGLOW_SEED={seed} ALPENGLOW_KILLS={kills} replays it");
    let mut cluster = Cluster::start(&[]);
    assert!(cluster.run_for(PATIENCE, |cluster| cluster.highest() > 0), "nothing was finalized");
    cluster.kill_until(kills, &mut Random(seed));
    cluster.assert_all_go_on();
    cluster.stop();
    eprintln!("by themselves: {:?}", cluster.ended_at);
    eprintln!(
        "{} kills, {} power losses, {} voted blocks found, {} transactions, {} slots up to {}, {} votes logged",
        cluster.kills,
        cluster.power_losses,
        cluster.voted_blocks,
        cluster.sent,
        cluster.outcomes.len(),
        cluster.highest(),
        cluster.nodes.iter().map(|node| node.logged.len()).sum::<usize>()
    );
    let violations = &cluster.violations;
    assert!(
        violations.is_empty(),
        "{} violations, such as {:#?}",
        violations.len(),
        &violations[..violations.len().min(9)]
    );
    assert!(cluster.nodes.iter().all(|node| !node.logged.is_empty()) && cluster.voted_blocks > kills);
}

/// Three of five hold 60% of the stake: when they have forgotten what they signed, and what is final, they finalize
/// another chain.
#[test]
fn without_their_vote_logs_nodes_sign_twice_and_that_is_seen() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut cluster = Cluster::start(&["--no-vote-log", "--block-log-mib", "0"]);
    assert!(cluster.run_for(PATIENCE, |cluster| cluster.highest() > 8), "nothing was finalized");
    [2, 3, 4].iter().for_each(|node| cluster.kill(*node));
    [2, 3, 4].iter().for_each(|node| cluster.start_node(*node, None));
    assert!(cluster.run_for(PATIENCE, |cluster| !cluster.violations.is_empty()), "nobody noticed");
    eprintln!("seen: {}", cluster.violations[0]);
}
