//! Which validators with which stakes an epoch has, and the seed that its leaders and relays are drawn from.
//!
//! A cluster's validators are numbered once, for all its life: keys, addresses and the places in bitmaps never change.
//! What differs from epoch to epoch is their stakes. A validator without stake is no *member* of the epoch: it neither
//! leads nor relays nor votes in its slots.

use std::cmp::Reverse;
use std::num::NonZero;

use sha2::{Digest, Sha256};

use crate::schedule::EpochSeed;
use crate::types::{Slot, Stake, VALIDATORS_MAX, ValidatorIndex, WINDOW_SLOTS};
use crate::validators::ValidatorSet;

/// Length of an epoch unless a cluster says otherwise.
pub const EPOCH_SLOTS_DEFAULT: u64 = 18_000;
/// Most sets that follow each other: what is drawn from is laid out for all of them before a node starts.
pub const EPOCH_SETS_MAX: usize = 64;

const SEED_DOMAIN: &str = "alpenglow later epoch 1";

/// The stakes of one set, by validator index.
#[derive(Clone, Debug)]
pub struct EpochStakes {
    by_validator: Box<[Stake]>,
    total: Stake,
    members: Box<[ValidatorIndex]>,
}

impl EpochStakes {
    fn new(stakes: Vec<Stake>, first_epoch: u64) -> Result<Self, EpochsError> {
        let total = stakes.iter().try_fold(0_u64, |sum, stake| sum.checked_add(stake.0));
        let total = total.ok_or(EpochsError::StakeOverflow { first_epoch })?;
        if total == 0 {
            return Err(EpochsError::Empty { first_epoch });
        }
        let members = (0..).map(ValidatorIndex).zip(&stakes).filter(|(_, stake)| stake.0 > 0).map(|(v, _)| v);
        Ok(Self { members: members.collect(), by_validator: stakes.into(), total: Stake(total) })
    }

    /// The stake of all members, above zero.
    #[must_use]
    pub const fn total(&self) -> Stake {
        self.total
    }

    /// The stake of one validator: zero if it is no member.
    ///
    /// # Panics
    /// If the cluster has no such validator.
    #[must_use]
    pub fn of(&self, validator: ValidatorIndex) -> Stake {
        self.by_validator[validator.get()]
    }

    /// Whether there is such a validator and it has stake.
    #[must_use]
    pub fn is_member(&self, validator: ValidatorIndex) -> bool {
        self.by_validator.get(validator.get()).is_some_and(|stake| stake.0 > 0)
    }

    /// All members, in index order; at least one.
    #[must_use]
    pub fn members(&self) -> &[ValidatorIndex] {
        &self.members
    }

    /// The members, then those that become members with `next`, both by decreasing stake.
    fn audience(&self, next: Option<&Self>) -> Box<[ValidatorIndex]> {
        let mut audience: Vec<_> = self.members.to_vec();
        audience.sort_by_key(|&v| Reverse(self.of(v)));
        if let Some(next) = next {
            let mut joining: Vec<_> = next.members.iter().copied().filter(|&v| !self.is_member(v)).collect();
            joining.sort_by_key(|&v| Reverse(next.of(v)));
            audience.extend(joining);
        }
        audience.into()
    }
}

/// A set and the first epoch that it is for: it stays until the next one's.
#[derive(Clone, Debug)]
struct EpochSet {
    first_epoch: u64,
    stakes: EpochStakes,
    /// Who gets shreds while the next epoch has the same set.
    audience: Box<[ValidatorIndex]>,
    /// Who gets them in the set's last epoch.
    last_audience: Box<[ValidatorIndex]>,
}

