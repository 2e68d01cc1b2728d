//! The node processes of a run: started, listened to, killed, stopped. None outlives this process.
#![allow(unsafe_code, reason = "the step between fork and exec that ties a child's life to ours")]

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use alpenglow_rotor::types::ValidatorIndex;
use rustix::process::{Pid, Signal, getpid, getppid, kill_process, set_parent_process_death_signal};

use crate::report::{NodeEvent, ProcessUsage};

/// Events that may wait to be handled; a node that writes more waits in its turn.
const EVENTS_WAITING_MAX: usize = 4_096;
/// Longest line that is read from a node.
const LINE_BYTES_MAX: u64 = 65_536;
/// How much of a dead node's log is quoted.
const LOG_QUOTE_BYTES_MAX: usize = 300;
/// How long a process may take to end after it closed its standard output.
const DEATH_WAIT_MAX: Duration = Duration::from_secs(2);
/// Pause between two looks at something that changes by itself.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How to start one node.
#[derive(Clone, Debug)]
pub(crate) struct NodeCommand {
    /// The program.
    pub(crate) program: PathBuf,
    /// Its arguments.
    pub(crate) arguments: Vec<OsString>,
    /// Where its standard error goes.
    pub(crate) log: PathBuf,
}

/// Something a node said, in the order in which it arrived.
#[derive(Debug)]
pub(crate) struct Heard {
    /// Who.
    pub(crate) node: ValidatorIndex,
    /// What.
    pub(crate) what: Said,
}

/// What a node said.
#[derive(Debug)]
pub(crate) enum Said {
    /// An event.
    Event(NodeEvent),
    /// A line that is no event.
    Nonsense(String),
    /// It closed its standard output: it has ended, or is about to.
    Closed,
}

/// Where a node is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// Not started yet.
    Awaited,
    /// Started, and not told to end.
    Running,
    /// Killed by us.
    Killed,
    /// Told to stop.
    Stopping,
    /// Ended without being killed by us, with this status; true if it had been told to stop.
    Ended(ExitStatus, bool),
}

struct NodeProcess {
    command: NodeCommand,
    /// None before its start.
    child: Option<Child>,
    life: Life,
    usage: ProcessUsage,
    /// What processes used that were killed, and others started in their place.
    former: ProcessUsage,
}

/// All nodes of a run. Those that still run are killed when this is dropped.
pub(crate) struct Processes {
    nodes: Vec<NodeProcess>,
    heard: Receiver<Heard>,
    /// What a listener of another node is given.
    to_heard: SyncSender<Heard>,
}

impl Processes {
    /// Starts a process for each of `commands` whose node is to be there `at_once`; the others wait for
    /// [`Self::start_node`]. The kernel kills them when the calling *thread* ends, so both have to be called from one
    /// that stays for the run, the main thread.
    ///
    /// # Errors
    /// If a process, its log or a thread cannot be had; those started before are killed.
    pub(crate) fn start(commands: &[NodeCommand], at_once: impl Fn(ValidatorIndex) -> bool) -> io::Result<Self> {
        let (to_heard, heard) = mpsc::sync_channel(EVENTS_WAITING_MAX);
        let awaited = |command: &NodeCommand| NodeProcess {
            command: command.clone(),
            child: None,
            life: Life::Awaited,
            usage: ProcessUsage::default(),
            former: ProcessUsage::default(),
        };
        let mut processes = Self { nodes: commands.iter().map(awaited).collect(), heard, to_heard };
        for node in (0u16..).take(commands.len()).map(ValidatorIndex).filter(|node| at_once(*node)) {
            processes.start_node(node)?;
        }
        Ok(processes)
    }

    /// Starts the process of a node that has none, or of one that was killed and of which everything was heard up to
    /// [`Said::Closed`].
    ///
    /// # Errors
    /// If it, its log or a thread cannot be had.
    ///
    /// # Panics
    /// If the node runs.
    pub(crate) fn start_node(&mut self, node: ValidatorIndex) -> io::Result<()> {
        let process = &mut self.nodes[node.get()];
        assert!(matches!(process.life, Life::Awaited | Life::Killed), "a node runs once at a time");
        process.former = process.former.and(std::mem::take(&mut process.usage));
        let mut child = spawn(&process.command)?;
        let output = child.stdout.take().expect("standard output was asked to be a pipe");
        (process.child, process.life) = (Some(child), Life::Running);
        listen(node, output, self.to_heard.clone())
    }

    /// Waits for the next thing that a node says, at most until `deadline`.
    pub(crate) fn hear(&mut self, deadline: Instant) -> Option<Heard> {
        self.heard.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
    }

