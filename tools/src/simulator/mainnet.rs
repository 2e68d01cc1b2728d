//! The shape of Solana mainnet around epoch 860, in rounded figures: how stake is spread over validators and places.

use alpenglow_rotor::types::Stake;
use serde::Deserialize;

/// The stake curve that the node's `genesis --stakes mainnet` takes, too.
const CURVE: &str = include_str!("../../../src/mainnet_stakes.json");
const METROS: &str = include_str!("mainnet_metros.json");
/// Validators with stake.
pub const VALIDATORS: usize = 954;
/// All stake.
const STAKE: u64 = 10_000_000_000;
/// What the curve counts shares in.
const SHARES: u128 = 10_000;
const EARTH_RADIUS_KM: f64 = 6_371.0;

#[derive(Deserialize)]
struct Curve {
    validators: u64,
    cumulative_share_by_rank: Vec<(u64, u64)>,
}

/// Stakes of `validators` validators by decreasing stake, in the proportions of mainnet's, whose ranks are stretched or
/// squeezed; between two known ranks all have the same.
///
/// # Panics
/// If there are none, or so many that the last ones would have no stake.
#[must_use]
pub fn stakes(validators: usize) -> Vec<Stake> {
    assert!(validators > 0);
    let curve: Curve = serde_json::from_str(CURVE).expect("the file is part of the program, and tested");
    let through: Vec<u64> = (0..=validators as u64).map(|rank| curve.stake_through(rank, validators as u64)).collect();
    let stakes: Vec<_> = through.windows(2).map(|pair| Stake(pair[1] - pair[0])).collect();
    assert!(stakes.iter().all(|stake| stake.0 > 0));
    stakes
}

impl Curve {
    /// Stake of the first `rank` of `validators` together.
    fn stake_through(&self, rank: u64, validators: u64) -> u64 {
        // Ranks are counted in 1/validators of a rank on the curve, so that all is exact.
        let position = u128::from(rank) * u128::from(self.validators);
        let (mut before_rank, mut before_share) = (0, 0);
        for &(rank, share) in &self.cumulative_share_by_rank {
            let (rank, share) = (u128::from(rank) * u128::from(validators), u128::from(share));
            if position <= rank {
                let run = rank - before_rank;
                let shares = before_share * run + (position - before_rank) * (share - before_share);
                return (u128::from(STAKE) * shares / (run * SHARES)) as u64;
            }
            (before_rank, before_share) = (rank, share);
        }
        STAKE
    }
}

/// A place where validators are.
#[derive(Clone, Debug, Deserialize)]
pub struct Metro {
    /// Its name.
    pub name: String,
    /// Its part of all stake.
    pub share: f64,
    region: String,
    latitude: f64,
    longitude: f64,
}

/// All places and the ways between them.
#[derive(Clone, Debug, Deserialize)]
pub struct Metros {
    /// The places, by decreasing share.
    pub metros: Vec<Metro>,
    within_metro_ms: f64,
    between_metros_ms: f64,
    kilometres_per_ms: f64,
    within_region_factor: f64,
    between_regions_factors: Vec<BetweenRegions>,
}

#[derive(Clone, Debug, Deserialize)]
struct BetweenRegions {
    regions: [String; 2],
    factor: f64,
}

/// Mainnet's places.
#[must_use]
pub fn metros() -> Metros {
    serde_json::from_str(METROS).expect("the file is part of the program, and tested")
}

impl Metros {
    /// The position of the place of this name, in whatever case.
    #[must_use]
    pub fn position(&self, name: &str) -> Option<usize> {
        self.metros.iter().position(|metro| metro.name.eq_ignore_ascii_case(name))
    }

    /// The same with this part of all stake in Europe: spread there, and elsewhere, as before.
    #[must_use]
    pub fn with_europes_share(mut self, share: f64) -> Self {
        let is_there = |metro: &&mut Metro| metro.region == "europe";
        let before: f64 = self.metros.iter_mut().filter(is_there).map(|metro| metro.share).sum();
        for metro in &mut self.metros {
            let factor = if metro.region == "europe" { share / before } else { (1.0 - share) / (1.0 - before) };
            metro.share *= factor;
        }
        self
    }

