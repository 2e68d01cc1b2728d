//! Sets of sequence numbers, kept as ranges.

use serde::{Deserialize, Serialize};

/// Most ranges a set keeps. Numbers arrive nearly in order, a hole is a transaction that is under way or lost: a
/// million transactions of which 6% are lost one by one still fit.
const RANGES_MAX: usize = 65_536;

/// A set of sequence numbers in bounded memory: sorted ranges, both ends inclusive, that neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub(crate) struct SequenceRanges {
    ranges: Vec<(u64, u64)>,
}

/// What became of a number given to [`SequenceRanges::insert`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inserted {
    /// It is in the set now.
    New,
    /// It had been in the set.
    Duplicate,
    /// It was left out: the set has as many ranges as it may.
    Full,
}

/// A range whose end lies before its start.
#[derive(Debug, thiserror::Error)]
#[error("a range of sequence numbers ends at {through}, before its start {from}")]
pub(crate) struct InvertedRange {
    from: u64,
    through: u64,
}

impl SequenceRanges {
    /// Adds `number`.
    pub(crate) fn insert(&mut self, number: u64) -> Inserted {
        let after = self.ranges.partition_point(|&(from, _)| from <= number);
        if after > 0 && self.ranges[after - 1].1 >= number {
            return Inserted::Duplicate;
        }
        let joins_before = after > 0 && self.ranges[after - 1].1 + 1 == number;
        let joins_after = after < self.ranges.len() && number + 1 == self.ranges[after].0;
        match (joins_before, joins_after) {
            (true, true) => {
                self.ranges[after - 1].1 = self.ranges[after].1;
                self.ranges.remove(after);
            }
            (true, false) => self.ranges[after - 1].1 = number,
            (false, true) => self.ranges[after].0 = number,
            (false, false) if self.ranges.len() >= RANGES_MAX => return Inserted::Full,
            (false, false) => self.ranges.insert(after, (number, number)),
        }
        Inserted::New
    }

    /// The numbers in this set or in `other`; here the result may have more ranges than a set that grows by insertion.
    pub(crate) fn union(&self, other: &Self) -> Self {
        let mut all: Vec<_> = self.ranges.iter().chain(&other.ranges).copied().collect();
        all.sort_unstable();
        let mut ranges: Vec<(u64, u64)> = Vec::with_capacity(all.len());
        for (from, through) in all {
            match ranges.last_mut() {
                Some(last) if from <= last.1.saturating_add(1) => last.1 = last.1.max(through),
                _ => ranges.push((from, through)),
            }
        }
        Self { ranges }
    }

    /// How many numbers below `limit` are in the set.
    pub(crate) fn count_below(&self, limit: u64) -> u64 {
        self.ranges
            .iter()
            .take_while(|(from, _)| *from < limit)
            .map(|(from, through)| limit.min(through.saturating_add(1)) - from)
            .sum()
    }

    /// The first range of numbers below `limit` that are not in the set, both ends inclusive.
    pub(crate) fn first_hole_below(&self, limit: u64) -> Option<(u64, u64)> {
        let covered =
            self.ranges.first().filter(|(from, _)| *from == 0).map_or(0, |(_, through)| through.saturating_add(1));
        let next = self.ranges.iter().find(|(from, _)| *from >= covered && *from > 0).map_or(limit, |(from, _)| *from);
        (covered < limit).then(|| (covered, next.min(limit) - 1))
    }
}

impl TryFrom<Vec<(u64, u64)>> for SequenceRanges {
    type Error = InvertedRange;

    fn try_from(ranges: Vec<(u64, u64)>) -> Result<Self, InvertedRange> {
        match ranges.iter().find(|(from, through)| from > through) {
            Some(&(from, through)) => Err(InvertedRange { from, through }),
            None => Ok(Self { ranges }.union(&Self::default())),
        }
    }
}

impl From<SequenceRanges> for Vec<(u64, u64)> {
    fn from(set: SequenceRanges) -> Self {
        set.ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn set(numbers: &[u64]) -> SequenceRanges {
        let mut set = SequenceRanges::default();
        for &number in numbers {
            set.insert(number);
        }
        set
    }

    #[test]
    fn numbers_in_any_order_become_ranges_that_do_not_touch() {
        assert_eq!(set(&[3, 1, 2, 9, 7, 8, 5]).ranges, [(1, 3), (5, 5), (7, 9)]);
        assert_eq!(set(&[u64::MAX, u64::MAX - 1, 0]).ranges, [(0, 0), (u64::MAX - 1, u64::MAX)]);
    }

    #[test]
    fn duplicates_are_told_from_new_numbers() {
        let mut set = set(&[4, 5, 6]);
        assert_eq!(
            [set.insert(5), set.insert(7), set.insert(7)],
            [Inserted::Duplicate, Inserted::New, Inserted::Duplicate]
        );
    }

    #[test]
    fn a_full_set_leaves_lone_numbers_out_but_still_closes_holes() {
        let mut set = SequenceRanges::default();
        for hole in 0..RANGES_MAX as u64 {
            assert_eq!(set.insert(2 * hole), Inserted::New);
        }
        assert_eq!(set.insert(1 << 40), Inserted::Full);
        assert_eq!(set.insert(1), Inserted::New);
        assert_eq!(set.insert(1 << 40), Inserted::New);
    }

    #[test]
    fn holes_are_found_at_the_start_in_the_middle_and_at_the_end() {
        assert_eq!(set(&[]).first_hole_below(4), Some((0, 3)));
        assert_eq!(set(&[2]).first_hole_below(4), Some((0, 1)));
        assert_eq!(set(&[0, 1, 3]).first_hole_below(4), Some((2, 2)));
        assert_eq!(set(&[0, 1]).first_hole_below(4), Some((2, 3)));
        assert_eq!(set(&[0, 1, 2, 3, 9]).first_hole_below(4), None);
        assert_eq!(set(&[]).first_hole_below(0), None);
    }

    #[test]
    fn the_written_form_is_checked_and_merged_when_read() {
        let read: SequenceRanges = serde_json::from_str("[[5,9],[0,4],[7,12]]").unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), "[[0,12]]");
        let whole: SequenceRanges = serde_json::from_str("[[0,18446744073709551615],[5,6]]").unwrap();
        assert_eq!(whole.ranges, [(0, u64::MAX)]);
        serde_json::from_str::<SequenceRanges>("[[9,5]]").unwrap_err();
    }

    proptest! {
        #[test]
        fn agrees_with_a_plain_set(numbers in proptest::collection::vec(0u64..64, 0..80), others in proptest::collection::vec(0u64..64, 0..80), limit in 0u64..70) {
            let union = set(&numbers).union(&set(&others));
            let plain: BTreeSet<u64> = numbers.iter().chain(&others).copied().collect();
            prop_assert_eq!(union.count_below(limit), plain.range(..limit).count() as u64);
            prop_assert_eq!(union.first_hole_below(limit).map(|(from, _)| from), (0..limit).find(|number| !plain.contains(number)));
            prop_assert!(union.ranges.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
        }
    }
}