    /// Kills `node` with SIGKILL.
    pub(crate) fn kill(&mut self, node: ValidatorIndex) {
        let process = &mut self.nodes[node.get()];
        process.take_usage();
        if process.ended().is_none()
            && let Some(child) = &mut process.child
        {
            // It can only fail for a process that was waited for, which `ended` has excluded.
            let _ = child.kill();
            let _ = child.wait();
            process.life = Life::Killed;
        }
    }

    /// Asks every running node to stop, with SIGTERM.
    pub(crate) fn ask_to_stop(&mut self) {
        for process in self.nodes.iter_mut().filter(|process| process.life == Life::Running) {
            process.take_usage();
            if process.ended().is_none()
                && let Some(child) = &process.child
            {
                let id = Pid::from_child(child);
                // It can only fail for a process that was waited for, which `ended` has excluded.
                let _ = kill_process(id, Signal::TERM);
                process.life = Life::Stopping;
            }
        }
    }

    /// The life of `node`, looked up now.
    pub(crate) fn life(&mut self, node: ValidatorIndex) -> Life {
        let process = &mut self.nodes[node.get()];
        process.ended();
        process.life
    }

    /// Whether no node is left that was not killed and has not ended.
    pub(crate) fn all_ended(&mut self) -> bool {
        self.nodes.iter_mut().all(|process| {
            process.ended();
            matches!(process.life, Life::Awaited | Life::Killed | Life::Ended(..))
        })
    }

    /// Memory and processor time of the processes of `node` that were killed, but for the last one.
    pub(crate) fn former_usage(&self, node: ValidatorIndex) -> ProcessUsage {
        self.nodes[node.get()].former
    }

    /// Memory and processor time of `node`, as last seen before it was told to end.
    pub(crate) fn usage(&self, node: ValidatorIndex) -> ProcessUsage {
        self.nodes[node.get()].usage
    }

