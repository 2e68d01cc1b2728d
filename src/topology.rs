//! Who runs where, and which queue joins whom.
//!
//! ```text
//! shard threads (0..K)  ──slices, messages──►  control thread  ──check jobs──►  verifier threads (0..V)
//!          ▲                                    │  │   ▲                            │
//!          └──slices to send, votes, ──────────┘  │   └────────verdicts────────────┘
//!             certificates, transactions          ├──finalized blocks──►  application thread
//!                                                 ├──proofs───────────►  evidence thread
//!                                                 ├──blocks───────────►  block-log thread (which answers)
//!                                                 ├──reservations─────►  vote-log thread (which answers)
//!                                                 └──node events──────►  telemetry thread
//! ```
//!
//! Shards and control are pinned when cores are assigned; verifiers, application, evidence, block-log, vote-log and
//! telemetry are never pinned: they run wherever a core is free. Every arrow is a bounded queue, and nobody waits for a
//! full one.

use std::fmt;
use std::num::NonZero;

use crate::config::{CorePolicy, PollPolicy};

/// Finalized blocks that may wait for the application: far more than it lags behind by in practice. A node whose
/// application falls further behind than this says so and skips measuring blocks; consensus never waits for it.
pub(crate) const APPLICATION_QUEUE_BLOCKS: usize = 64;
/// Proofs that may wait to be written out; more are counted and dropped. They come one by one: the ledger of control
/// lets few pass of each validator.
pub(crate) const EVIDENCE_QUEUE: usize = 256;
/// Events that may wait to be written out, a few per slot; more are counted and dropped.
pub(crate) const EVENT_QUEUE: usize = 4_096;

/// The placement of one node's threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Core of each shard, `None` for unpinned.
    pub(crate) shard_cores: Vec<Option<usize>>,
    /// Core of the control thread.
    pub(crate) control_core: Option<usize>,
    /// Whether shards and control spin.
    pub(crate) spin: bool,
    /// Number of verifier threads.
    pub(crate) verifiers: usize,
}

/// For a log line.
impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shard_cores, control_core, spin, verifiers } = self;
        let how = if *spin { "spinning" } else { "waiting in the kernel" };
        let count = |number, what| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
        write!(f, "{} and control, {how}, ", count(shard_cores.len(), "shard"))?;
        match control_core {
            Some(control) => {
                let shards: Vec<String> = shard_cores.iter().flatten().map(usize::to_string).collect();
                write!(f, "on cores {} and {control}", shards.join(", "))?;
            }
            None => f.write_str("on any core")?,
        }
        write!(f, "; {}", count(*verifiers, "verifier"))
    }
}

/// Why a placement is impossible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LayoutError {
    /// The core list does not cover the pinned threads.
    #[error("`cores` names {found} cores but {shards} shards and the control thread need {}: name that many, or set cores = \"auto\"", shards + 1)]
    CoreCount {
        /// Cores named.
        found: usize,
        /// Shards configured.
        shards: usize,
    },
    /// A core that this process may not use.
    #[error(
        "core {core} of `cores` is not available to this process (available: {available:?}); choose others or widen its CPU affinity"
    )]
    NoSuchCore {
        /// The core named.
        core: usize,
        /// What the process may use.
        available: Vec<usize>,
    },
}

/// Cores that this process may run on, in increasing order; empty where the system does not tell.
pub(crate) fn available_cores() -> Vec<usize> {
    let mut cores: Vec<usize> = core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    cores.sort_unstable();
    cores
}

impl Layout {
    /// Places `shards` shard threads, control and the verifiers (`None`: as many as cores are left, at least one) on
    /// `available` cores.
    ///
    /// # Errors
    /// [`LayoutError`] if a core list does not fit.
    pub(crate) fn plan(
        cores: &CorePolicy,
        poll: PollPolicy,
        shards: NonZero<usize>,
        verifiers: Option<NonZero<usize>>,
        available: &[usize],
    ) -> Result<Self, LayoutError> {
        let shards = shards.get();
        let pinned = shards + 1;
        let room = available.len() > pinned;
        let chosen: Option<&[usize]> = match cores {
            CorePolicy::Unpinned => None,
            CorePolicy::Auto => room.then(|| &available[available.len() - pinned..]),
            CorePolicy::List(list) if list.len() != pinned => {
                return Err(LayoutError::CoreCount { found: list.len(), shards });
            }
            CorePolicy::List(list) => Some(list),
        };
        if let Some(&core) = chosen.and_then(|list| list.iter().find(|core| !available.contains(core))) {
            return Err(LayoutError::NoSuchCore { core, available: available.to_vec() });
        }
        let left = available.len().saturating_sub(pinned);
        Ok(Self {
            shard_cores: (0..shards).map(|shard| chosen.map(|list| list[shard])).collect(),
            control_core: chosen.map(|list| list[shards]),
            spin: match poll {
                PollPolicy::Spin => true,
                PollPolicy::Wait => false,
                PollPolicy::Auto => room && chosen.is_some(),
            },
            verifiers: verifiers.map_or(left.max(1), NonZero::get),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: NonZero<usize> = NonZero::<usize>::MIN;

    #[test]
    fn auto_pins_and_spins_only_with_a_core_to_spare() {
        let plan =
            |available: &[usize]| Layout::plan(&CorePolicy::Auto, PollPolicy::Auto, ONE, None, available).unwrap();
        let roomy = plan(&[0, 1, 2, 3]);
        assert_eq!(
            (roomy.shard_cores, roomy.control_core, roomy.spin, roomy.verifiers),
            (vec![Some(2)], Some(3), true, 2)
        );
        let tight = plan(&[0, 1]);
        assert_eq!((tight.shard_cores, tight.control_core, tight.spin, tight.verifiers), (vec![None], None, false, 1));
    }

    #[test]
    fn a_layout_is_told_in_a_line() {
        let told = |cores, poll, shards| {
            let shards = NonZero::new(shards).unwrap();
            Layout::plan(&cores, poll, shards, None, &[0, 1, 2, 3]).unwrap().to_string()
        };
        assert_eq!(
            told(CorePolicy::Auto, PollPolicy::Auto, 2),
            "2 shards and control, spinning, on cores 1, 2 and 3; 1 verifier"
        );
        assert_eq!(
            told(CorePolicy::Unpinned, PollPolicy::Auto, 1),
            "1 shard and control, waiting in the kernel, on any core; 2 verifiers"
        );
    }

    #[test]
    fn a_core_list_must_fit_the_threads_and_the_machine() {
        let plan =
            |list: &[usize]| Layout::plan(&CorePolicy::List(list.to_vec()), PollPolicy::Auto, ONE, None, &[0, 1, 2, 3]);
        assert_eq!(plan(&[1]), Err(LayoutError::CoreCount { found: 1, shards: 1 }));
        assert_eq!(plan(&[1, 9]), Err(LayoutError::NoSuchCore { core: 9, available: vec![0, 1, 2, 3] }));
        assert_eq!(plan(&[1, 2]).unwrap().control_core, Some(2));
    }

    #[test]
    fn nothing_spins_unpinned_by_itself() {
        let layout = Layout::plan(&CorePolicy::Unpinned, PollPolicy::Auto, ONE, Some(ONE), &[0, 1, 2, 3]).unwrap();
        assert!(!layout.spin && layout.shard_cores == vec![None] && layout.verifiers == 1);
    }
}
