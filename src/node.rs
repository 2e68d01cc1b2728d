//! A node from its files to its report: starts the threads that `topology.rs` describes, waits for the signal to stop,
//! and stops them in the order in which nothing is lost.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use alpenglow_control::bls::SecretKey;
use alpenglow_control::checker::Checker;
use alpenglow_control::control::{Control, ControlConfig, ControlConfigError};
use alpenglow_dataplane::auth::PairwiseKeys;
use alpenglow_dataplane::{
    ControlWaker, Counter, Dataplane, DataplaneConfig, EngineKind, Horizon, Poll, ShardReport, StartError, clock, probe,
};
use alpenglow_rotor::schedule::LeaderSchedule;
use alpenglow_rotor::types::{Slot, Time, ValidatorIndex, WINDOW_SLOTS};
use ed25519_dalek::SigningKey;
use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};

use crate::application::{Application, ApplicationConfig, ApplicationReport};
use crate::config::{ConfigError, Durability, NodeConfig};
use crate::control_loop::{ControlParts, ControlReport};
use crate::control_thread::{ControlPlacement, ControlThread};
use crate::evidence::EvidenceWriter;
use crate::failpoint::FailPoints;
use crate::flood::{Flood, FloodPlan};
use crate::genesis::{self, Genesis, GenesisError, OwnKeysError};
use crate::keys::{self, KeyError};
use crate::logging;
use crate::process_guard::{self, ProcessError};
use crate::progress::{Progress, ProgressWatch};
use crate::report::{NodeEvent, NodeReport, ReportError, Stage};
use crate::slice_memory::{SliceMemoryError, leave_room_to_shards};
use crate::storage::block_log::{
    BlockLog, BlockLogError, BlockLogHandle, BlockLogReport, BlockLogThread, Bounds, STALL, STOP_WITHIN,
};
use crate::storage::data_folder::{DataFolder, DataFolderError};
use crate::storage::host;
use crate::storage::kept_blocks;
use crate::storage::vote_log::{self, Keeper, Opened, Owner, Recorder, VoteLogError};
use crate::telemetry::{EventWriter, Events};
use crate::topology::{Layout, LayoutError, available_cores};
use crate::verifier::{VerifierPanic, Verifiers};

/// How often a running node looks whether it is to stop, and whether all its threads still run.
const LOOK_AFTER: Duration = Duration::from_millis(50);
/// Socket buffer asked for, for each shard and direction: what arrives while a shard is busy with the worst slice.
const SOCKET_BUFFER_BYTES: usize = 8 << 20;

