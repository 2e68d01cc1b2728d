//! Ways to draw relays: the protocol's own (PS-P) and those that it is compared with (paper §3.1).
//!
//! In all of them the relays of a slice are drawn seat by seat, independently of each other, so a way is fully
//! described by who may fill each seat with which probability.

use alpenglow_rotor::sampling::RelaySampler;
use alpenglow_rotor::schedule::EpochSeed;
use alpenglow_rotor::types::{Slot, ValidatorIndex};
use alpenglow_rotor::validators::ValidatorSet;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Seats that are filled alike.
#[derive(Clone, Debug)]
pub struct Seats {
    /// How many.
    pub count: usize,
    /// Who may fill one of them and with which probability; the probabilities' sum is 1.
    pub probabilities: Vec<(ValidatorIndex, f64)>,
}

/// A way to draw relays.
pub trait Sampling {
    /// Short name for reports.
    fn name(&self) -> &'static str;

    /// How the `total_shreds` seats of each slice are filled in an epoch with this seed.
    fn seats(&self, validators: &ValidatorSet, seed: EpochSeed, total_shreds: usize) -> Vec<Seats>;
}

/// All ways, the protocol's first.
#[must_use]
pub fn all() -> Vec<Box<dyn Sampling>> {
    vec![Box::new(Partition), Box::new(FaitAccompli), Box::new(StakeWeighted), Box::new(TurbineLike)]
}

/// PS-P, as the node draws.
pub struct Partition;

/// FA1-IID: who has stake for whole seats gets them for certain; all other seats are drawn in proportion to the
/// stakes that are left.
pub struct FaitAccompli;

/// Every seat is drawn in proportion to stake.
pub struct StakeWeighted;

/// Every seat is drawn in proportion to what a validator would send in Turbine: in trees over stake-weighted orders,
/// where the first sends to the next 200, and these share the sending to all others.
pub struct TurbineLike;

/// Children of a node in Turbine's trees.
const FANOUT: usize = 200;
/// Trees from which Turbine's work is estimated.
const TREES: usize = 1_000;

impl Sampling for Partition {
    fn name(&self) -> &'static str {
        "PS-P"
    }

    fn seats(&self, validators: &ValidatorSet, seed: EpochSeed, total_shreds: usize) -> Vec<Seats> {
        let sampler = RelaySampler::new(validators, seed, total_shreds);
        let chances = sampler.chances(Slot::GENESIS) as f64;
        let probability = |(validator, of_chances)| (validator, of_chances as f64 / chances);
        let seats = sampler.seats(Slot::GENESIS);
        seats.map(|seat| Seats { count: 1, probabilities: seat.into_iter().map(probability).collect() }).collect()
    }
}

impl Sampling for FaitAccompli {
    fn name(&self) -> &'static str {
        "FA1-IID"
    }

    fn seats(&self, validators: &ValidatorSet, _: EpochSeed, total_shreds: usize) -> Vec<Seats> {
        let total_stake = u128::from(validators.total_stake().0);
        let owned = |v| u128::from(validators.stake(v).0) * total_shreds as u128;
        let certain = |v| (owned(v) / total_stake) as usize;
        let mut seats: Vec<_> = validators
            .indices()
            .filter(|&v| certain(v) > 0)
            .map(|v| Seats { count: certain(v), probabilities: vec![(v, 1.0)] })
            .collect();
        let drawn = total_shreds - seats.iter().map(|seats| seats.count).sum::<usize>();
        if drawn > 0 {
            let left = validators.indices().map(|v| (v, (owned(v) % total_stake) as f64));
            seats.push(Seats { count: drawn, probabilities: normalized(left.collect()) });
        }
        seats
    }
}

impl Sampling for StakeWeighted {
    fn name(&self) -> &'static str {
        "stake-weighted"
    }

    fn seats(&self, validators: &ValidatorSet, _: EpochSeed, total_shreds: usize) -> Vec<Seats> {
        let stakes = validators.indices().map(|v| (v, validators.stake(v).0 as f64));
        vec![Seats { count: total_shreds, probabilities: normalized(stakes.collect()) }]
    }
}

