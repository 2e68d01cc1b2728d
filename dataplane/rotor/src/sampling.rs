//! Which validator relays which shred: partition sampling (PS-P, paper §3.1) in exact integers.
//!
//! With Gamma shreds in a slice, the stakes are measured in units of which a *bin* holds as many as the total stake S,
//! so a validator with stake s owns `s * Gamma` units and all stakes together fill Gamma bins exactly. A validator
//! fills `floor(s * Gamma / S)` bins alone: those seats are certain. What is left of all validators is laid out in an
//! order drawn once for a set of stakes and cut every S units into k bins; of each, one validator is drawn for a slice
//! in proportion to its units there. So the expected number of a validator's seats is exactly `s * Gamma / S`, and only
//! fractions of a seat are left to chance.
//!
//! The seats are then assigned to shred indices in an order drawn for each slice. Otherwise validators with certain
//! seats would always relay the same indices, say the data shreds, and with the drawn order every index has a relay in
//! proportion to stake.

use std::sync::Arc;

use crate::draw;
use crate::epochs::{EpochStakes, Epochs};
use crate::schedule::EpochSeed;
use crate::slice::SliceId;
use crate::types::{Slot, ValidatorIndex};
use crate::validators::ValidatorSet;

const ORDER_DOMAIN: &str = "alpenglow bin order 1";
const SLICE_DOMAIN: &str = "alpenglow slice relays 1";

/// A validator's part of a bin.
#[derive(Clone, Copy, Debug)]
struct Part {
    validator: ValidatorIndex,
    /// The bin's units that belong to this part and to those before it.
    units_through: u64,
}

/// The bins of one set of stakes.
#[derive(Clone, Debug)]
struct Bins {
    /// The units in a bin: the total stake.
    bin_units: u64,
    /// A validator once for each bin that it fills alone, in index order.
    certain: Box<[ValidatorIndex]>,
    /// All bins' parts, one bin after the other.
    parts: Box<[Part]>,
    /// Where each bin ends in `parts`.
    bin_ends: Box<[usize]>,
}

impl Bins {
    fn new(stakes: &EpochStakes, seed: EpochSeed, total_shreds: usize) -> Self {
        let bin_units = stakes.total().0;
        let seats = |v| u128::from(stakes.of(v).0) * total_shreds as u128 / u128::from(bin_units);
        let rest = |v| (u128::from(stakes.of(v).0) * total_shreds as u128 % u128::from(bin_units)) as u64;
        let members = stakes.members().iter().copied();
        let certain: Box<[_]> = members.clone().flat_map(|v| std::iter::repeat_n(v, seats(v) as usize)).collect();
        let mut order: Vec<_> = members.filter(|&v| rest(v) > 0).collect();
        draw::shuffle(&mut draw::stream(ORDER_DOMAIN, &seed, &[]), &mut order);

        let mut parts = Vec::with_capacity(order.len() + total_shreds);
        let mut bin_ends = Vec::with_capacity(total_shreds);
        let mut filled = 0;
        for validator in order {
            let mut left = rest(validator);
            while left > 0 {
                let taken = left.min(bin_units - filled);
                (filled, left) = (filled + taken, left - taken);
                parts.push(Part { validator, units_through: filled });
                if filled == bin_units {
                    bin_ends.push(parts.len());
                    filled = 0;
                }
            }
        }
        assert!(filled == 0 && certain.len() + bin_ends.len() == total_shreds, "all stakes fill Gamma bins exactly");
        Self { bin_units, certain, parts: parts.into(), bin_ends: bin_ends.into() }
    }
}

/// Draws a slice's relays.
#[derive(Clone, Debug)]
pub struct RelaySampler {
    epochs: Arc<Epochs>,
    total_shreds: usize,
    /// By set of [`Epochs::sets`].
    sets: Box<[Bins]>,
}

impl RelaySampler {
    /// The relays that `seed` gives among `validators`, in one epoch without end; see [`RelaySampler::of_epochs`].
    #[must_use]
    pub fn new(validators: &ValidatorSet, seed: EpochSeed, total_shreds: usize) -> Self {
        Self::of_epochs(Arc::new(Epochs::of_set(validators, seed)), total_shreds)
    }

