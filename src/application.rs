//! What finalized blocks are handed to, in chain order: here, a check of what is held and a count of what is in it. It
//! has a thread of its own, since recomputing a block's hash takes as long as encoding it.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use alpenglow_control::block::Block;
use alpenglow_dataplane::clock;
use alpenglow_rotor::erasure::Kernel;
use alpenglow_rotor::merkle;
use alpenglow_rotor::parameters::CodingParameters;
use alpenglow_rotor::schedule::LeaderSchedule;
use alpenglow_rotor::shredder::Shredder;
use alpenglow_rotor::types::{ClusterId, Hash, Time, ValidatorIndex};
use crossbeam::channel::{self, Receiver, Sender};

use crate::load::LoadTransaction;
use crate::report::{FinalizedTransactions, NodeEvent, Stage, StageHistograms};
use crate::telemetry::Events;
use crate::topology::APPLICATION_QUEUE_BLOCKS;

/// A finalized block and when it was finalized here.
pub(crate) struct Finalized {
    /// The block.
    pub(crate) block: Arc<Block>,
    /// When this node knew.
    pub(crate) at: Time,
}

/// What the application needs to know of its cluster.
pub(crate) struct ApplicationConfig {
    /// This node.
    pub(crate) own: ValidatorIndex,
    /// How slices are cut.
    pub(crate) coding: CodingParameters,
    /// What the erasure code is computed with.
    pub(crate) kernel: Kernel,
    /// The cluster.
    pub(crate) cluster: ClusterId,
    /// Who led which slot.
    pub(crate) schedule: Arc<LeaderSchedule>,
}

/// What was found in the finalized blocks.
#[derive(Default)]
pub(crate) struct ApplicationReport {
    /// Load in blocks of other leaders.
    pub(crate) transactions: FinalizedTransactions,
    /// Times of transactions.
    pub(crate) stages: StageHistograms,
}

/// The application's thread.
pub(crate) struct Application(JoinHandle<ApplicationReport>);

impl Application {
    /// Starts it, and gives the queue that it takes blocks from.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub(crate) fn start(config: ApplicationConfig, events: Events) -> io::Result<(Self, Sender<Finalized>)> {
        let (sender, receiver) = channel::bounded(APPLICATION_QUEUE_BLOCKS);
        let thread = thread::Builder::new()
            .name("application".into())
            .spawn(move || Ledger::new(config, events).run(&receiver))?;
        Ok((Self(thread), sender))
    }

    /// What it found; ends when every sender of its queue is dropped.
    pub(crate) fn stop(self) -> ApplicationReport {
        self.0.join().unwrap_or_else(|_| {
            tracing::error!("the application thread panicked: its counts are lost");
            ApplicationReport::default()
        })
    }
}

struct Ledger {
    config: ApplicationConfig,
    events: Events,
    rebuilder: Rebuilder,
    report: ApplicationReport,
}

impl Ledger {
    fn new(config: ApplicationConfig, events: Events) -> Self {
        let rebuilder = Rebuilder::new(config.coding, config.cluster, config.kernel);
        Self { config, events, rebuilder, report: ApplicationReport::default() }
    }

    fn run(mut self, blocks: &Receiver<Finalized>) -> ApplicationReport {
        for finalized in blocks {
            self.apply(&finalized);
        }
        self.report
    }

    fn apply(&mut self, Finalized { block, at }: &Finalized) {
        let leader = self.config.schedule.leader(block.id.slot);
        let (mut transactions, mut bytes) = (0, 0);
        for transaction in block.transactions() {
            transactions += 1;
            bytes += transaction.len() as u64;
            if leader != self.config.own
                && let Some(load) = LoadTransaction::parse(transaction)
            {
                self.report.transactions.count(load.sequence);
                let took = at.since(load.intended);
                self.report.stages.record_ns(Stage::TransactionFinalized, took.as_nanos() as u64);
            }
        }
        if leader != self.config.own {
            self.report.transactions.bytes += bytes;
        }
        let recomputed = self.rebuilder.block_hash(block);
        if recomputed != block.id.hash {
            tracing::error!(block = %block.id, %recomputed, "a held block does not have the hash it was finalized by");
        }
        tracing::debug!(block = %block.id, transactions, bytes, lag = ?clock::now().since(*at), "applied");
        let (slot, hash) = (block.id.slot, block.id.hash);
        self.events.emit(NodeEvent::Applied { slot, hash, recomputed, transactions, bytes, leader });
    }
}

/// Makes a block's shreds anew, as its leader did.
struct Rebuilder {
    shredder: Shredder,
    shreds: Vec<u8>,
    offsets: Vec<usize>,
}

impl Rebuilder {
    fn new(coding: CodingParameters, cluster: ClusterId, kernel: Kernel) -> Self {
        let offsets: Vec<usize> = (0..coding.total_shreds()).map(|shred| shred * coding.datagram_bytes()).collect();
        let shreds = vec![0; coding.total_shreds() * coding.datagram_bytes()];
        Self { shredder: Shredder::with_kernel(coding, cluster, kernel), shreds, offsets }
    }

    fn block_hash(&mut self, block: &Block) -> Hash {
        let roots: Vec<Hash> = block
            .slices
            .iter()
            .map(|slice| self.shredder.root(slice.leader_stamp_ns, &slice.payload, &mut self.shreds, &self.offsets))
            .collect();
        merkle::block_hash(&roots)
    }
}
