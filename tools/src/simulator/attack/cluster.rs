//! What all nodes of a run know: keys, stakes, who leads and who relays.

use std::sync::Arc;

use alpenglow_control::bls::SecretKey;
use alpenglow_control::stakes::Stakes;
use alpenglow_control::voting_keys::VotingKeys;
use alpenglow_rotor::epochs::Epochs;
use alpenglow_rotor::parameters::{Code, CodingParameters};
use alpenglow_rotor::sampling::RelaySampler;
use alpenglow_rotor::schedule::{EpochSeed, LeaderSchedule, ScheduleKind};
use alpenglow_rotor::slice::SliceId;
use alpenglow_rotor::types::{ClusterId, Slot, Stake, ValidatorIndex};
use alpenglow_rotor::validators::ValidatorSet;
use ed25519_dalek::SigningKey;

pub(super) const CLUSTER: ClusterId = ClusterId([42; 32]);

/// The stakes of all nodes: of each epoch, the last ones for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StakeTable {
    /// `None` if the first epoch never ends.
    pub(super) epoch_slots: Option<u64>,
    pub(super) by_epoch: Vec<Vec<u64>>,
}

impl StakeTable {
    pub(super) fn endless(stakes: Vec<u64>) -> Self {
        Self { epoch_slots: None, by_epoch: vec![stakes] }
    }

    pub(super) fn at(&self, slot: Slot) -> &[u64] {
        let epoch = self.epoch_slots.map_or(0, |slots| (slot.0 / slots) as usize);
        &self.by_epoch[epoch.min(self.by_epoch.len() - 1)]
    }

    pub(super) fn nodes(&self) -> usize {
        self.by_epoch[0].len()
    }
}

pub(super) struct Cluster {
    pub(super) coding: CodingParameters,
    pub(super) validators: ValidatorSet,
    pub(super) table: StakeTable,
    pub(super) stakes: Arc<Stakes>,
    pub(super) schedule: Arc<LeaderSchedule>,
    pub(super) keys: Arc<VotingKeys>,
    pub(super) scheme: Scheme,
    sampler: RelaySampler,
}

pub(super) fn identity(node: usize) -> SigningKey {
    let mut seed = [9; 32];
    seed[..8].copy_from_slice(&(node as u64).to_le_bytes());
    SigningKey::from_bytes(&seed)
}

/// What votes are signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Curve,
    StandIn,
}

impl Scheme {
    pub(super) fn secret(self, node: usize) -> SecretKey {
        let mut seed = [8; 32];
        seed[..8].copy_from_slice(&(node as u64).to_le_bytes());
        match self {
            Self::Curve => SecretKey::from_entropy(&seed),
            Self::StandIn => SecretKey::stand_in(&seed),
        }
    }

    /// Keys of `nodes` validators, the same in all runs.
    pub(super) fn voting_keys(self, nodes: usize) -> Arc<VotingKeys> {
        let secrets = (0..nodes).map(|node| self.secret(node));
        Arc::new(match self {
            Self::Curve => {
                let keys: Vec<_> =
                    secrets.map(|secret| (secret.public_key().to_bytes(), secret.prove_possession())).collect();
                VotingKeys::new(&keys).expect("distinct keys with their proofs")
            }
            Self::StandIn => VotingKeys::stand_in(secrets.map(|secret| secret.public_key()).collect()),
        })
    }
}

impl Cluster {
    pub(super) fn new(keys: &Arc<VotingKeys>, scheme: Scheme, table: StakeTable, seed: EpochSeed) -> Self {
        let coding = CodingParameters::new(Code::Rs8, 6, 12, 192, 1_232).expect("a small code");
        let set = (0..table.nodes()).map(|node| (identity(node).verifying_key().to_bytes(), Stake(1))).collect();
        let sets = table.by_epoch.iter().map(|stakes| stakes.iter().copied().map(Stake).collect::<Vec<_>>());
        let mut sets = sets.enumerate().map(|(epoch, stakes)| (epoch as u64, stakes));
        let (_, first) = sets.next().expect("a first epoch");
        let epochs = match table.epoch_slots {
            None => Epochs::endless(first, seed),
            Some(slots) => Epochs::new(slots, first, sets.collect(), seed),
        };
        let epochs = Arc::new(epochs.expect("stakes that can be"));
        Self {
            coding,
            validators: ValidatorSet::new(set).expect("distinct identities with stake"),
            stakes: Arc::new(Stakes::of_epochs(Arc::clone(&epochs))),
            schedule: Arc::new(LeaderSchedule::of_epochs(ScheduleKind::RoundRobin, Arc::clone(&epochs))),
            sampler: RelaySampler::of_epochs(epochs, coding.total_shreds()),
            table,
            keys: Arc::clone(keys),
            scheme,
        }
    }

    pub(super) const fn nodes(&self) -> usize {
        self.validators.len()
    }

    pub(super) fn leader(&self, slot: Slot) -> usize {
        self.schedule.leader(slot).get()
    }

    /// The relays of a slice's shreds, in their order.
    pub(super) fn relays(&self, id: SliceId) -> Vec<ValidatorIndex> {
        let mut relays = vec![ValidatorIndex::default(); self.coding.total_shreds()];
        self.sampler.sample(id, &mut relays);
        relays
    }

    /// Who gets a slot's shreds.
    pub(super) fn audience(&self, slot: Slot) -> &[ValidatorIndex] {
        self.schedule.epochs().audience(slot)
    }
}