/// Why a node does not start, or stops without being told to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeError {
    /// The genesis file.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// A key file.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The keys do not fit the genesis file.
    #[error(transparent)]
    OwnKeys(#[from] OwnKeysError),
    /// The config.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The process may not do what it has to.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// Threads cannot be placed.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The dataplane does not start.
    #[error(transparent)]
    Dataplane(#[from] StartError),
    /// The control core refuses the cluster's parameters.
    #[error("the genesis file's parameters cannot work: {0}")]
    Control(#[from] ControlConfigError),
    /// The cluster's slices do not fit.
    #[error(transparent)]
    SliceMemory(#[from] SliceMemoryError),
    /// The data folder cannot be used, or another node uses it.
    #[error(transparent)]
    DataFolder(#[from] DataFolderError),
    /// What the node said before cannot be known, or remembered from now on.
    #[error(transparent)]
    VoteLog(#[from] VoteLogError),
    /// The block log cannot be used.
    #[error(transparent)]
    BlockLog(#[from] BlockLogError),
    /// The operating system refuses something else.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// A thread ended that must not.
    #[error("{0} ended by itself, which is a defect of this program; please report it with what was logged above")]
    ThreadEnded(&'static str),
    /// The report cannot be written.
    #[error(transparent)]
    Report(#[from] ReportError),
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> NodeError {
    move |source| NodeError::System { what, source }
}

/// What a node is, read from its files and checked.
struct Node {
    config: NodeConfig,
    genesis: Genesis,
    schedule: Arc<LeaderSchedule>,
    identity: SigningKey,
    own: ValidatorIndex,
    layout: Layout,
    data: DataFolder,
}

/// Runs the node that `config` describes until SIGTERM or SIGINT, then writes its report into the data folder. With
/// `events`, tells what happens in lines on standard output.
///
/// # Errors
/// [`NodeError`] says what stands in the way and what to do about it.
pub(crate) fn run(config: NodeConfig, events: bool) -> Result<(), NodeError> {
    process_guard::allow_files(config.shards.get())?;
    if config.engine == EngineKind::IoUring {
        process_guard::allow_locked_memory(config.shards.get())?;
    }
    if !config.debuggable {
        process_guard::close_memory()?;
    }
    let (node, voting_key) = Node::read(config)?;
    // Before glommio, which panics where io_uring is denied.
    probe(node.config.engine)?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(system("listen for signals"))?;
    }
    // Unless somebody listens, a write beyond a limit on file sizes ends the process. So it is refused, as by a full
    // disk.
    signal_hook::flag::register(SIGXFSZ, Arc::default()).map_err(system("listen for signals"))?;
    let (writer, events) = EventWriter::start(events).map_err(system("start the telemetry thread"))?;
    let running = node.start(voting_key, &events)?;
    drop(events);
    let outcome = node.wait(&running, &stop);
    let report = running.stop(node.own)?;
    writer.stop();
    tracing::info!("stopped");
    report.write(&node.config.data)?;
    outcome
}

impl Node {
    fn read(config: NodeConfig) -> Result<(Self, SecretKey), NodeError> {
        let genesis = genesis::load(&config.genesis)?;
        let identity = keys::load_identity(&config.identity)?;
        let voting_key = keys::load_bls(&config.bls_key)?;
        let own = genesis.own_index(&identity, &voting_key)?;
        logging::start(Some(own));
        let data = DataFolder::take(&config.data)?;
        let layout = Layout::plan(&config.cores, config.poll, config.shards, config.verifiers, &available_cores())?;
        tracing::info!(validator = own.0, bind = %config.bind, "starting with {layout}");
        let schedule = Arc::new(genesis.leader_schedule());
        Ok((Self { config, genesis, schedule, identity, own, layout, data }, voting_key))
    }

    fn start(&self, voting_key: SecretKey, events: &Events) -> Result<Running, NodeError> {
        let (waker, wake_reader) = ControlWaker::pair().map_err(system("make a socketpair"))?;
        let fail_points = FailPoints::new(self.config.fail_at);
        // First, for it knows whose folder this is.
        let vote_log = self.open_vote_log(&fail_points)?;
        let mut block_log = self.block_log()?;
        let application = ApplicationConfig {
            own: self.own,
            coding: self.genesis.coding,
            kernel: self.config.kernel,
            cluster: self.genesis.cluster,
            schedule: Arc::clone(&self.schedule),
        };
        let (application, finalized) =
            Application::start(application, events.clone()).map_err(system("start the application thread"))?;
        let verifiers = self.verifiers(&waker)?;
        let verifier_panic = verifiers.panic();
        // Nothing is wanted until control has said what.
        let horizon = Arc::new(Horizon::new(Slot::GENESIS, Slot::GENESIS));
        let (dataplane, links) = Dataplane::start(self.dataplane_config()?, Arc::clone(&waker), Arc::clone(&horizon))?;
        let config = self.control_config(voting_key, block_log.as_mut())?;
        let (control, memory) = self.remember(config, vote_log, &waker, &fail_points)?;
        let (keeper, recorder) = memory.unzip();
        let (evidence_writer, evidence) = EvidenceWriter::start(&self.config.data, self.genesis.cluster)
            .map_err(system("start the evidence thread"))?;
        let block_log = block_log.map(|log| self.start_block_log(log, &waker, &fail_points)).transpose()?;
        let (block_log_thread, block_log) = block_log.unzip();
        let flood = self.flood(&horizon)?;
        let parts = ControlParts {
            control,
            recorder,
            fail_points,
            drop_shreds: self.config.drop_shreds,
            equivocate: self.config.equivocate,
            validators: self.genesis.validators.len(),
            links,
            horizon: Arc::clone(&horizon),
            verifiers,
            application: finalized,
            block_log,
            evidence,
            events: events.clone(),
        };
        let Layout { control_core: core, spin, .. } = self.layout;
        let engine = self.config.engine;
        let placement = ControlPlacement { engine, core, spin, waker, wake_reader };
        // Before control tells what it has found in its logs.
        events.emit(NodeEvent::Ready);
        let control = ControlThread::start(parts, placement).map_err(system("start the control thread"))?;
        Ok(Running {
            dataplane,
            control,
            application,
            evidence: evidence_writer,
            keeper,
            block_log: block_log_thread,
            verifier_panic,
            flood,
            horizon,
        })
    }

    fn owner(&self) -> Owner {
        Owner { cluster: self.genesis.cluster, identity: self.identity.verifying_key().to_bytes() }
    }

    fn open_vote_log(&self, fail_points: &FailPoints) -> Result<Option<Opened>, NodeError> {
        if self.config.no_vote_log {
            tracing::warn!("keeps no vote log, as it is told to: after a restart it will sign votes that conflict");
            return Ok(None);
        }
        let host = host::host().map_err(|error| random(&error))?;
        let (validators, durability) = (self.genesis.validators.len(), self.config.durability);
        Ok(Some(vote_log::open(&self.data, &self.owner(), validators, host, durability, fail_points)?))
    }

    /// What decides, as it was left before the start, and what it is remembered with.
    fn remember(
        &self,
        config: ControlConfig,
        vote_log: Option<Opened>,
        waker: &Arc<ControlWaker>,
        fail_points: &FailPoints,
    ) -> Result<(Control, Option<(Keeper, Recorder)>), NodeError> {
        let start = start(self.genesis.start_time);
        let Some(opened) = vote_log else { return Ok((Control::new(config, start)?, None)) };
        let control = Control::restore(config, start, &opened.restoration)?;
        let memory = vote_log::start(&self.data, self.owner(), opened, waker, fail_points.clone())?;
        Ok((control, Some(memory)))
    }

    fn flood(&self, horizon: &Arc<Horizon>) -> Result<Option<Flood>, NodeError> {
        let Some(datagrams_per_s) = self.config.flood_per_s else { return Ok(None) };
        let genesis = &self.genesis;
        tracing::warn!(%datagrams_per_s, "floods the other validators, as it is told to");
        let plan = FloodPlan {
            keys: PairwiseKeys::derive(&self.identity, &genesis.validators, genesis.cluster, self.own)
                .map_err(StartError::from)?,
            addresses: self.config.addresses(&genesis.validators, self.own)?,
            cluster: genesis.cluster,
            coding: genesis.coding,
            schedule: Arc::clone(&self.schedule),
            sampler: Arc::new(genesis.relay_sampler()),
            horizon: Arc::clone(horizon),
            datagrams_per_s,
        };
        Flood::start(plan).map(Some).map_err(system("start the flood"))
    }

    fn block_log(&self) -> Result<Option<BlockLog>, NodeError> {
        let Some(limits) = self.config.block_log else { return Ok(None) };
        Ok(Some(kept_blocks::open(&self.config.data, &self.genesis, limits)?))
    }

    fn start_block_log(
        &self,
        log: BlockLog,
        waker: &Arc<ControlWaker>,
        fail_points: &FailPoints,
    ) -> Result<(BlockLogThread, BlockLogHandle), NodeError> {
        let memory_bytes = self.config.slice_memory_bytes;
        let synced = self.config.durability == Durability::Power;
        let bounds = Bounds {
            // Of the memory that `leave_room_to_shards` leaves to the shards, half.
            waiting_bytes_max: memory_bytes / self.layout.shard_cores.len() / 8,
            slice_memory_bytes: self.genesis.coding.data_shreds() * self.genesis.coding.shred_bytes(),
            // More than can be held and not final.
            held_bytes_max: memory_bytes as u64,
            synced,
            // With it the vote waits for this disk anyway.
            stall: if synced { Duration::MAX } else { STALL },
            stop_within: STOP_WITHIN,
        };
        BlockLogThread::start(log, bounds, Arc::clone(waker), fail_points.clone())
            .map_err(system("start the thread of the block log"))
    }

    fn control_config(
        &self,
        secret_key: SecretKey,
        block_log: Option<&mut BlockLog>,
    ) -> Result<ControlConfig, NodeError> {
        let genesis = &self.genesis;
        let mut config = ControlConfig::new(
            self.own,
            secret_key,
            Arc::clone(&genesis.stakes),
            Arc::clone(&self.schedule),
            genesis.cluster,
            genesis.coding,
        );
        config.keeps_blocks = block_log.is_some();
        config.tip = block_log.and_then(|log| kept_blocks::tip(log, genesis));
        config.delta_block = genesis.delta_block;
        config.delta_timeout = genesis.delta_timeout;
        config.slice_interval = self.config.slice_interval;
        config.crashed_leader_timer = self.config.crashed_leader_timer;
        getrandom::fill(&mut config.repair.seed).map_err(|error| random(&error))?;
        config.repair.kernel = self.config.kernel;
        // One job for each verifier: further votes wait in control and become one larger batch.
        config.checking.jobs_max = self.layout.verifiers;
        config.checking.patience = genesis.delta_block;
        let (memory_bytes, shards) = (self.config.slice_memory_bytes, self.layout.shard_cores.len());
        leave_room_to_shards(&mut config.blokstor, &genesis.coding, memory_bytes, shards)?;
        Ok(config)
    }

    /// Looks after the threads until it is told to stop.
    fn wait(&self, running: &Running, stop: &AtomicBool) -> Result<(), NodeError> {
        let mut is_network_narrow = false;
        let genesis = &self.genesis;
        let start = genesis.start_time.duration_since(SystemTime::now()).unwrap_or_default();
        let mut progress = ProgressWatch::new(
            Instant::now() + start,
            genesis.delta_timeout + WINDOW_SLOTS as u32 * genesis.delta_block,
        );
        while !stop.load(Ordering::Relaxed) {
            if !running.dataplane.is_running() {
                return Err(NodeError::ThreadEnded("a shard"));
            }
            if running.control.has_ended() {
                return Err(NodeError::ThreadEnded("the control thread"));
            }
            if running.verifier_panic.happened() {
                return Err(NodeError::ThreadEnded("a verifier thread"));
            }
            // Without it the votes would end with the reservation.
            if running.keeper.as_ref().is_some_and(Keeper::has_ended) {
                return Err(NodeError::ThreadEnded("the thread that renews the reservation"));
            }
            if !is_network_narrow && running.counted(Counter::SendTooLong) > 0 {
                is_network_narrow = true;
                tracing::warn!("{}", narrow_network(genesis.coding.datagram_bytes(), self.config.bind));
            }
            match progress.look(Instant::now(), running.final_through()) {
                Some(Progress::FinalThrough(slot)) => tracing::info!("final through slot {slot}"),
                Some(Progress::StandsStillAt(slot)) => tracing::warn!(
                    "nothing has become final after slot {slot} for a while: check that validators with 60% of the stake or more run, and reach this node and each other by UDP at the addresses in `peers`"
                ),
                None => {}
            }
            thread::sleep(LOOK_AFTER);
        }
        Ok(())
    }

    fn verifiers(&self, waker: &Arc<ControlWaker>) -> Result<Verifiers, NodeError> {
        let genesis = &self.genesis;
        let checker = || Checker::new(genesis.cluster, Arc::clone(&genesis.voting_keys), Arc::clone(&genesis.stakes));
        let checkers: Vec<Checker> = std::iter::repeat_with(checker).take(self.layout.verifiers).collect();
        Verifiers::start(checkers, self.layout.verifiers, waker).map_err(system("start the verifier threads"))
    }

    fn dataplane_config(&self) -> Result<DataplaneConfig, NodeError> {
        Ok(DataplaneConfig {
            bind: self.config.bind,
            addresses: self.config.addresses(&self.genesis.validators, self.own)?,
            own: self.own,
            cluster: self.genesis.cluster,
            coding: self.genesis.coding,
            identity: self.identity.clone(),
            validators: Arc::clone(&self.genesis.validators),
            schedule: Arc::clone(&self.schedule),
            sampler: Arc::new(self.genesis.relay_sampler()),
            shards: self.layout.shard_cores.len(),
            cores: self.layout.shard_cores.clone(),
            kernel: self.config.kernel,
            engine: self.config.engine,
            poll: if self.layout.spin { Poll::Spin } else { Poll::Wait },
            slice_memory_bytes: self.config.slice_memory_bytes,
            socket_buffer_bytes: SOCKET_BUFFER_BYTES,
            egress_mbit: self.config.egress_mbit,
            clients: self.config.clients,
            silent_relay: self.config.silent_relay,
        })
    }
}

fn random(error: &getrandom::Error) -> NodeError {
    NodeError::System { what: "draw random numbers", source: io::Error::other(error.to_string()) }
}

/// The later of now and the cluster's start, on this node's clock.
fn start(cluster_start: SystemTime) -> Time {
    clock::now().after(cluster_start.duration_since(SystemTime::now()).unwrap_or_default())
}

/// What to do about datagrams that the network does not carry (EMSGSIZE); they are never fragmented.
fn narrow_network(datagram_bytes: usize, bind: SocketAddr) -> String {
    let mtu = datagram_bytes + if bind.is_ipv4() { 20 + 8 } else { 40 + 8 };
    format!(
        "the kernel refuses to send datagrams that exceed the MTU of their way, and they are lost (counted as {}): this cluster's datagrams have up to {datagram_bytes} bytes; give every network interface between its validators an MTU of {mtu} at least, or make a cluster with shorter ones (`alpenglow genesis --datagram-bytes`)",
        Counter::SendTooLong.name()
    )
}

/// A node whose threads run.
struct Running {
    dataplane: Dataplane,
    control: ControlThread,
    application: Application,
    evidence: EvidenceWriter,
    keeper: Option<Keeper>,
    block_log: Option<BlockLogThread>,
    verifier_panic: VerifierPanic,
    flood: Option<Flood>,
    horizon: Arc<Horizon>,
}

impl Running {
    fn final_through(&self) -> Slot {
        Slot(self.horizon.closed_through.load(Ordering::Relaxed))
    }

    fn counted(&self, counter: Counter) -> u64 {
        self.dataplane.counters().iter().map(|counters| counters.get(counter)).sum()
    }

    /// Control first, so that nobody asks the shards for anything any more; the application last, so that it has seen
    /// all.
    fn stop(self, own: ValidatorIndex) -> Result<NodeReport, NodeError> {
        if let Some(flood) = self.flood {
            tracing::warn!(datagrams = flood.stop(), "the flood ends");
        }
        let control = self.control.stop().map_err(system("stop the control thread"))?;
        if let Some(keeper) = self.keeper {
            keeper.stop(control.is_recorded);
        }
        let shards = self.dataplane.stop();
        let application = self.application.stop();
        self.evidence.stop();
        let block_log = self.block_log.map(BlockLogThread::stop).unwrap_or_default();
        Ok(report(own, control, &shards, application, block_log))
    }
}

fn report(
    own: ValidatorIndex,
    control: ControlReport,
    shards: &[ShardReport],
    found: ApplicationReport,
    block_log: BlockLogReport,
) -> NodeReport {
    let mut report = NodeReport::new(own.0);
    report.stages = control.times.stages;
    report.stages.merge(&found.stages);
    report.stages.merge(&block_log.stages);
    report.block_dissemination = control.times.block_dissemination;
    report.finalized = control.times.finalized;
    report.transactions = found.transactions;
    report.repair = control.repair;
    let drops = control.drops.into_iter().chain(block_log.drops);
    report.drops = drops.map(|(reason, count)| (reason.to_owned(), count)).collect();
    for shard in shards {
        for stage in alpenglow_dataplane::Stage::ALL {
            let name = Stage::from_name(stage.name()).expect("the report knows every stage of a shard");
            report.stages.add(name, shard.stages.histogram(stage));
        }
        report.shreds.from_leader += shard.counters.get(Counter::ShredsFromLeader);
        report.shreds.from_relays += shard.counters.get(Counter::ShredsFromRelays);
        report.shreds.decoded_slices += shard.counters.get(Counter::SlicesDecoded);
        for (counter, count) in shard.counters.iter() {
            if counter.is_drop() && count > 0 {
                *report.drops.entry(counter.name().to_owned()).or_default() += count;
            }
        }
    }
    report
}