/// A list of sets of a genesis file cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EpochsError {
    /// An epoch would begin within a leader's window.
    #[error("an epoch must have a multiple of {WINDOW_SLOTS} slots, above 0, found {found}: windows are never divided")]
    Slots {
        /// Length found.
        found: u64,
    },
    /// More than [`EPOCH_SETS_MAX`].
    #[error("{found} validator sets, at most {EPOCH_SETS_MAX} are possible")]
    TooMany {
        /// Sets found.
        found: usize,
    },
    /// The sets' first epochs do not increase.
    #[error("the set of epoch {found} comes after that of epoch {before}: list sets by increasing first epoch")]
    Order {
        /// The earlier set's first epoch.
        before: u64,
        /// The later set's.
        found: u64,
    },
    /// Nobody has stake.
    #[error("nobody has stake from epoch {first_epoch} on: give stake to one validator at least")]
    Empty {
        /// The set's first epoch.
        first_epoch: u64,
    },
    /// The sum of a set's stakes does not fit 64 bits.
    #[error("the total stake from epoch {first_epoch} on exceeds {}: lower the stakes", u64::MAX)]
    StakeOverflow {
        /// The set's first epoch.
        first_epoch: u64,
    },
    /// A validator that is in no set.
    #[error("validator {validator} has no stake in any epoch: give it stake or leave it out")]
    NeverMember {
        /// Its index.
        validator: usize,
    },
}

/// Every epoch of a cluster's life.
#[derive(Clone, Debug)]
pub struct Epochs {
    seed: EpochSeed,
    /// `None` if epoch 0 never ends.
    slots: Option<NonZero<u64>>,
    /// At least one, the first one of epoch 0.
    sets: Box<[EpochSet]>,
}

impl Epochs {
    /// One epoch without end. `stakes` are those of all validators, in index order.
    ///
    /// # Errors
    /// [`EpochsError`] if somebody has no stake, or the total does not fit 64 bits.
    ///
    /// # Panics
    /// If there are no stakes or more than [`VALIDATORS_MAX`].
    pub fn endless(stakes: Vec<Stake>, seed: EpochSeed) -> Result<Self, EpochsError> {
        Self::with_length(None, stakes, Vec::new(), seed)
    }

    /// Epochs of `slots` slots. `stakes` are those of epoch 0, one for each validator of the cluster in index order,
    /// zero for those that come `later`: first epochs and the stakes from then on, as many.
    ///
    /// # Errors
    /// [`EpochsError`] names the first defect.
    ///
    /// # Panics
    /// If there are no stakes, more than [`VALIDATORS_MAX`], or not as many in every set.
    pub fn new(
        slots: u64,
        stakes: Vec<Stake>,
        later: Vec<(u64, Vec<Stake>)>,
        seed: EpochSeed,
    ) -> Result<Self, EpochsError> {
        let length = NonZero::new(slots).filter(|slots| slots.get().is_multiple_of(WINDOW_SLOTS));
        let length = length.ok_or(EpochsError::Slots { found: slots })?;
        Self::with_length(Some(length), stakes, later, seed)
    }

    fn with_length(
        slots: Option<NonZero<u64>>,
        stakes: Vec<Stake>,
        later: Vec<(u64, Vec<Stake>)>,
        seed: EpochSeed,
    ) -> Result<Self, EpochsError> {
        let validators = stakes.len();
        assert!((1..=VALIDATORS_MAX).contains(&validators), "a cluster has 1 to {VALIDATORS_MAX} validators");
        if later.len() >= EPOCH_SETS_MAX {
            return Err(EpochsError::TooMany { found: later.len() + 1 });
        }
        let mut sets = vec![(0, EpochStakes::new(stakes, 0)?)];
        for (first_epoch, stakes) in later {
            assert!(stakes.len() == validators, "every set has a stake for each validator of the cluster");
            let before = sets[sets.len() - 1].0;
            if first_epoch <= before {
                return Err(EpochsError::Order { before, found: first_epoch });
            }
            sets.push((first_epoch, EpochStakes::new(stakes, first_epoch)?));
        }
        let is_ever_member = |v: &usize| sets.iter().any(|(_, stakes)| stakes.is_member(ValidatorIndex(*v as u16)));
        if let Some(validator) = (0..validators).find(|v| !is_ever_member(v)) {
            return Err(EpochsError::NeverMember { validator });
        }
        let audiences: Vec<_> = (0..sets.len())
            .map(|at| (sets[at].1.audience(None), sets[at].1.audience(sets.get(at + 1).map(|(_, next)| next))))
            .collect();
        let sets = sets.into_iter().zip(audiences).map(|((first_epoch, stakes), (audience, last_audience))| EpochSet {
            first_epoch,
            stakes,
            audience,
            last_audience,
        });
        Ok(Self { seed, slots, sets: sets.collect() })
    }