    /// One way between validators of two places, or of one.
    ///
    /// # Panics
    /// If there is no such place.
    #[must_use]
    pub fn delay_ns(&self, from: usize, to: usize) -> u64 {
        let (one, other) = (&self.metros[from], &self.metros[to]);
        let delay_ms = if from == to {
            self.within_metro_ms
        } else {
            let factor = self.factor(&one.region, &other.region);
            one.kilometres_to(other) / self.kilometres_per_ms * factor + self.between_metros_ms
        };
        // Whole microseconds, whatever the last digits of sines are.
        (delay_ms * 1_000.0).round() as u64 * 1_000
    }

    fn factor(&self, one: &str, other: &str) -> f64 {
        if one == other {
            return self.within_region_factor;
        }
        let joins = |between: &&BetweenRegions| between.regions == [one, other] || between.regions == [other, one];
        self.between_regions_factors.iter().find(joins).expect("the file has all pairs, which is tested").factor
    }
}

impl Metro {
    /// The great circle's length, by the haversine formula.
    fn kilometres_to(&self, other: &Self) -> f64 {
        let (one_latitude, other_latitude) = (self.latitude.to_radians(), other.latitude.to_radians());
        let half_sine = |difference: f64| (difference / 2.0).sin().powi(2);
        let chord = half_sine(other_latitude - one_latitude)
            + one_latitude.cos() * other_latitude.cos() * half_sine((other.longitude - self.longitude).to_radians());
        2.0 * EARTH_RADIUS_KM * chord.sqrt().asin()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stakes_decrease_and_add_up_to_the_known_shares() {
        let curve: Curve = serde_json::from_str(CURVE).unwrap();
        assert_eq!(curve.validators, VALIDATORS as u64);
        let stakes = stakes(VALIDATORS);
        for (rank, share) in curve.cumulative_share_by_rank {
            let through = stakes[..rank as usize].iter().map(|stake| stake.0).sum::<u64>();
            assert_eq!(through, share * (STAKE / 10_000), "through rank {rank}");
        }
    }

    #[test]
    fn other_numbers_of_validators_have_stakes_of_the_same_shape() {
        for validators in [8, 50, 1_000, 1_500, 2_000] {
            let stakes = stakes(validators);
            assert_eq!((stakes.len(), stakes.iter().map(|stake| stake.0).sum()), (validators, STAKE));
            // Rounding makes neighbours differ by a few units.
            assert!(stakes.windows(2).all(|pair| pair[1].0 <= pair[0].0 + 2), "{validators}");
            let half = stakes[..validators / 2].iter().map(|stake| stake.0).sum::<u64>();
            assert!((0.93..0.96).contains(&(half as f64 / STAKE as f64)), "{validators}");
        }
    }

    #[test]
    fn round_trips_are_the_known_ones_within_a_fifth() {
        let metros = metros();
        let known = [
            ("Frankfurt", "Amsterdam", 7.0),
            ("Frankfurt", "London", 13.0),
            ("Frankfurt", "New York", 83.0),
            ("Frankfurt", "Tokyo", 235.0),
            ("Frankfurt", "Singapore", 160.0),
            ("New York", "Tokyo", 165.0),
        ];
        for (one, other, milliseconds) in known {
            let (from, to) = (metros.position(one).unwrap(), metros.position(other).unwrap());
            assert_eq!(metros.delay_ns(from, to), metros.delay_ns(to, from));
            let round_trip = 2.0 * metros.delay_ns(from, to) as f64 / 1e6;
            assert!((round_trip / milliseconds - 1.0).abs() < 0.2, "{one} to {other}: {round_trip}");
        }
    }

    #[test]
    fn all_places_have_ways_between_them_and_all_stake() {
        let metros = metros();
        for from in 0..metros.metros.len() {
            assert!((0..metros.metros.len()).all(|to| metros.delay_ns(from, to) > 0));
        }
        let share = |metros: &Metros, which: fn(&&Metro) -> bool| {
            metros.metros.iter().filter(which).map(|metro| metro.share).sum::<f64>()
        };
        assert!((share(&metros, |_| true) - 1.0).abs() < 1e-9);
        let moved = metros.with_europes_share(0.5);
        assert!((share(&moved, |_| true) - 1.0).abs() < 1e-9);
        assert!((share(&moved, |metro| metro.region == "europe") - 0.5).abs() < 1e-9);
    }
}
