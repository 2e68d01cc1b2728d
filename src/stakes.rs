//! The stakes of a new cluster's validators.

use std::str::FromStr;

use alpenglow_rotor::types::{Stake, VALIDATORS_MAX};
use serde::Deserialize;

/// Total stake of a mainnet-like cluster.
const MAINNET_TOTAL: u64 = 400_000_000;
/// Mainnet's distribution.
const MAINNET: &str = include_str!("mainnet_stakes.json");
/// The unit of its shares.
const SHARES: u128 = 10_000;

/// How stake is distributed: `equal`, `mainnet`, or a list as in `5,1,1`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum StakeDistribution {
    /// One unit each.
    #[default]
    Equal,
    /// In the proportions of Solana mainnet, squeezed or stretched to the number of validators. The fewer there are,
    /// the more of mainnet's validators each stands for: of 20, the first has half of all stake.
    Mainnet,
    /// One stake for each validator.
    List(Vec<Stake>),
}

/// Text that is no distribution.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected equal, mainnet, or a stake above 0 for each validator, separated by commas, with a sum below 2^64")]
pub(crate) struct DistributionError;

/// A list that does not fit the validators.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{stakes} stakes are given for {validators} validators; give one for each")]
pub(crate) struct StakeCountError {
    stakes: usize,
    validators: usize,
}

impl FromStr for StakeDistribution {
    type Err = DistributionError;

    fn from_str(text: &str) -> Result<Self, DistributionError> {
        match text {
            "equal" => return Ok(Self::Equal),
            "mainnet" => return Ok(Self::Mainnet),
            _ => {}
        }
        let stakes: Result<Vec<u64>, _> = text.split(',').take(VALIDATORS_MAX + 1).map(str::parse).collect();
        let stakes = stakes.map_err(|_| DistributionError)?;
        let total = stakes.iter().try_fold(0, |sum: u64, &stake| sum.checked_add(stake));
        if stakes.contains(&0) || total.is_none() {
            return Err(DistributionError);
        }
        Ok(Self::List(stakes.into_iter().map(Stake).collect()))
    }
}

impl std::fmt::Display for StakeDistribution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Equal => f.write_str("equal"),
            Self::Mainnet => f.write_str("mainnet"),
            Self::List(stakes) => stakes.iter().enumerate().try_for_each(|(position, stake)| {
                let comma = if position == 0 { "" } else { "," };
                write!(f, "{comma}{}", stake.0)
            }),
        }
    }
}

impl StakeDistribution {
    /// The stakes of `validators` validators (1 to [`VALIDATORS_MAX`]), all above 0.
    ///
    /// # Errors
    /// [`StakeCountError`] for a list of another length.
    pub(crate) fn stakes(&self, validators: usize) -> Result<Vec<Stake>, StakeCountError> {
        match self {
            Self::Equal => Ok(vec![Stake(1); validators]),
            Self::Mainnet => Ok(mainnet(validators)),
            Self::List(stakes) if stakes.len() == validators => Ok(stakes.clone()),
            Self::List(stakes) => Err(StakeCountError { stakes: stakes.len(), validators }),
        }
    }
}

/// The file of mainnet's distribution.
#[derive(Deserialize)]
struct Curve {
    validators: u64,
    cumulative_share_by_rank: Vec<(u64, u64)>,
}

fn mainnet(validators: usize) -> Vec<Stake> {
    let curve: Curve = serde_json::from_str(MAINNET).expect("the file is part of the program, and tested");
    let through: Vec<u64> = (0..=validators).map(|rank| curve.stake_through(rank, validators)).collect();
    through.windows(2).map(|pair| Stake((pair[1] - pair[0]).max(1))).collect()
}

impl Curve {
    /// Stake of the first `rank` of `validators` together: the curve at `rank / validators` of its length, on straight
    /// lines between its points.
    fn stake_through(&self, rank: usize, validators: usize) -> u64 {
        // Positions on the curve are counted in 1/validators of a rank there, so that they are integers.
        let (unit, position) = (validators as u128, rank as u128 * u128::from(self.validators));
        let points =
            || self.cumulative_share_by_rank.iter().map(|&(rank, share)| (u128::from(rank), u128::from(share)));
        let mut before = (0, 0);
        for point in points() {
            if position <= point.0 * unit {
                let (run, rise) = ((point.0 - before.0) * unit, point.1 - before.1);
                // The share at this position, times SHARES and the length of this line, which keeps it exact.
                let share = before.1 * run + (position - before.0 * unit) * rise;
                let stake = u128::from(MAINNET_TOTAL) * share / (run * SHARES);
                return u64::try_from(stake).expect("a share of the total");
            }
            before = point;
        }
        MAINNET_TOTAL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(stakes: &[Stake]) -> f64 {
        stakes.iter().copied().sum::<Stake>().0 as f64 / MAINNET_TOTAL as f64
    }

    #[test]
    fn mainnets_own_number_of_validators_gives_its_curve() {
        let stakes = mainnet(954);
        for (rank, expected) in [(1, 0.0334), (10, 0.2278), (100, 0.6943), (500, 0.951), (954, 1.0)] {
            assert!((share(&stakes[..rank]) - expected).abs() < 1e-6, "{rank}");
        }
    }

    #[test]
    fn any_number_of_validators_gets_decreasing_stakes_that_add_up() {
        for validators in [1, 2, 5, 20, 953, 955, 2_000] {
            let stakes = mainnet(validators);
            assert_eq!(stakes.len(), validators);
            assert_eq!(stakes.iter().copied().sum::<Stake>(), Stake(MAINNET_TOTAL));
            // Rounding down twice makes neighbours differ by one.
            assert!(stakes.windows(2).all(|pair| pair[1].0 <= pair[0].0 + 1 && pair[1].0 > 0), "{validators}");
        }
        assert!((share(&mainnet(20)[..1]) - 0.52).abs() < 0.01);
    }

    #[test]
    fn distributions_are_written_as_they_are_read() {
        for text in ["equal", "mainnet", "5,1,18446744073709551609", "7"] {
            assert_eq!(text.parse::<StakeDistribution>().unwrap().to_string(), text);
        }
        for text in ["", "Equal", "1,0", "1,", "1, 2", "-1", "1.5", "18446744073709551615,1"] {
            assert_eq!(text.parse::<StakeDistribution>(), Err(DistributionError), "{text:?}");
        }
    }

    #[test]
    fn a_list_must_have_a_stake_for_each_validator() {
        let list: StakeDistribution = "5,1,1".parse().unwrap();
        assert_eq!(list.stakes(3).unwrap(), [5, 1, 1].map(Stake));
        assert_eq!(list.stakes(5), Err(StakeCountError { stakes: 3, validators: 5 }));
    }
}