    /// One epoch without end, in which everybody of `validators` is a member.
    ///
    /// # Panics
    /// If somebody has no stake.
    #[must_use]
    pub fn of_set(validators: &ValidatorSet, seed: EpochSeed) -> Self {
        let stakes = validators.indices().map(|v| validators.stake(v)).collect();
        Self::endless(stakes, seed).expect("everybody in a validator set has stake, and the total fits")
    }

    /// Validators of the cluster, members or not.
    #[must_use]
    pub fn validators(&self) -> usize {
        self.sets[0].stakes.by_validator.len()
    }

    /// The epoch of a slot.
    #[must_use]
    pub fn epoch(&self, slot: Slot) -> u64 {
        self.slots.map_or(0, |slots| slot.0 / slots)
    }

    /// The stakes in a slot: what its votes and certificates count.
    #[must_use]
    pub fn stakes(&self, slot: Slot) -> &EpochStakes {
        &self.sets[self.set_index(slot)].stakes
    }

    /// Which of [`Epochs::sets`] a slot has.
    #[must_use]
    pub fn set_index(&self, slot: Slot) -> usize {
        if self.sets.len() == 1 {
            return 0;
        }
        let epoch = self.epoch(slot);
        self.sets.partition_point(|set| set.first_epoch <= epoch) - 1
    }

    /// All sets that follow each other, at least one.
    pub fn sets(&self) -> impl ExactSizeIterator<Item = &EpochStakes> {
        self.sets.iter().map(|set| &set.stakes)
    }

    /// What a slot's leader and relays are drawn from. In epoch 0 it is the cluster's seed; in a later one
    /// SHA-256("alpenglow later epoch 1" | the cluster's seed | epoch as u64 little-endian).
    #[must_use]
    pub fn seed(&self, slot: Slot) -> EpochSeed {
        self.seed_of(self.epoch(slot))
    }

    fn seed_of(&self, epoch: u64) -> EpochSeed {
        if epoch == 0 {
            return self.seed;
        }
        let hash = Sha256::new().chain_update(SEED_DOMAIN).chain_update(self.seed.0);
        EpochSeed(hash.chain_update(epoch.to_le_bytes()).finalize().into())
    }

