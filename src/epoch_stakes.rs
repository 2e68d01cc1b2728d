//! How the stakes of a new cluster change with its epochs.

use std::collections::BTreeMap;
use std::str::FromStr;

use alpenglow_rotor::epochs::{EPOCH_SLOTS_DEFAULT, Epochs, EpochsError};
use alpenglow_rotor::schedule::EpochSeed;
use alpenglow_rotor::types::Stake;

/// The epochs of a new cluster: their length, and the stakes that replace those of epoch 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EpochParameters {
    /// Slots of an epoch.
    pub(crate) slots: u64,
    /// First epochs, and from then on the stakes of all validators, in index order.
    pub(crate) later: Vec<(u64, Vec<Stake>)>,
}

impl Default for EpochParameters {
    fn default() -> Self {
        Self { slots: EPOCH_SLOTS_DEFAULT, later: Vec::new() }
    }
}

/// Stakes that are others from an epoch on. Written `E:I=STAKE,J=STAKE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StakeChange {
    epoch: u64,
    stakes: BTreeMap<u16, Stake>,
}

/// Text that is no change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected EPOCH:INDEX=STAKE,... as in 2:4=3,0=0: from epoch 2 on validator 4 has stake 3 and validator 0 none; each validator once"
)]
pub(crate) struct StakeChangeError;

impl FromStr for StakeChange {
    type Err = StakeChangeError;

    fn from_str(text: &str) -> Result<Self, StakeChangeError> {
        let (epoch, changes) = text.split_once(':').ok_or(StakeChangeError)?;
        let epoch = epoch.parse().map_err(|_| StakeChangeError)?;
        let mut stakes = BTreeMap::new();
        for change in changes.split(',') {
            let (index, stake) = change.split_once('=').ok_or(StakeChangeError)?;
            let index = index.parse().map_err(|_| StakeChangeError)?;
            let stake = stake.parse().map(Stake).map_err(|_| StakeChangeError)?;
            if stakes.insert(index, stake).is_some() {
                return Err(StakeChangeError);
            }
        }
        Ok(Self { epoch, stakes })
    }
}

/// Changes that do not make epochs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EpochStakesError {
    /// An index that no validator has.
    #[error("--epoch {epoch}: there is no validator {index}, they are 0 to {}", validators - 1)]
    NoSuchValidator {
        /// Of the change.
        epoch: u64,
        /// The index given.
        index: u16,
        /// How many validators there are.
        validators: usize,
    },
    /// Two changes of one epoch.
    #[error("--epoch {0} is given twice: name all its changes in one")]
    Twice(u64),
    /// What they come to.
    #[error("--epoch, --epoch-slots: {0}")]
    Epochs(#[from] EpochsError),
}

/// The stakes of epoch 0 and the epochs after it, from `stakes` with one `change` after the other by increasing epoch.
/// One of epoch 0 says who is no member at first.
///
/// # Errors
/// [`EpochStakesError`] names the first defect.
///
/// # Panics
/// If there are no stakes.
pub(crate) fn change_stakes(
    mut stakes: Vec<Stake>,
    slots: u64,
    changes: &[StakeChange],
) -> Result<(Vec<Stake>, EpochParameters), EpochStakesError> {
    let mut changes: Vec<_> = changes.iter().collect();
    changes.sort_by_key(|change| change.epoch);
    if let Some(pair) = changes.windows(2).find(|pair| pair[0].epoch == pair[1].epoch) {
        return Err(EpochStakesError::Twice(pair[0].epoch));
    }
    let mut first = stakes.clone();
    let mut later = Vec::new();
    for change in changes {
        for (&index, &stake) in &change.stakes {
            let (epoch, validators) = (change.epoch, stakes.len());
            let changed = stakes.get_mut(usize::from(index));
            *changed.ok_or(EpochStakesError::NoSuchValidator { epoch, index, validators })? = stake;
        }
        match change.epoch {
            0 => first.clone_from(&stakes),
            epoch => later.push((epoch, stakes.clone())),
        }
    }
    Epochs::new(slots, first.clone(), later.clone(), EpochSeed([0; 32]))?;
    Ok((first, EpochParameters { slots, later }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stakes(stakes: &[u64]) -> Vec<Stake> {
        stakes.iter().copied().map(Stake).collect()
    }

    fn changed(first: &[u64], slots: u64, changes: &[&str]) -> Result<(Vec<Stake>, EpochParameters), EpochStakesError> {
        let changes: Vec<StakeChange> = changes.iter().map(|change| change.parse().unwrap()).collect();
        change_stakes(stakes(first), slots, &changes)
    }

    #[test]
    fn changes_build_on_each_other_by_epoch() {
        let (first, epochs) = changed(&[1, 1, 1], 8, &["5:0=9", "0:2=0", "2:2=4,1=0"]).unwrap();
        assert_eq!(first, stakes(&[1, 1, 0]));
        assert_eq!(epochs, EpochParameters { slots: 8, later: vec![(2, stakes(&[1, 0, 4])), (5, stakes(&[9, 0, 4]))] });
        assert_eq!(changed(&[1, 2], EPOCH_SLOTS_DEFAULT, &[]), Ok((stakes(&[1, 2]), EpochParameters::default())));
    }

    #[test]
    fn what_makes_no_epochs_is_refused() {
        let error = |changes: &[&str]| changed(&[1, 1], 8, changes).unwrap_err();
        assert_eq!(error(&["3:2=1"]), EpochStakesError::NoSuchValidator { epoch: 3, index: 2, validators: 2 });
        assert_eq!(error(&["3:1=1", "3:0=1"]), EpochStakesError::Twice(3));
        assert_eq!(error(&["3:1=0,0=0"]), EpochsError::Empty { first_epoch: 3 }.into());
        assert_eq!(error(&["0:1=0"]), EpochsError::NeverMember { validator: 1 }.into());
        assert_eq!(changed(&[1], 6, &[]).unwrap_err(), EpochsError::Slots { found: 6 }.into());
        for text in ["", "2", "2:", "2:1", "2:1=", "2:1=5,", "2:1=5,1=6", "-1:1=5", "2:70000=1", "2:1=-1", "2:1=5 ,2=3"]
        {
            assert_eq!(text.parse::<StakeChange>(), Err(StakeChangeError), "{text:?}");
        }
    }
}
