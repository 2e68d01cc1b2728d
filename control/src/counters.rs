//! Counts of what was dropped, by reason.

use std::collections::BTreeMap;

/// How often each reason applied since the start. The reasons are constants, so there are few.
#[derive(Clone, Debug, Default)]
pub struct Counters(BTreeMap<&'static str, u64>);

impl Counters {
    /// Counts one more.
    pub(crate) fn count(&mut self, reason: &'static str) {
        self.add(reason, 1);
    }

    /// Counts some more.
    pub(crate) fn add(&mut self, reason: &'static str, times: u64) {
        if times > 0 {
            *self.0.entry(reason).or_default() += times;
        }
    }

    /// How often `reason` applied.
    #[must_use]
    pub fn get(&self, reason: &str) -> u64 {
        self.0.get(reason).copied().unwrap_or_default()
    }

    /// Every reason that ever applied, in alphabetical order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.0.iter().map(|(&reason, &times)| (reason, times))
    }
}