    /// The seeds of the sets' first epochs, in the order of [`Epochs::sets`].
    pub(crate) fn set_seeds(&self) -> impl Iterator<Item = EpochSeed> + '_ {
        self.sets.iter().map(|set| self.seed_of(set.first_epoch))
    }

    /// Who gets a slot's shreds, in the order in which copies go out: the members of its epoch by decreasing stake,
    /// then those that become members with the next epoch, so that they hold the chain when their votes count.
    #[must_use]
    pub fn audience(&self, slot: Slot) -> &[ValidatorIndex] {
        let index = self.set_index(slot);
        let set = &self.sets[index];
        let is_last = self.sets.get(index + 1).is_some_and(|next| next.first_epoch - 1 == self.epoch(slot));
        if is_last { &set.last_audience } else { &set.audience }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: EpochSeed = EpochSeed([9; 32]);

    fn stakes(stakes: &[u64]) -> Vec<Stake> {
        stakes.iter().copied().map(Stake).collect()
    }

    fn indices(validators: &[ValidatorIndex]) -> Vec<u16> {
        validators.iter().map(|v| v.0).collect()
    }

    /// Epochs of 8 slots: validator 3 joins with epoch 2, when validator 0 leaves; it returns with epoch 3.
    fn changing() -> Epochs {
        let later = vec![(2, stakes(&[0, 5, 7, 9])), (3, stakes(&[1, 5, 7, 9]))];
        Epochs::new(8, stakes(&[4, 5, 6, 0]), later, SEED).unwrap()
    }

    #[test]
    fn every_slot_has_the_stakes_of_its_epoch() {
        let epochs = changing();
        let totals = [0, 7, 15, 16, 23, 24, 31, 800, u64::MAX].map(|slot| epochs.stakes(Slot(slot)).total().0);
        assert_eq!(totals, [15, 15, 15, 21, 21, 22, 22, 22, 22]);
        assert_eq!((epochs.epoch(Slot(15)), epochs.epoch(Slot(16))), (1, 2));
        let (before, after) = (epochs.stakes(Slot(15)), epochs.stakes(Slot(16)));
        assert_eq!((indices(before.members()), indices(after.members())), (vec![0, 1, 2], vec![1, 2, 3]));
        assert!(before.is_member(ValidatorIndex(0)) && !after.is_member(ValidatorIndex(0)));
        assert!(!after.is_member(ValidatorIndex(4)), "nobody");
        assert_eq!((before.of(ValidatorIndex(2)), after.of(ValidatorIndex(2))), (Stake(6), Stake(7)));
    }

    #[test]
    fn shreds_go_to_members_by_stake_and_in_the_epoch_before_to_those_that_join() {
        let epochs = changing();
        let audience = |slot| indices(epochs.audience(Slot(slot)));
        assert_eq!((audience(0), audience(7)), (vec![2, 1, 0], vec![2, 1, 0]));
        assert_eq!((audience(8), audience(15)), (vec![2, 1, 0, 3], vec![2, 1, 0, 3]));
        assert_eq!((audience(16), audience(23)), (vec![3, 2, 1, 0], vec![3, 2, 1, 0]));
        assert_eq!((audience(24), audience(u64::MAX)), (vec![3, 2, 1, 0], vec![3, 2, 1, 0]));
    }

    #[test]
    fn every_epoch_has_a_seed_of_its_own_and_the_first_one_the_clusters() {
        let epochs = changing();
        assert_eq!((epochs.seed(Slot(0)), epochs.seed(Slot(7))), (SEED, SEED));
        assert_eq!(epochs.seed(Slot(8)), epochs.seed(Slot(15)));
        let seeds: std::collections::BTreeSet<_> = (0..100).map(|epoch| epochs.seed(Slot(8 * epoch)).0).collect();
        assert_eq!(seeds.len(), 100);
        // SHA-256 of the documented bytes, by another implementation.
        assert_eq!(epochs.seed(Slot(8)).0[..8], [30, 66, 252, 59, 25, 172, 87, 25]);
    }

    #[test]
    fn an_endless_epoch_never_changes() {
        let epochs = Epochs::endless(stakes(&[1, 2]), SEED).unwrap();
        assert_eq!((epochs.epoch(Slot(u64::MAX)), epochs.seed(Slot(u64::MAX))), (0, SEED));
        assert_eq!(indices(epochs.audience(Slot(u64::MAX))), [1, 0]);
    }

    #[test]
    fn every_defect_is_refused_with_its_reason() {
        let defect = |slots, first: &[u64], later: &[(u64, &[u64])]| {
            let later = later.iter().map(|(epoch, set)| (*epoch, stakes(set))).collect();
            Epochs::new(slots, stakes(first), later, SEED).unwrap_err()
        };
        assert_eq!(defect(0, &[1], &[]), EpochsError::Slots { found: 0 });
        assert_eq!(defect(6, &[1], &[]), EpochsError::Slots { found: 6 });
        assert_eq!(defect(8, &[1], &[(0, &[1])]), EpochsError::Order { before: 0, found: 0 });
        assert_eq!(defect(8, &[1], &[(3, &[1]), (2, &[1])]), EpochsError::Order { before: 3, found: 2 });
        assert_eq!(defect(8, &[0], &[(1, &[1])]), EpochsError::Empty { first_epoch: 0 });
        assert_eq!(defect(8, &[1, 1], &[(4, &[0, 0])]), EpochsError::Empty { first_epoch: 4 });
        assert_eq!(defect(8, &[1, 1], &[(4, &[u64::MAX, 1])]), EpochsError::StakeOverflow { first_epoch: 4 });
        assert_eq!(defect(8, &[1, 0, 1], &[(4, &[1, 0, 0])]), EpochsError::NeverMember { validator: 1 });
        let many: Vec<(u64, &[u64])> = (1..=64).map(|epoch| (epoch, &[1][..])).collect();
        assert_eq!(defect(8, &[1], &many), EpochsError::TooMany { found: 65 });
        assert!(Epochs::new(8, stakes(&[1]), many[1..].iter().map(|(e, s)| (*e, stakes(s))).collect(), SEED).is_ok());
    }
}
