//! Listens to the nodes of a run until it is over, and ends them.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use alpenglow_rotor::types::{Slot, ValidatorIndex};
use serde::Serialize;

use super::ClusterError;
use super::decisions::Decisions;
use super::display::Display;
use super::folder::RunFolder;
use super::plan::{NodeAtSlot, Plan};
use super::ports::PortRange;
use super::processes::{Heard, LOOK_AGAIN, Life, Processes, Said};
use super::start::{Started, nonsense};
use crate::new_cluster::NewCluster;
use crate::report::{NodeEvent, ProcessUsage};

/// Added to the deadline for each leader window with a skipped slot: its timeouts.
const SKIPPED_WINDOW: Duration = Duration::from_secs(3);
/// Added to the deadline once.
const SLACK: Duration = Duration::from_secs(10);
/// How long the nodes may take to apply what they have decided.
const APPLY_WAIT_MAX: Duration = Duration::from_secs(3);
/// How long the nodes may take to stop.
const STOP_WAIT_MAX: Duration = Duration::from_secs(20);

/// A run that is being watched.
pub(super) struct Watch<'a> {
    plan: &'a Plan,
    display: &'a Display,
    cluster: NewCluster,
    processes: Processes,
    /// Said before the run began, and not handled yet.
    early: VecDeque<Heard>,
    decisions: Decisions,
    log: RunLog,
    first_slot: Instant,
    last_decision: Instant,
    /// By node: started, and neither killed nor dead.
    alive: Vec<bool>,
    /// By node: whether its standard output is still open.
    open: Vec<bool>,
    /// Nodes to be started as soon as everything was heard of the process that was killed.
    due: Vec<ValidatorIndex>,
    /// Starts that come at their slots' times.
    by_time: Vec<NodeAtSlot>,
    deaths: Vec<String>,
    /// Held until the end: the ports are the nodes'.
    _ports: PortRange,
}

/// Everything that was seen of a run that is over.
pub(super) struct Seen {
    /// The nodes' files.
    pub(super) cluster: NewCluster,
    /// What the nodes decided.
    pub(super) decisions: Decisions,
    /// The nodes that lived to the end.
    pub(super) survivors: Vec<ValidatorIndex>,
    /// In words, each node that ended otherwise than it was told to.
    pub(super) deaths: Vec<String>,
    /// From the start of the first slot to the last decision.
    pub(super) wall: Duration,
    /// What the nodes used that were not there any more to report: processor time of all, memory of the largest.
    pub(super) without_report: ProcessUsage,
}

impl<'a> Watch<'a> {
    /// Takes over from the start of the nodes.
    ///
    /// # Errors
    /// If the run's log cannot be written.
    pub(super) fn new(
        plan: &'a Plan,
        folder: &RunFolder,
        display: &'a Display,
        started: Started,
    ) -> Result<Self, ClusterError> {
        let Started { cluster, processes, ports, first_slot, early, death } = started;
        let mut decisions = Decisions::new(plan.nodes, Slot(plan.slots));
        for node in (0u16..).take(plan.nodes).map(ValidatorIndex) {
            decisions.leave_after(node, plan.votes_through(node).unwrap_or(Slot::GENESIS));
        }
        Ok(Self {
            plan,
            display,
            cluster,
            processes,
            early: early.into(),
            decisions,
            log: RunLog { file: BufWriter::new(folder.create_log()?), begun: Instant::now(), failed: false },
            first_slot,
            last_decision: first_slot,
            // After a start that failed nobody is asked for anything any more: its reason is the only one.
            alive: (0u16..)
                .take(plan.nodes)
                .map(|node| death.is_none() && plan.starts_with_the_run(ValidatorIndex(node)))
                .collect(),
            open: (0u16..).take(plan.nodes).map(|node| plan.starts_with_the_run(ValidatorIndex(node))).collect(),
            due: Vec::new(),
            by_time: plan.starts_by_time().collect(),
            deaths: death.into_iter().collect(),
            _ports: ports,
        })
    }

    /// The next thing that a node says, if one does soon.
    fn hear(&mut self) -> Option<Heard> {
        self.early.pop_front().or_else(|| self.processes.hear(Instant::now() + LOOK_AGAIN))
    }

