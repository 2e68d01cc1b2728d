//! What a control core is told at its start.

use std::sync::Arc;
use std::time::Duration;

use alpenglow_rotor::parameters::CodingParameters;
use alpenglow_rotor::schedule::LeaderSchedule;
use alpenglow_rotor::types::{ClusterId, ValidatorIndex};

use crate::block::SLICE_PAYLOAD_BYTES_MIN;
use crate::block_log::ChainTip;
use crate::blokstor::BlokstorConfig;
use crate::bls::SecretKey;
use crate::checking::CheckingLimits;
use crate::repair::RepairConfig;
use crate::stakes::Stakes;
use crate::transactions::TransactionLimits;

/// Slots that the application waits for a missing block: what repair catches up with after a partition of some windows.
const HANDOVER_SLOTS: u64 = 64;

/// What a control core is told at its start.
pub struct ControlConfig {
    /// This node.
    pub own: ValidatorIndex,
    /// Its voting key.
    pub secret_key: SecretKey,
    /// The stakes of each epoch.
    pub stakes: Arc<Stakes>,
    /// Who leads when.
    pub schedule: Arc<LeaderSchedule>,
    /// Signed into everything.
    pub cluster: ClusterId,
    /// How slices are coded, which says how much fits one.
    pub coding: CodingParameters,
    /// Time of one block (paper: Δblock).
    pub delta_block: Duration,
    /// What a window's first block may take besides (paper: Δtimeout).
    pub delta_timeout: Duration,
    /// A slice that is not full leaves this long after its first byte: a slice's share of the slot.
    pub slice_interval: Duration,
    /// Whether a window is skipped if a slice's share of the slot after delta_timeout no valid shred of its first slot
    /// has come: the others lose less time to a leader that crashed.
    pub crashed_leader_timer: bool,
    /// Own slices that may be on their way through the shards at once.
    pub slices_in_flight_max: usize,
    /// After this long without a newly finalized slot, certificates and votes are sent again, and delta_timeout grows.
    pub standstill_interval: Duration,
    /// Bounds of the transaction pool.
    pub transactions: TransactionLimits,
    /// Bounds of the block store.
    pub blokstor: BlokstorConfig,
    /// Bounds of checks under way.
    pub checking: CheckingLimits,
    /// Bounds of what is fetched from others and given to them, and whom to ask.
    pub repair: RepairConfig,
    /// Whether there is a block log.
    pub keeps_blocks: bool,
    /// Where its chain ends.
    pub tip: Option<ChainTip>,
}

impl ControlConfig {
    /// With the cluster's parameters and the default bounds: 32 MiB of slices held in the memory they were decoded
    /// into, 64 MiB of repaired blocks, 32 MiB of finalized ones.
    #[must_use]
    pub fn new(
        own: ValidatorIndex,
        secret_key: SecretKey,
        stakes: Arc<Stakes>,
        schedule: Arc<LeaderSchedule>,
        cluster: ClusterId,
        coding: CodingParameters,
    ) -> Self {
        Self {
            own,
            secret_key,
            stakes,
            schedule,
            cluster,
            coding,
            delta_block: Duration::from_millis(400),
            delta_timeout: Duration::from_millis(1_200),
            slice_interval: Duration::from_millis(10),
            crashed_leader_timer: false,
            slices_in_flight_max: 16,
            standstill_interval: Duration::from_secs(10),
            transactions: TransactionLimits::default(),
            blokstor: BlokstorConfig {
                slice_memory_bytes: coding.data_shreds() * coding.shred_bytes(),
                bytes_max: 32 << 20,
                repaired_bytes: 64 << 20,
                // Who is as far behind as can be may need a while to catch up.
                retained_slots: 2 * HANDOVER_SLOTS,
                retained_bytes: 32 << 20,
                handover_slots: HANDOVER_SLOTS,
            },
            checking: CheckingLimits {
                jobs_max: 2,
                bar: Duration::from_secs(10),
                patience: Duration::from_millis(400),
            },
            repair: RepairConfig::default(),
            keeps_blocks: false,
            tip: None,
        }
    }
}

/// Why a configuration is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlConfigError {
    /// This node is no validator of the cluster.
    #[error("validator {0} is not among the {1} of the cluster")]
    Own(u16, usize),
    /// No slice could hold the largest transaction.
    #[error(
        "a slice must hold at least {SLICE_PAYLOAD_BYTES_MIN} bytes, gamma and shred_bytes allow {0}: raise one of them"
    )]
    SliceTooSmall(usize),
    /// A duration or a bound is zero that must not be.
    #[error("{0} must not be zero")]
    Zero(&'static str),
}

impl ControlConfig {
    pub(super) fn check(&self) -> Result<(), ControlConfigError> {
        if self.own.get() >= self.stakes.len() {
            return Err(ControlConfigError::Own(self.own.0, self.stakes.len()));
        }
        if self.coding.slice_payload_bytes() < SLICE_PAYLOAD_BYTES_MIN {
            return Err(ControlConfigError::SliceTooSmall(self.coding.slice_payload_bytes()));
        }
        let zero = [
            ("delta_block", self.delta_block.is_zero()),
            ("standstill_interval", self.standstill_interval.is_zero()),
            ("slices_in_flight_max", self.slices_in_flight_max == 0),
            ("checking.jobs_max", self.checking.jobs_max == 0),
        ]
        .into_iter()
        .find_map(|(name, is_zero)| is_zero.then_some(name));
        zero.map_or(Ok(()), |name| Err(ControlConfigError::Zero(name)))
    }
}