    /// Fills the bins of each set: `total_shreds` (Gamma) of them, as many as a slice has shreds. The order of what is
    /// left of the stakes is a Fisher-Yates shuffle of the index order, from the ChaCha20 stream keyed by
    /// SHA-256("alpenglow bin order 1" | seed of the set's first epoch).
    #[must_use]
    pub fn of_epochs(epochs: Arc<Epochs>, total_shreds: usize) -> Self {
        let bins = epochs.sets().zip(epochs.set_seeds()).map(|(stakes, seed)| Bins::new(stakes, seed, total_shreds));
        Self { total_shreds, sets: bins.collect(), epochs }
    }

    /// Number of seats that [`RelaySampler::sample`] fills: Gamma.
    #[must_use]
    pub const fn total_shreds(&self) -> usize {
        self.total_shreds
    }

    /// Who fills each seat of a slice of `slot` with how many chances out of [`RelaySampler::chances`]: the certain
    /// seats, then the drawn ones. Seats are drawn independently of each other, before they are assigned to shred
    /// indices.
    pub fn seats(&self, slot: Slot) -> impl Iterator<Item = Vec<(ValidatorIndex, u64)>> + '_ {
        let bins = self.bins(slot);
        let certain = bins.certain.iter().map(|&validator| vec![(validator, bins.bin_units)]);
        let starts = std::iter::once(0).chain(bins.bin_ends.iter().copied());
        let drawn = starts.zip(&bins.bin_ends).map(|(start, &end)| {
            let mut before = 0;
            let units = |part: &Part| {
                let units = part.units_through - before;
                before = part.units_through;
                (part.validator, units)
            };
            bins.parts[start..end].iter().map(units).collect()
        });
        certain.chain(drawn)
    }

    /// The chances that those who may fill a seat have together: the total stake.
    #[must_use]
    pub fn chances(&self, slot: Slot) -> u64 {
        self.bins(slot).bin_units
    }

    fn bins(&self, slot: Slot) -> &Bins {
        &self.sets[self.epochs.set_index(slot)]
    }

    /// Writes the relay of each shred index of the slice to `relays`. From the ChaCha20 stream keyed by
    /// SHA-256("alpenglow slice relays 1" | epoch seed | slot as u64 | slice as u16, both little-endian), first each
    /// bin's draw, in bin order, then a Fisher-Yates shuffle of the seats: the certain ones in index order, then the
    /// drawn ones.
    ///
    /// Allocates nothing; it costs a few microseconds, so a slice's relays should be remembered for its shreds.
    ///
    /// # Panics
    /// If `relays` is not as long as a slice has shreds.
    pub fn sample(&self, slice: SliceId, relays: &mut [ValidatorIndex]) {
        assert_eq!(relays.len(), self.total_shreds(), "one relay for each shred");
        let mut place = [0; 10];
        place[..8].copy_from_slice(&slice.slot.0.to_le_bytes());
        place[8..].copy_from_slice(&(slice.index.get() as u16).to_le_bytes());
        let mut stream = draw::stream(SLICE_DOMAIN, &self.epochs.seed(slice.slot), &place);

        let bins = self.bins(slice.slot);
        let (certain, drawn) = relays.split_at_mut(bins.certain.len());
        certain.copy_from_slice(&bins.certain);
        let mut start = 0;
        for (relay, &end) in drawn.iter_mut().zip(&bins.bin_ends) {
            let bin = &bins.parts[start..end];
            let unit = draw::below(&mut stream, bins.bin_units);
            *relay = bin[bin.partition_point(|part| part.units_through <= unit)].validator;
            start = end;
        }
        draw::shuffle(&mut stream, relays);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::SliceIndex;
    use crate::validators::tests::set;

    fn slice(slot: u64, index: usize) -> SliceId {
        SliceId { slot: Slot(slot), index: SliceIndex::new(index).unwrap() }
    }

    fn sample(sampler: &RelaySampler, id: SliceId) -> Vec<u16> {
        let mut relays = vec![ValidatorIndex(0); sampler.total_shreds()];
        sampler.sample(id, &mut relays);
        relays.iter().map(|v| v.0).collect()
    }

    /// Each validator's units over all seats.
    fn units(sampler: &RelaySampler, validators: usize) -> Vec<u128> {
        let mut units = vec![0; validators];
        for seat in sampler.seats(Slot(0)) {
            for &(validator, chances) in &seat {
                assert!(chances > 0, "a part is never empty");
                units[validator.get()] += u128::from(chances);
            }
            let filled: u64 = seat.iter().map(|(_, chances)| chances).sum();
            assert_eq!(filled, sampler.chances(Slot(0)), "every seat is filled to the unit");
        }
        units
    }

    /// Expected values come from an independent implementation of SHA-256, ChaCha20 and the draws as documented.
    #[test]
    fn golden_relays() {
        let seed = EpochSeed(std::array::from_fn(|i| i as u8));
        let small = RelaySampler::new(&set(&[40, 9, 7, 31, 3, 3, 3, 2, 1, 1]), seed, 16);
        assert_eq!(sample(&small, slice(0, 0)), [0, 0, 3, 8, 3, 3, 2, 0, 3, 1, 3, 0, 0, 2, 1, 0]);
        assert_eq!(sample(&small, slice(77, 1_023)), [3, 6, 2, 0, 3, 3, 0, 1, 3, 0, 0, 3, 7, 3, 0, 0]);
        let large = RelaySampler::new(&set(&[1 << 63, 1 << 62, 1 << 61, 12_345, (1 << 61) - 20_000]), seed, 20);
        let expected = [4, 0, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 2, 1, 2, 1, 0, 2, 1, 1];
        assert_eq!(sample(&large, slice(u64::MAX, 5)), expected);
    }

    #[test]
    fn equal_stakes_that_divide_the_seats_leave_nothing_to_chance() {
        let sampler = RelaySampler::new(&set(&[7; 16]), EpochSeed([1; 32]), 64);
        let mut relays = sample(&sampler, slice(9, 3));
        relays.sort_unstable();
        assert_eq!(relays, (0..16).flat_map(|v| [v; 4]).collect::<Vec<_>>());
    }

    #[test]
    fn a_lone_validator_relays_everything() {
        let sampler = RelaySampler::new(&set(&[u64::MAX]), EpochSeed([1; 32]), 255);
        assert_eq!(sample(&sampler, slice(1, 0)), [0; 255]);
    }

    #[test]
    fn certain_seats_do_not_always_take_the_data_shreds() {
        let sampler = RelaySampler::new(&set(&[50, 25, 25]), EpochSeed([1; 32]), 64);
        let data_seats_of_the_largest =
            |slot| sample(&sampler, slice(slot, 0))[..32].iter().filter(|&&v| v == 0).count();
        let seats: Vec<_> = (0..50).map(data_seats_of_the_largest).collect();
        let mean = seats.iter().sum::<usize>() as f64 / 50.0;
        assert!((14.0..18.0).contains(&mean), "{seats:?}");
        assert!(seats.iter().any(|&count| count != seats[0]));
    }

    /// Nodes that sample from anything but the common seed disagree on most relays.
    #[test]
    fn defect_14_two_nodes_with_one_seed_agree_on_every_relay_and_other_seeds_or_slices_differ() {
        let stakes: Vec<u64> = (1..=150).collect();
        let [here, there] = [(); 2].map(|()| RelaySampler::new(&set(&stakes), EpochSeed([4; 32]), 64));
        let other = RelaySampler::new(&set(&stakes), EpochSeed([5; 32]), 64);
        for id in (0..40).map(|count| slice(count / 4, (count % 4) as usize)) {
            assert_eq!(sample(&here, id), sample(&there, id));
            assert_ne!(sample(&here, id), sample(&other, id));
        }
        assert_ne!(sample(&here, slice(1, 0)), sample(&here, slice(0, 1)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn expected_seats_are_exactly_proportional_to_stake(
            stakes in prop::collection::vec(prop_oneof![1..10_u64, 1..u64::MAX / 300], 1..120), seed: [u8; 32], total_shreds in 2..=255_usize,
        ) {
            let validators = set(&stakes);
            let sampler = RelaySampler::new(&validators, EpochSeed(seed), total_shreds);
            let expected: Vec<_> = stakes.iter().map(|&stake| u128::from(stake) * total_shreds as u128).collect();
            prop_assert_eq!(units(&sampler, stakes.len()), expected);

            let relays = sample(&sampler, slice(5, 6));
            for (v, &stake) in stakes.iter().enumerate() {
                let seats = relays.iter().filter(|&&relay| usize::from(relay) == v).count() as u128;
                let owned = u128::from(stake) * total_shreds as u128;
                let certain = owned / u128::from(validators.total_stake().0);
                // What is left is less than one bin, so it lies in at most two.
                prop_assert!((certain..=certain + 2).contains(&seats), "{seats} seats, {certain} certain");
            }
        }
    }
}