    /// Until every surviving node has decided every slot and those that came late have voted, the deadline has come, a
    /// node has died, or `interrupted`. Kills whom the plan wants killed, and starts whom it wants started.
    pub(super) fn until_decided(&mut self, interrupted: &AtomicBool) {
        while !interrupted.load(Ordering::Relaxed) && self.deaths.is_empty() {
            let deadline = self.first_slot + deadline(self.plan, self.decisions.skipped_windows());
            if Instant::now() >= deadline {
                self.display.note(&format!("deadline after {:.1} s", (deadline - self.first_slot).as_secs_f64()));
                return;
            }
            if let Some(heard) = self.hear()
                && let Some(slot) = self.handle(heard)
            {
                self.kill_at(slot);
                self.due.extend(self.plan.starts_by_slot(slot));
            }
            self.start_by_time();
            self.start_due();
            if !self.due.is_empty() || !self.by_time.is_empty() {
                continue;
            }
            let survivors = self.survivors();
            if self.decisions.all_decided(&survivors) && self.decisions.never_voted(&survivors).next().is_none() {
                return;
            }
        }
    }

    /// Until every surviving node has applied the blocks it has decided on, or will not.
    pub(super) fn until_applied(&mut self) {
        let deadline = Instant::now() + APPLY_WAIT_MAX;
        while self.deaths.is_empty() && Instant::now() < deadline && !self.decisions.all_applied(&self.survivors()) {
            if let Some(heard) = self.hear() {
                self.handle(heard);
            }
        }
    }

    /// Asks the nodes to stop and listens until they have.
    pub(super) fn stop_nodes(mut self) -> Seen {
        let survivors = self.survivors();
        self.processes.ask_to_stop();
        let deadline = Instant::now() + STOP_WAIT_MAX;
        while Instant::now() < deadline && (self.open.contains(&true) || !self.processes.all_ended()) {
            if let Some(heard) = self.hear() {
                self.handle(heard);
            }
        }
        for &node in &survivors {
            self.judge_end(node);
        }
        if !self.log.end() {
            self.display.note("the run's log of events is not complete: writing it failed");
        }
        Seen {
            wall: self.last_decision.saturating_duration_since(self.first_slot),
            without_report: self.usage_of_the_dead(),
            cluster: self.cluster,
            decisions: self.decisions,
            survivors,
            deaths: self.deaths,
        }
    }

    fn survivors(&self) -> Vec<ValidatorIndex> {
        (0u16..).zip(&self.alive).filter(|(_, alive)| **alive).map(|(node, _)| ValidatorIndex(node)).collect()
    }

    /// Returns a slot that was decided for the first time.
    fn handle(&mut self, heard: Heard) -> Option<Slot> {
        let node = heard.node;
        match heard.what {
            Said::Event(event) => {
                self.log.write(&LogLine::Event { node: node.0, event: &event });
                return self.handle_event(node, &event);
            }
            Said::Nonsense(line) => self.die(node, nonsense(node, &line)),
            Said::Closed => {
                self.open[node.get()] = false;
                let told = matches!(self.processes.life(node), Life::Killed | Life::Stopping | Life::Ended(_, true));
                if !told {
                    let death = self.processes.describe_death(node);
                    self.die(node, death);
                }
            }
        }
        None
    }

    fn handle_event(&mut self, node: ValidatorIndex, event: &NodeEvent) -> Option<Slot> {
        let first = self.decisions.record(node, event);
        if let NodeEvent::Decided { slot, .. } = *event
            && slot.0 <= self.plan.slots
        {
            self.last_decision = Instant::now();
        }
        let slot = first.filter(|slot| slot.0 <= self.plan.slots)?;
        self.display.decided(slot, &self.decisions);
        Some(slot)
    }

    fn die(&mut self, node: ValidatorIndex, death: String) {
        if std::mem::replace(&mut self.alive[node.get()], false) {
            self.display.note(&death);
            self.deaths.push(death);
        }
    }

    fn kill_at(&mut self, slot: Slot) {
        for kill in self.plan.kills.iter().filter(|kill| kill.slot == slot) {
            if std::mem::replace(&mut self.alive[kill.node.get()], false) {
                self.processes.kill(kill.node);
                self.log.write(&LogLine::Killed { killed: kill.node.0, highest: self.decisions.highest().0 });
                self.display.note(&format!("killed node {} at slot {slot}", kill.node.0));
            }
        }
    }

    fn start_by_time(&mut self) {
        let since = Instant::now().saturating_duration_since(self.first_slot);
        let begun = since.as_nanos() / self.plan.block_time.as_nanos().max(1);
        let is_due = |start: &mut NodeAtSlot| u128::from(start.slot.0) <= begun;
        let due = self.by_time.extract_if(.., is_due).map(|start| start.node);
        self.due.extend(due.collect::<Vec<_>>());
    }