    /// In words, how `node` ended, after waiting a moment for its end.
    pub(crate) fn describe_death(&mut self, node: ValidatorIndex) -> String {
        let deadline = Instant::now() + DEATH_WAIT_MAX;
        while matches!(self.life(node), Life::Running | Life::Stopping) && Instant::now() < deadline {
            thread::sleep(LOOK_AGAIN);
        }
        let how = match self.life(node) {
            Life::Ended(status, _) => format!("died ({status})"),
            Life::Killed => "was killed".to_owned(),
            Life::Running | Life::Stopping => "closed its standard output".to_owned(),
            Life::Awaited => "was never started".to_owned(),
        };
        let log = &self.nodes[node.get()].command.log;
        format!("node {} {how}; its log {} ends: {}", node.0, log.display(), log_end(log))
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for process in &mut self.nodes {
            if matches!(process.life, Life::Running | Life::Stopping)
                && let Some(child) = &mut process.child
            {
                // Fails only if it has ended by itself.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

impl NodeProcess {
    fn take_usage(&mut self) {
        if let Some(usage) = self.child.as_ref().and_then(|child| ProcessUsage::of(child.id())) {
            self.usage = usage;
        }
    }

    /// Notes if the process has ended by itself.
    fn ended(&mut self) -> Option<ExitStatus> {
        match self.life {
            Life::Awaited | Life::Killed => None,
            Life::Ended(status, _) => Some(status),
            Life::Running | Life::Stopping => {
                let status = self.child.as_mut()?.try_wait().ok().flatten()?;
                self.life = Life::Ended(status, self.life == Life::Stopping);
                Some(status)
            }
        }
    }
}

fn spawn(node: &NodeCommand) -> io::Result<Child> {
    let mut command = Command::new(&node.program);
    command.args(&node.arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    command.stderr(OpenOptions::new().create(true).append(true).open(&node.log)?);
    // A group of their own: an interrupt from the terminal reaches us, and we stop the nodes in order.
    command.process_group(0);
    let parent = getpid();
    // SAFETY: between fork and exec the closure makes two system calls and neither allocates nor takes a lock.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // If the parent ended before that call, nobody will ever send the signal.
            if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
        });
    }
    command.spawn()
}

/// Starts the thread that reads what `node` writes. It ends when the node does or nobody listens to us any more.
fn listen(node: ValidatorIndex, output: ChildStdout, heard: SyncSender<Heard>) -> io::Result<()> {
    let listen = move || {
        let mut output = BufReader::new(output);
        let mut line = String::new();
        loop {
            line.clear();
            let what = match output.by_ref().take(LINE_BYTES_MAX).read_line(&mut line) {
                Ok(0) => Said::Closed,
                Ok(_) => NodeEvent::from_line(&line).map_or_else(|_| Said::Nonsense(line.clone()), Said::Event),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => Said::Nonsense(error.to_string()),
                Err(_) => Said::Closed,
            };
            let closed = matches!(what, Said::Closed);
            if heard.send(Heard { node, what }).is_err() || closed {
                return;
            }
        }
    };
    thread::Builder::new().name(format!("events-{}", node.0)).spawn(listen).map(drop)
}

fn log_end(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing").trim();
    let start = last.len().saturating_sub(LOG_QUOTE_BYTES_MAX);
    let start = (start..).find(|&start| last.is_char_boundary(start)).unwrap_or(0);
    last[start..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: ValidatorIndex = ValidatorIndex(0);

    /// A shell in the place of a node.
    fn script(folder: &Path, name: &str, body: &str) -> NodeCommand {
        let arguments = vec!["-c".into(), body.into()];
        NodeCommand { program: "/bin/sh".into(), arguments, log: folder.join(format!("{name}.log")) }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn until_ended(processes: &mut Processes) -> Life {
        let deadline = soon();
        while !processes.all_ended() {
            assert!(Instant::now() < deadline, "the process does not end");
            thread::sleep(LOOK_AGAIN);
        }
        processes.life(NODE)
    }

    #[test]
    fn events_nonsense_and_the_end_are_heard_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let body = r#"echo '{"event":"ready"}'; echo hello; echo "no port" >&2; exit 3"#;
        let mut processes = Processes::start(&[script(folder.path(), "node", body)], |_| true).unwrap();
        assert!(matches!(processes.hear(soon()).unwrap().what, Said::Event(NodeEvent::Ready)));
        assert!(matches!(processes.hear(soon()).unwrap().what, Said::Nonsense(line) if line == "hello\n"));
        assert!(matches!(processes.hear(soon()).unwrap().what, Said::Closed));
        let Life::Ended(status, asked) = until_ended(&mut processes) else { panic!("it was not killed") };
        assert_eq!((status.code(), asked), (Some(3), false));
        let death = processes.describe_death(NODE);
        assert!(death.starts_with("node 0 died (exit status: 3)") && death.ends_with("ends: no port"), "{death}");
    }

    #[test]
    fn a_stopped_node_ended_as_asked_and_a_killed_one_did_not_end_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let body = r#"trap 'exit 0' TERM; echo '{"event":"ready"}'; while :; do sleep 0.01; done"#;
        let commands = [script(folder.path(), "a", body), script(folder.path(), "b", body)];
        let mut processes = Processes::start(&commands, |_| true).unwrap();
        for _ in 0..2 {
            processes.hear(soon()).unwrap();
        }
        processes.kill(ValidatorIndex(1));
        processes.ask_to_stop();
        let Life::Ended(status, asked) = until_ended(&mut processes) else { panic!("it was not killed") };
        assert_eq!((status.code(), asked), (Some(0), true));
        assert_eq!(processes.life(ValidatorIndex(1)), Life::Killed);
        assert!(processes.usage(ValidatorIndex(1)).rss_mib_max > 0.0);
    }

    #[test]
    fn a_node_that_is_not_there_at_once_is_started_when_told() {
        let folder = tempfile::tempdir().unwrap();
        let body = r#"echo '{"event":"ready"}'; exit 0"#;
        let commands = [script(folder.path(), "a", body), script(folder.path(), "b", body)];
        let mut processes = Processes::start(&commands, |node| node == NODE).unwrap();
        let late = ValidatorIndex(1);
        for _ in 0..2 {
            assert_eq!(processes.hear(soon()).unwrap().node, NODE);
        }
        until_ended(&mut processes);
        assert_eq!((processes.life(late), processes.usage(late)), (Life::Awaited, ProcessUsage::default()));
        processes.start_node(late).unwrap();
        assert_eq!(processes.hear(soon()).unwrap().node, late);
        until_ended(&mut processes);
        assert!(matches!(processes.life(late), Life::Ended(..)));
    }

    #[test]
    fn nodes_that_still_run_are_killed_with_the_run() {
        let folder = tempfile::tempdir().unwrap();
        let body = r#"trap '' TERM; echo '{"event":"ready"}'; while :; do sleep 0.01; done"#;
        let mut processes = Processes::start(&[script(folder.path(), "node", body)], |_| true).unwrap();
        processes.hear(soon()).unwrap();
        let id = processes.nodes[0].child.as_ref().unwrap().id();
        drop(processes);
        assert!(!Path::new(&format!("/proc/{id}")).exists());
    }

    #[test]
    fn a_child_dies_with_the_thread_that_started_it() {
        let folder = tempfile::tempdir().unwrap();
        let command = script(folder.path(), "node", "while :; do sleep 0.01; done");
        let mut child = thread::spawn(move || spawn(&command).unwrap()).join().unwrap();
        let deadline = soon();
        while child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "the child outlived its parent");
            thread::sleep(LOOK_AGAIN);
        }
    }
}
