//! The node that is measured: its control core on this thread, its verifiers on theirs, and the queues between them.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use alpenglow_control::block::{ParentStatement, SliceBuilder};
use alpenglow_control::bls::{SIGNATURE_BYTES, SignatureBytes};
use alpenglow_control::certificate::Certificate;
use alpenglow_control::checker::{CheckJob, Checker};
use alpenglow_control::control::{Control, ControlConfig};
use alpenglow_control::input::{Input, JobId};
use alpenglow_control::message::{self, Message};
use alpenglow_control::output::{Event, Output};
use alpenglow_control::vote::{UnverifiedVote, VotePayload};
use alpenglow_dataplane::datagram::Kind;
use alpenglow_dataplane::{ControlWaker, MessageBytes, ShardLink, clock};
use alpenglow_rotor::merkle;
use alpenglow_rotor::slice::{Slice, SlicePayload, SliceSignature};
use alpenglow_rotor::types::{BlockId, Hash, Slot, Time, ValidatorIndex};

use super::network::{Datagrams, Network, Shared};
use super::usage;
use super::validators::Validators;
use super::verifier::Verifiers;
use crate::fixture::{CLUSTER, slice_id};

/// Messages taken before verdicts have their turn again, as in the node's loop.
const ROUND_INPUTS: usize = 64;
/// Nothing takes so long.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest sleep. Nothing depends on it.
const SLEEP: Duration = Duration::from_millis(50);
/// No timer of the voting rules fires in a run.
const FOR_EVER: Duration = Duration::from_secs(100_000);

/// What a node has done, and when it left.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) certificates: Vec<(Time, Arc<Certificate>)>,
    pub(super) votes: Vec<(Time, VotePayload)>,
    pub(super) decided: Slot,
    /// Wrong signatures that somebody was barred for.
    pub(super) barred: usize,
}

/// What cores were used, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    pub(super) control_ns: u64,
    pub(super) verifiers_ns: u64,
    pub(super) network_ns: u64,
}

impl Usage {
    pub(super) const fn since(self, before: Self) -> Self {
        Self {
            control_ns: self.control_ns - before.control_ns,
            verifiers_ns: self.verifiers_ns.saturating_sub(before.verifiers_ns),
            network_ns: self.network_ns - before.network_ns,
        }
    }

    /// Microseconds of control and verifiers.
    pub(super) const fn us(self) -> f64 {
        (self.control_ns + self.verifiers_ns) as f64 / 1e3
    }
}

/// See the module.
pub(super) struct Node {
    control: Control,
    verifiers: Verifiers,
    network: Network,
    shared: Arc<Shared>,
    link: ShardLink,
    waker: Arc<ControlWaker>,
    reader: UnixStream,
    checks: usize,
    others_ns: u64,
    pub(super) seen: Seen,
    /// When the message taken last had arrived.
    pub(super) arrived: Time,
}

impl Node {
    pub(super) fn start(validators: &Validators, verifiers: usize) -> Self {
        let (waker, reader) = ControlWaker::pair().expect("a pair of sockets");
        reader.set_nonblocking(false).expect("a socket");
        reader.set_read_timeout(Some(SLEEP)).expect("a socket");
        let checker = || Checker::new(CLUSTER, Arc::clone(&validators.keys), Arc::clone(&validators.stakes));
        let checkers = (0..verifiers).map(|_| checker()).collect();
        let (network, link, shared) = Network::start(validators, Arc::clone(&waker));
        let others_ns = usage::process_ns().saturating_sub(usage::thread_ns());
        Self {
            control: Control::new(config(validators, verifiers), clock::now()).expect("a sound configuration"),
            verifiers: Verifiers::start(checkers, verifiers, &waker).expect("threads"),
            network,
            shared,
            link,
            waker,
            reader,
            checks: 0,
            others_ns,
            seen: Seen::default(),
            arrived: Time(0),
        }
    }

    pub(super) fn send(&mut self, datagrams: &Datagrams) {
        self.network.send(datagrams);
    }

    /// A block of one slice arrives.
    pub(super) fn hold(&mut self, slot: u64, parent: BlockId) -> BlockId {
        let payload = SliceBuilder::new(ParentStatement::Parent(parent), 4_096).finish();
        let root = Hash([slot as u8 + 1; 32]);
        self.decide(Input::Slice(Slice {
            id: slice_id(slot, 0),
            is_last: true,
            root,
            signature: SliceSignature([0; 64]),
            leader_stamp_ns: 0,
            payload: SlicePayload::from(payload),
        }));
        BlockId { slot: Slot(slot), hash: merkle::block_hash(&[root]) }
    }