    fn start_due(&mut self) {
        while let Some(at) = self.due.iter().position(|node| !self.open[node.get()]) {
            let node = self.due.remove(at);
            let highest = self.decisions.highest();
            match self.processes.life(node) {
                Life::Killed => self.decisions.rejoin(node, highest),
                _ => self.decisions.join(node, highest),
            }
            if let Err(error) = self.processes.start_node(node) {
                self.deaths.push(format!("node {} cannot be started: {error}", node.0));
                return;
            }
            (self.alive[node.get()], self.open[node.get()]) = (true, true);
            self.log.write(&LogLine::Started { started: node.0, highest: highest.0 });
            self.display.note(&format!("started node {} at slot {highest}", node.0));
        }
    }

    /// Whether a node that was asked to stop did so. It counts as a survivor all the same.
    fn judge_end(&mut self, node: ValidatorIndex) {
        let complaint = match self.processes.life(node) {
            Life::Ended(status, true) if status.success() => return,
            Life::Ended(..) | Life::Killed | Life::Awaited => self.processes.describe_death(node),
            Life::Running | Life::Stopping => {
                format!("node {} did not stop within {} s of SIGTERM", node.0, STOP_WAIT_MAX.as_secs())
            }
        };
        self.display.note(&complaint);
        self.deaths.push(complaint);
    }

    fn usage_of_the_dead(&self) -> ProcessUsage {
        let dead = (0u16..).zip(&self.alive).filter(|(_, alive)| !**alive);
        let dead = dead.map(|(node, _)| self.processes.usage(ValidatorIndex(node)));
        let former = (0u16..).take(self.plan.nodes).map(|node| self.processes.former_usage(ValidatorIndex(node)));
        dead.chain(former).fold(ProcessUsage::default(), ProcessUsage::and)
    }
}

/// From the start of the first slot to the time at which every slot shall be decided.
fn deadline(plan: &Plan, skipped_windows: u64) -> Duration {
    let times = |count: u64, duration: Duration| duration.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
    times(plan.slots, plan.block_time) + times(skipped_windows, SKIPPED_WINDOW) + SLACK
}

/// Everything heard and done, in order, a JSON object a line.
struct RunLog {
    file: BufWriter<File>,
    begun: Instant,
    failed: bool,
}

#[derive(Serialize)]
#[serde(untagged)]
enum LogLine<'a> {
    /// A node said this.
    Event { node: u16, event: &'a NodeEvent },
    /// We killed this node, when this was the highest slot that any node had decided.
    Killed { killed: u16, highest: u64 },
    /// We started this node then.
    Started { started: u16, highest: u64 },
}

#[derive(Serialize)]
struct Stamped<'a> {
    /// Since the nodes were ready.
    ms: f64,
    #[serde(flatten)]
    line: &'a LogLine<'a>,
}

impl RunLog {
    fn write(&mut self, line: &LogLine<'_>) {
        let stamped = Stamped { ms: self.begun.elapsed().as_secs_f64() * 1e3, line };
        let text = serde_json::to_string(&stamped).expect("its keys are strings");
        let written = writeln!(self.file, "{text}");
        self.failed |= written.is_err();
    }

