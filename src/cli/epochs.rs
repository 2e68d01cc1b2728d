//! Flags for epochs and how stakes change with them.

use alpenglow_rotor::epochs::EPOCH_SLOTS_DEFAULT;
use alpenglow_rotor::types::Stake;
use clap::Args;

use super::CliError;
use crate::epoch_stakes::{EpochParameters, StakeChange, change_stakes};

/// Epochs and how stakes change with them.
#[derive(Clone, Debug, Args)]
pub(super) struct EpochArgs {
    /// Slots of an epoch, a multiple of 4. Each epoch draws leaders and relays from a seed of its own
    #[arg(long, value_name = "N", default_value_t = EPOCH_SLOTS_DEFAULT)]
    epoch_slots: u64,
    /// From epoch E on, validator I has another stake, and is no member with 0; the others keep theirs. Epoch 0 says
    /// who comes later. Repeatable
    #[arg(long, value_name = "E:I=STAKE,...")]
    epoch: Vec<StakeChange>,
}

impl EpochArgs {
    /// The stakes of epoch 0 and the epochs after it, for validators of which `--stakes` says the stakes.
    pub(super) fn parameters(&self, stakes: Vec<Stake>) -> Result<(Vec<Stake>, EpochParameters), CliError> {
        change_stakes(stakes, self.epoch_slots, &self.epoch).map_err(CliError::usage)
    }
}