    /// Works until `done`, or until nothing is left to do.
    ///
    /// # Panics
    /// If neither happens.
    pub(super) fn run(&mut self, done: impl Fn(&Seen) -> bool) {
        let start = Instant::now();
        while !done(&self.seen) && !self.is_idle() {
            if self.round() == 0 {
                self.wait();
            }
            assert!(!self.verifiers.panic().happened(), "a verifier panicked");
            assert!(start.elapsed() < PATIENCE, "it never happens");
        }
    }

    /// Works until nothing is left to do.
    pub(super) fn rest(&mut self) {
        self.run(|_| false);
    }

    /// Microseconds that a job with nothing to check takes to a verifier and back, each of which has to wake up.
    pub(super) fn hand_over_us(&mut self) -> f64 {
        let no_point = UnverifiedVote {
            payload: VotePayload::Skip(Slot(1)),
            signer: ValidatorIndex(0),
            signature: SignatureBytes([0xff; SIGNATURE_BYTES]),
        };
        let start = Instant::now();
        self.verifiers.push(JobId(u64::MAX), CheckJob::votes(vec![no_point]));
        self.checks += 1;
        while self.verifiers.is_empty() {
            self.wait();
        }
        let elapsed_us = start.elapsed().as_secs_f64() * 1e6;
        self.verifiers.pop().expect("the only answer");
        self.checks -= 1;
        elapsed_us
    }

    pub(super) fn usage(&self) -> Usage {
        let (control_ns, network_ns) = (usage::thread_ns(), self.network.cpu_ns());
        let verifiers_ns = usage::process_ns().saturating_sub(control_ns + network_ns + self.others_ns);
        Usage { control_ns, verifiers_ns, network_ns }
    }

    pub(super) fn stop(self) {
        self.verifiers.stop();
        self.network.stop();
    }

    fn is_idle(&self) -> bool {
        self.checks == 0 && self.shared.taken.load(Ordering::Relaxed) == self.network.sent()
    }

    fn round(&mut self) -> usize {
        let mut done = 0;
        while let Some((id, verdict)) = self.verifiers.pop() {
            self.checks -= 1;
            self.decide(Input::Checked { id, verdict });
            done += 1;
        }
        for _ in 0..ROUND_INPUTS {
            let Some(message) = self.link.pop_message() else { break };
            self.arrived = message.received;
            let sender = message.sender.expect("votes have senders");
            assert!(message.kind == Kind::Vote, "only votes are sent");
            let vote = message::decode_vote(&message.body, sender).expect("well-formed votes");
            self.decide(Input::Vote(vote));
            self.shared.taken.fetch_add(1, Ordering::Relaxed);
            done += 1;
        }
        if self.control.next_timeout().is_some_and(|due| due <= clock::now()) {
            self.decide(Input::Tick);
            done += 1;
        }
        self.link.flush();
        done
    }

    fn wait(&mut self) {
        self.waker.park();
        if self.verifiers.is_empty() && self.link.is_empty() && !self.is_idle() {
            // What wakes it is one byte; a time-out does no harm.
            let _ = self.reader.read(&mut [0; 64]);
        }
        self.waker.unpark();
    }

    fn decide(&mut self, input: Input) {
        self.control.handle(clock::now(), input);
        while let Some(output) = self.control.poll_output() {
            match output {
                Output::Check { id, job } => {
                    self.checks += 1;
                    self.verifiers.push(id, job);
                }
                Output::Broadcast(message) => self.broadcast(message),
                Output::Event(Event::Decided { slot, .. }) => self.seen.decided = self.seen.decided.max(slot),
                Output::Event(Event::Barred { .. }) => self.seen.barred += 1,
                _ => {}
            }
        }
    }

    fn broadcast(&mut self, message: Message) {
        let body = MessageBytes::try_from(message.encode().as_slice()).expect("votes and certificates fit a datagram");
        let now = clock::now();
        assert!(!body.is_empty());
        match message {
            Message::Vote(vote) => self.seen.votes.push((now, vote.payload)),
            Message::Certificate(certificate) => self.seen.certificates.push((now, certificate)),
        }
    }
}

/// The configuration of the measured node.
pub(super) fn config(validators: &Validators, verifiers: usize) -> ControlConfig {
    let own = validators.own();
    let mut config = ControlConfig::new(
        own,
        validators.secret_key(own.get()),
        Arc::clone(&validators.stakes),
        Arc::clone(&validators.cluster.schedule),
        CLUSTER,
        validators.cluster.coding,
    );
    config.delta_block = FOR_EVER;
    config.delta_timeout = FOR_EVER;
    config.standstill_interval = FOR_EVER;
    config.checking.jobs_max = verifiers;
    config
}