    /// Whether everything was written.
    fn end(&mut self) -> bool {
        self.file.flush().is_ok() && !self.failed
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::SystemTime;

    use super::*;
    use crate::cluster::plan::tests::plan;
    use crate::cluster::processes::NodeCommand;
    use crate::report::How;
    use alpenglow_rotor::types::{Hash, Stake};

    const NODES: [ValidatorIndex; 2] = [ValidatorIndex(0), ValidatorIndex(1)];
    const WAIT: &str = "while :; do sleep 0.01; done";

    fn decided(slot: u64) -> String {
        let hash = Some(Hash([slot as u8; 32]));
        format!("echo '{}';", NodeEvent::Decided { slot: Slot(slot), how: How::Fast, hash }.to_line())
    }

    /// A run of two nodes in whose place shells execute `bodies`.
    fn watch_shells(plan: Plan, bodies: [String; 2], first_slot: Instant, then: impl FnOnce(&mut Watch<'_>)) -> Seen {
        watch_shells_after(None, plan, bodies, first_slot, then)
    }

    fn watch_shells_after(
        death: Option<String>,
        plan: Plan,
        bodies: [String; 2],
        first_slot: Instant,
        then: impl FnOnce(&mut Watch<'_>),
    ) -> Seen {
        let folder = tempfile::tempdir().unwrap();
        let run_folder = RunFolder::create(&folder.path().join("run")).unwrap();
        let ready = format!("echo '{}';", NodeEvent::Ready.to_line());
        let shell = |(index, body): (usize, String)| NodeCommand {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), format!("trap 'exit 0' TERM; {ready} {body}").into()],
            log: folder.path().join(format!("{index}.log")),
        };
        let commands: Vec<NodeCommand> = bodies.into_iter().enumerate().map(shell).collect();
        let at_once = |node| plan.starts_with_the_run(node);
        let (mut processes, ports) = (Processes::start(&commands, at_once).unwrap(), PortRange::find(0, 0).unwrap());
        let (mut early, mut waiting) = (Vec::new(), NODES.into_iter().filter(|node| at_once(*node)).count());
        while waiting > 0 {
            let heard = processes.hear(Instant::now() + Duration::from_secs(60)).expect("the shells start");
            waiting -= usize::from(matches!(heard.what, Said::Event(NodeEvent::Ready)));
            early.push(heard);
        }
        let addresses: Vec<SocketAddr> = (1..=2).map(|port| ([127, 0, 0, 1], port).into()).collect();
        let validators = plan.validators(&addresses);
        let cluster = NewCluster::create(run_folder.path(), &plan.parameters(SystemTime::now()), &validators).unwrap();
        let started = Started { cluster, processes, ports, first_slot, early, death };
        let plan = Plan { nodes: 2, ..plan };
        let mut watch = Watch::new(&plan, &run_folder, &Display::Lines, started).unwrap();
        then(&mut watch);
        watch.stop_nodes()
    }

    fn two_slots() -> Plan {
        Plan { slots: 2, block_time: Duration::from_secs(60), ..plan() }
    }

    fn until_decided(watch: &mut Watch<'_>) {
        watch.until_decided(&AtomicBool::new(false));
    }

    #[test]
    fn a_run_is_over_when_all_have_decided_and_late_events_count_until_the_end() {
        let zero = format!("{} {} {WAIT}", decided(2), decided(1));
        let one = format!("last() {{ {} exit 0; }}; trap last TERM; {} {} {WAIT}", decided(3), decided(1), decided(2));
        let seen = watch_shells(two_slots(), [zero, one], Instant::now(), until_decided);
        assert_eq!((seen.survivors, seen.deaths), (NODES.to_vec(), vec![]));
        assert!(seen.decisions.all_decided(&NODES));
        assert_eq!(seen.decisions.highest(), Slot(3));
    }

    #[test]
    fn a_node_that_dies_untold_ends_the_run_and_is_no_survivor() {
        let bodies = [format!("{} {WAIT}", decided(1)), "echo 'out of luck' >&2; exit 7".to_owned()];
        let seen = watch_shells(two_slots(), bodies, Instant::now(), until_decided);
        assert_eq!(seen.survivors, NODES[..1]);
        let [death] = seen.deaths.as_slice() else { panic!("{:?}", seen.deaths) };
        assert!(death.starts_with("node 1 died (exit status: 7)") && death.ends_with("out of luck"), "{death}");
    }

    #[test]
    fn a_node_is_killed_at_its_slot_and_not_before() {
        let plan = Plan { kills: vec![NodeAtSlot { node: NODES[1], slot: Slot(2) }], ..two_slots() };
        let bodies = [format!("{} {} {WAIT}", decided(1), decided(2)), format!("{} {WAIT}", decided(1))];
        let seen = watch_shells(plan, bodies, Instant::now(), until_decided);
        assert_eq!((seen.survivors, seen.deaths), (NODES[..1].to_vec(), vec![]));
        assert!(seen.without_report.rss_mib_max > 0.0, "what the killed node used counts");
    }

    #[test]
    fn a_node_is_started_at_its_slot_and_has_to_decide_what_follows_and_to_vote() {
        let starts = vec![NodeAtSlot { node: NODES[1], slot: Slot(2) }];
        let voted = NodeEvent::Voted { slot: Slot(3) }.to_line();
        let bodies = [
            format!("{} {} {} {WAIT}", decided(1), decided(2), decided(3)),
            format!("{} echo '{voted}'; {WAIT}", decided(3)),
        ];
        let seen = watch_shells(Plan { starts, slots: 3, ..two_slots() }, bodies, Instant::now(), until_decided);
        assert_eq!((seen.survivors, seen.deaths), (NODES.to_vec(), vec![]));
        assert!(seen.decisions.all_decided(&NODES) && seen.decisions.never_voted(&NODES).next().is_none());
    }

    #[test]
    fn a_node_that_was_killed_is_started_again_and_has_to_vote_again() {
        let kills = vec![NodeAtSlot { node: NODES[1], slot: Slot(2) }];
        let starts = vec![NodeAtSlot { node: NODES[1], slot: Slot(4) }];
        let all = |slots: &mut dyn Iterator<Item = u64>| slots.map(decided).collect::<Vec<_>>().join(" ");
        let voted = NodeEvent::Voted { slot: Slot(20) }.to_line();
        let folder = tempfile::tempdir().unwrap();
        let mark = |name: &str| folder.path().join(name).display().to_string();
        let (first, second) = (mark("first"), mark("second"));
        let again = format!("touch {second}; {} echo '{voted}';", all(&mut (12..=20)));
        let bodies = [
            format!(
                "{} while ! test -e {second}; do sleep 0.01; done; {} {WAIT}",
                all(&mut (1..=4)),
                all(&mut (5..=20))
            ),
            format!("{} if test -e {first}; then {again} fi; touch {first}; {WAIT}", decided(1)),
        ];
        let stakes = vec![Stake(9), Stake(1)];
        let plan = Plan { kills, starts, slots: 20, nodes: 2, stakes, ..two_slots() };
        let seen = watch_shells(plan, bodies, Instant::now(), until_decided);
        assert_eq!((seen.survivors, seen.deaths), (NODES.to_vec(), vec![]));
        assert_eq!(seen.decisions.disagreements(), [""; 0]);
        assert!(seen.decisions.all_decided(&NODES) && seen.decisions.never_voted(&NODES).next().is_none());
        assert!(seen.without_report.rss_mib_max > 0.0, "what the killed process used counts");
    }

    #[test]
    fn the_deadline_ends_a_run_that_does_not_get_on() {
        let long_ago = Instant::now().checked_sub(Duration::from_secs(30)).unwrap();
        let plan = Plan { block_time: Duration::from_millis(1), ..two_slots() };
        let seen = watch_shells(plan, [WAIT.to_owned(), WAIT.to_owned()], long_ago, until_decided);
        assert_eq!((seen.survivors, seen.deaths), (NODES.to_vec(), vec![]));
        assert_eq!(seen.decisions.undecided(NODES[0]), [(Slot(1), Slot(2))]);
    }

    #[test]
    fn a_node_that_fails_when_it_is_stopped_is_told() {
        let bodies = [format!("trap 'exit 3' TERM; {} {WAIT}", decided(1)), format!("{} {WAIT}", decided(1))];
        let plan = Plan { slots: 1, ..two_slots() };
        let seen = watch_shells(plan, bodies, Instant::now(), until_decided);
        let [complaint] = seen.deaths.as_slice() else { panic!("{:?}", seen.deaths) };
        assert!(complaint.starts_with("node 0 died (exit status: 3)"), "{complaint}");
        assert_eq!(seen.survivors, NODES);
    }

    #[test]
    fn after_a_start_that_failed_its_reason_is_the_only_one() {
        let bodies = ["exit 1".to_owned(), format!("trap 'exit 3' TERM; {WAIT}")];
        let death = Some("node 0 died".to_owned());
        let seen = watch_shells_after(death, two_slots(), bodies, Instant::now(), until_decided);
        assert_eq!((seen.survivors, seen.deaths), (vec![], vec!["node 0 died".to_owned()]));
    }

    #[test]
    fn a_line_that_is_no_event_ends_the_run() {
        let bodies = [format!("echo surprise; {WAIT}"), WAIT.to_owned()];
        let seen = watch_shells(two_slots(), bodies, Instant::now(), until_decided);
        assert_eq!(seen.deaths, ["node 0 wrote a line that is no event: \"surprise\""]);
    }

    #[test]
    fn an_interrupt_ends_the_watch() {
        let seen = watch_shells(two_slots(), [WAIT.to_owned(), WAIT.to_owned()], Instant::now(), |watch| {
            watch.until_decided(&AtomicBool::new(true));
        });
        assert_eq!(seen.survivors, NODES);
    }

    #[test]
    fn the_deadline_grows_with_skipped_windows() {
        let plan = Plan { slots: 40, block_time: Duration::from_millis(400), ..plan() };
        assert_eq!(deadline(&plan, 0), Duration::from_secs(26));
        assert_eq!(deadline(&plan, 2), Duration::from_secs(32));
    }
}
