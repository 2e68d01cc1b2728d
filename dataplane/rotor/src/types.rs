//! The vocabulary of the protocol.

use std::fmt;

/// Consecutive slots led by one leader (the paper's `w`).
pub const WINDOW_SLOTS: u64 = 4;
/// Most validators an epoch's set may hold.
pub const VALIDATORS_MAX: usize = 2_000;
/// Most slices a block may hold.
pub const SLICES_MAX: usize = 1_024;

/// The time span in which one block may be made and voted on. Slot 0 is genesis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u64);

impl Slot {
    /// The slot of the genesis block.
    pub const GENESIS: Self = Self(0);

    /// The following slot; the last representable slot is its own successor.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The preceding slot, `None` for genesis.
    #[must_use]
    pub const fn previous(self) -> Option<Self> {
        match self.0.checked_sub(1) {
            Some(slot) => Some(Self(slot)),
            None => None,
        }
    }

    /// Index of the leader window this slot lies in.
    #[must_use]
    pub const fn window(self) -> u64 {
        self.0 / WINDOW_SLOTS
    }

    /// First slot of this slot's window. In window 0 that is slot 1, because genesis is given.
    #[must_use]
    pub const fn window_first(self) -> Self {
        match self.window() {
            0 => Self(1),
            window => Self(window * WINDOW_SLOTS),
        }
    }

    /// Last slot of this slot's window.
    #[must_use]
    pub const fn window_last(self) -> Self {
        Self(self.window() * WINDOW_SLOTS + (WINDOW_SLOTS - 1))
    }

    /// Whether this is the first slot of its window; slot 1 is, genesis is not.
    #[must_use]
    pub const fn is_window_first(self) -> bool {
        self.0 == self.window_first().0
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Position of a slice in its block, below [`SLICES_MAX`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SliceIndex(u16);

impl SliceIndex {
    /// `None` for [`SLICES_MAX`] and above.
    #[must_use]
    pub const fn new(index: usize) -> Option<Self> {
        if index < SLICES_MAX { Some(Self(index as u16)) } else { None }
    }

    /// The position as a number for indexing.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0 as usize
    }
}

/// Position of a shred in its slice, below the cluster's Gamma. Data shreds come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShredIndex(pub u16);

impl ShredIndex {
    /// The position as a number for indexing.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0 as usize
    }
}

/// Position of a validator in the epoch's validator set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValidatorIndex(pub u16);

impl ValidatorIndex {
    /// The position as a number for indexing.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0 as usize
    }
}

/// An amount of stake. Sums within one validator set cannot overflow: [`crate::validators::ValidatorSet`] checks its
/// total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stake(pub u64);

impl Stake {
    /// Whether this is at least `percent` percent of `total`, exactly.
    #[must_use]
    pub const fn is_at_least(self, percent: u8, total: Self) -> bool {
        100 * self.0 as u128 >= percent as u128 * total.0 as u128
    }
}

impl std::ops::Add for Stake {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl std::ops::AddAssign for Stake {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl std::ops::Sub for Stake {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl std::iter::Sum for Stake {
    fn sum<I: Iterator<Item = Self>>(stakes: I) -> Self {
        stakes.fold(Self(0), |sum, stake| sum + stake)
    }
}

/// A SHA-256 digest. Shown as its first eight hexadecimal digits by `Display`, whole by `Debug`.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The genesis block's hash: all zero, so that no Merkle root can be taken for it.
    pub const GENESIS: Self = Self([0; 32]);
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What identifies a block everywhere: the hash alone does not bind the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId {
    /// Slot the block was made for.
    pub slot: Slot,
    /// Root of the tree over its slice roots (paper §2.1).
    pub hash: Hash,
}

impl BlockId {
    /// The genesis block, finalized by definition.
    pub const GENESIS: Self = Self { slot: Slot::GENESIS, hash: Hash::GENESIS };
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.slot, self.hash)
    }
}

/// SHA-256 of the genesis file's bytes: part of everything signed, so nothing is valid in two clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterId(pub [u8; 32]);

/// A point in time: nanoseconds on the node's monotonic clock, whose origin has no meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// This point plus `duration`, at most the last representable point.
    #[must_use]
    pub fn after(self, duration: std::time::Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// Time passed since `earlier`, zero if that is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> std::time::Duration {
        std::time::Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_zero_starts_at_slot_one() {
        assert_eq!(Slot(3).window_first(), Slot(1));
        assert!(Slot(1).is_window_first() && !Slot(0).is_window_first() && !Slot(2).is_window_first());
        assert_eq!((Slot(7).window_first(), Slot(4).window_last()), (Slot(4), Slot(7)));
    }

    #[test]
    fn stake_fractions_are_exact_at_the_largest_stakes() {
        let total = Stake(u64::MAX);
        let exact = u64::MAX / 5 * 3;
        assert!(Stake(exact).is_at_least(60, total));
        assert!(!Stake(exact - 1).is_at_least(60, total));
    }
}
