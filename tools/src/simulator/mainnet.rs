//! The shape of Solana mainnet around epoch 860, in rounded figures.

use alpenglow_rotor::types::Stake;

/// Validators with stake.
pub const VALIDATORS: usize = 954;
/// Ranks by decreasing stake, and how much of all stake the validators up to there have, in units of 0.01%.
const SHARE_THROUGH_RANK: [(usize, u64); 20] = [
    (1, 334),
    (2, 653),
    (3, 916),
    (5, 1_394),
    (10, 2_278),
    (20, 3_370),
    (33, 4_369),
    (50, 5_344),
    (75, 6_321),
    (100, 6_943),
    (150, 7_644),
    (200, 8_084),
    (300, 8_688),
    (400, 9_161),
    (500, 9_510),
    (600, 9_729),
    (700, 9_878),
    (800, 9_965),
    (900, 9_999),
    (VALIDATORS, 10_000),
];
/// Stake in 0.01% of the whole, so that small validators' stakes are whole numbers too.
const STAKE_PER_SHARE: u64 = 1_000_000;

/// Everybody's stake, by decreasing stake; between two known ranks all have the same.
#[must_use]
pub fn stakes() -> Vec<Stake> {
    let mut stakes = Vec::with_capacity(VALIDATORS);
    let (mut rank_before, mut share_before) = (0, 0);
    for (rank, share) in SHARE_THROUGH_RANK {
        let stake = (share - share_before) * STAKE_PER_SHARE / (rank - rank_before) as u64;
        stakes.resize(rank, Stake(stake));
        (rank_before, share_before) = (rank, share);
    }
    stakes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stakes_decrease_and_add_up_to_the_known_shares() {
        let stakes = stakes();
        assert_eq!(stakes.len(), VALIDATORS);
        assert!(stakes.is_sorted_by(|larger, smaller| larger >= smaller) && stakes[VALIDATORS - 1].0 > 0);
        let through = |rank: usize| stakes[..rank].iter().map(|stake| stake.0).sum::<u64>();
        for (rank, share) in SHARE_THROUGH_RANK {
            // Each stake is rounded down to a unit.
            let expected = share * STAKE_PER_SHARE;
            assert!((expected - rank as u64..=expected).contains(&through(rank)), "through rank {rank}");
        }
    }
}
