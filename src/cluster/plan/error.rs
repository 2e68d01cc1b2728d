//! Why a run as ordered cannot be.

use super::SLOTS_TO_JOIN;

/// A plan that cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlanError {
    /// An index that no node has.
    #[error("{flag}: there is no node {index}, the nodes are 0 to {}", nodes - 1)]
    NoSuchNode {
        /// The flag.
        flag: &'static str,
        /// The index given.
        index: u16,
        /// How many nodes there are.
        nodes: usize,
    },
    /// A kill at a slot that the run does not wait for.
    #[error("--kill {node}@{slot}: the run has slots 1 to {slots}")]
    KillSlot {
        /// Whom.
        node: u16,
        /// When.
        slot: u64,
        /// The run's last slot.
        slots: u64,
    },
    /// A node killed twice.
    #[error("--kill: node {0} is named twice")]
    KilledTwice(u16),
    /// Nobody is there all the time.
    #[error(
        "--kill, --start: transactions go to nodes that run from the beginning to the end: leave one out, or give \
         --tx-rate 0"
    )]
    NobodyStays,
    /// Nobody is there at the beginning.
    #[error("--start: one node at least must run from the beginning: leave one out")]
    NobodyBegins,
    /// A node would forget its votes.
    #[error(
        "--no-vote-log: a node that is started again without its vote log signs twice; leave out --start after --kill"
    )]
    RestartWithoutVoteLog,
    /// A start that the run does not reach, or too near to its end.
    #[error(
        "--start {node}@{slot}: a node needs {SLOTS_TO_JOIN} slots to catch up and vote, and the run has slots 1 to \
         {slots}: name an earlier slot, or raise --slots"
    )]
    StartSlot {
        /// Whom.
        node: u16,
        /// When.
        slot: u64,
        /// The run's last slot.
        slots: u64,
    },
    /// A node started twice.
    #[error("--start: node {0} is named twice")]
    StartedTwice(u16),
    /// A node that is killed and started at once.
    #[error("--kill {node}@{slot} --start {node}@{slot}: say which comes first by another slot for one of them")]
    KilledAndStarted {
        /// Whom.
        node: u16,
        /// When.
        slot: u64,
    },
    /// The cluster would stand still before the start.
    #[error(
        "--start {node}@{slot}: the nodes that run until then hold {running} of {total} of the stake, and less than \
         60% decide no slot: start or keep alive more of them, or give them more with --stakes"
    )]
    TooFewToReach {
        /// Whom.
        node: u16,
        /// When.
        slot: u64,
        /// Stake that runs until then.
        running: u128,
        /// All of it.
        total: u128,
    },
}