impl Sampling for TurbineLike {
    fn name(&self) -> &'static str {
        "Turbine-like"
    }

    fn seats(&self, validators: &ValidatorSet, seed: EpochSeed, total_shreds: usize) -> Vec<Seats> {
        let mut random = ChaCha20Rng::from_seed(seed.0);
        let mut sent = vec![0.0; validators.len()];
        let mut order: Vec<(f64, ValidatorIndex)> = Vec::with_capacity(validators.len());
        for _ in 0..TREES {
            // The first to ring, each with an exponential clock of its stake's rate, are a stake-weighted order.
            let ring = |v| (-open_unit(&mut random).ln() / validators.stake(v).0 as f64, v);
            order.clear();
            order.extend(validators.indices().map(ring));
            order.sort_unstable_by(|one, other| one.0.total_cmp(&other.0));
            let children = FANOUT.min(order.len() - 1);
            sent[order[0].1.get()] += children as f64;
            let grandchildren = order.len() - 1 - children;
            for (place, (_, parent)) in order[1..=children].iter().enumerate() {
                sent[parent.get()] += (grandchildren.saturating_sub(place)).div_ceil(FANOUT) as f64;
            }
        }
        let work = validators.indices().zip(sent).filter(|&(_, sent)| sent > 0.0);
        vec![Seats { count: total_shreds, probabilities: normalized(work.collect()) }]
    }
}

/// A number above 0 and up to 1.
fn open_unit(random: &mut ChaCha20Rng) -> f64 {
    const STEPS: u64 = 1 << 53;
    ((random.next_u64() % STEPS) + 1) as f64 / STEPS as f64
}

fn normalized(mut weights: Vec<(ValidatorIndex, f64)>) -> Vec<(ValidatorIndex, f64)> {
    let sum: f64 = weights.iter().map(|(_, weight)| weight).sum();
    weights.iter_mut().for_each(|(_, weight)| *weight /= sum);
    weights
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::rotor_study::validator_set;
    use alpenglow_rotor::types::Stake;

    fn expected_seats(seats: &[Seats], validators: usize) -> Vec<f64> {
        let mut expected = vec![0.0; validators];
        for seats in seats {
            for (validator, probability) in &seats.probabilities {
                expected[validator.get()] += seats.count as f64 * probability;
            }
        }
        expected
    }

    #[test]
    fn every_seat_is_filled_and_all_but_turbine_give_seats_in_proportion_to_stake() {
        let stakes: Vec<_> = (1..=300).map(|stake| Stake(stake * stake)).collect();
        let validators = validator_set(&stakes);
        for sampling in all() {
            let seats = sampling.seats(&validators, EpochSeed([3; 32]), 64);
            assert_eq!(seats.iter().map(|seats| seats.count).sum::<usize>(), 64, "{}", sampling.name());
            for seats in &seats {
                let sum: f64 = seats.probabilities.iter().map(|(_, probability)| probability).sum();
                assert!((sum - 1.0).abs() < 1e-9, "{}", sampling.name());
            }
            if sampling.name() == TurbineLike.name() {
                continue;
            }
            let total = validators.total_stake().0 as f64;
            for (validator, seats) in expected_seats(&seats, stakes.len()).into_iter().enumerate() {
                let fair = 64.0 * stakes[validator].0 as f64 / total;
                assert!((seats - fair).abs() < 1e-9, "{}: {seats} seats for {fair}", sampling.name());
            }
        }
    }

    #[test]
    fn turbine_gives_small_validators_more_than_their_share_and_large_ones_less() {
        let mut stakes = vec![Stake(1); 500];
        stakes.push(Stake(500));
        let validators = validator_set(&stakes);
        let seats = TurbineLike.seats(&validators, EpochSeed([3; 32]), 64);
        let expected = expected_seats(&seats, stakes.len());
        // Half of the stake makes it the root of half of the trees, which send 200 of 500 copies.
        assert!((0.15..0.3).contains(&(expected[500] / 64.0)), "{}", expected[500] / 64.0);
    }
}
