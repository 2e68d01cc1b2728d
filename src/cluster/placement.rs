//! Which cores the nodes of a run use. A node alone would take the best cores of the host for itself; several nodes
//! have to be told apart.

use std::num::NonZero;

use crate::config::{CorePolicy, NewConfig, PollPolicy};

/// How the threads of all nodes are placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placement {
    nodes: usize,
    /// Threads of a node that are pinned: its shards, then control.
    pinned: usize,
    /// Cores dealt out in turn, none if no thread is pinned.
    cores: Vec<usize>,
    poll: PollPolicy,
    verifiers: NonZero<usize>,
}

/// A list of cores that cannot be dealt out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlacementError {
    /// A core that this process may not use.
    #[error("--cores: there is no core {core}, this process may use {available:?}")]
    NoSuchCore {
        /// The core named.
        core: usize,
        /// Those that there are.
        available: Vec<usize>,
    },
    /// Fewer cores than one node pins threads.
    #[error("--cores: {found} given, a node of {shards} shards needs {} different ones: one for each and one for control", shards + 1)]
    TooFew {
        /// Cores named.
        found: usize,
        /// Shards of a node.
        shards: usize,
    },
}

impl Placement {
    /// Places `nodes` nodes of `shards` shards each. Cores that are `listed` are dealt out in turn, shared if they are
    /// fewer than threads; without a list, threads are pinned only if each gets one of the `available` cores for itself
    /// and one is left.
    ///
    /// # Errors
    /// [`PlacementError`].
    pub(crate) fn plan(
        nodes: usize,
        shards: NonZero<usize>,
        listed: Option<&[usize]>,
        poll: PollPolicy,
        available: &[usize],
    ) -> Result<Self, PlacementError> {
        let pinned = shards.get() + 1;
        let room = available.len() > nodes * pinned;
        let cores = match listed {
            Some(list) if list.len() < pinned => {
                return Err(PlacementError::TooFew { found: list.len(), shards: shards.get() });
            }
            Some(list) => list.to_vec(),
            None if room => available.iter().rev().take(nodes * pinned).copied().collect(),
            None => Vec::new(),
        };
        if let Some(&core) = cores.iter().find(|core| !available.contains(core)) {
            return Err(PlacementError::NoSuchCore { core, available: available.to_vec() });
        }
        let alone = room && cores.len() >= nodes * pinned;
        let poll = match poll {
            PollPolicy::Auto if alone => PollPolicy::Spin,
            PollPolicy::Auto => PollPolicy::Wait,
            chosen => chosen,
        };
        let left = if alone { available.len() - nodes * pinned } else { available.len() };
        let verifiers = NonZero::new(left / nodes).unwrap_or(NonZero::<usize>::MIN);
        Ok(Self { nodes, pinned, cores, poll, verifiers })
    }

    /// For the object `config` of an outcome.
    pub(crate) fn describe(&self) -> serde_json::Value {
        let poll = if self.poll == PollPolicy::Spin { "spin" } else { "wait" };
        serde_json::json!({
            "shards": self.pinned - 1,
            "cores": self.cores,
            "poll": poll,
            "verifiers": self.verifiers,
        })
    }

    /// Writes the placement of node `index` into its config.
    ///
    /// # Panics
    /// If there is no such node.
    pub(crate) fn apply(&self, index: usize, config: &mut NewConfig) {
        assert!(index < self.nodes);
        let dealt = self.cores.iter().cycle().skip(index * self.pinned).take(self.pinned).copied();
        let list: Vec<usize> = dealt.collect();
        config.cores = if list.is_empty() { CorePolicy::Unpinned } else { CorePolicy::List(list) };
        config.poll = self.poll;
        config.verifiers = Some(self.verifiers);
        config.shards = NonZero::new(self.pinned - 1).expect("a node has a shard besides control");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(
        nodes: usize,
        shards: usize,
        listed: Option<&[usize]>,
        available: usize,
    ) -> Result<Placement, PlacementError> {
        let available: Vec<usize> = (0..available).collect();
        Placement::plan(nodes, NonZero::new(shards).unwrap(), listed, PollPolicy::Auto, &available)
    }

    fn configs(placement: &Placement) -> Vec<NewConfig> {
        let mut configs = vec![NewConfig::at(([127, 0, 0, 1], 1).into()); placement.nodes];
        for (index, config) in configs.iter_mut().enumerate() {
            placement.apply(index, config);
        }
        configs
    }

    #[test]
    fn nodes_that_must_share_cores_are_neither_pinned_nor_spinning() {
        for config in configs(&plan(5, 1, None, 4).unwrap()) {
            assert_eq!((config.cores, config.poll), (CorePolicy::Unpinned, PollPolicy::Wait));
            assert_eq!(config.verifiers.unwrap().get(), 1);
        }
    }

    #[test]
    fn with_cores_for_all_every_thread_gets_its_own_and_spins() {
        let configs = configs(&plan(5, 2, None, 26).unwrap());
        let mut cores: Vec<usize> = configs
            .iter()
            .flat_map(|config| match &config.cores {
                CorePolicy::List(list) => list.clone(),
                other => panic!("{other:?}"),
            })
            .collect();
        cores.sort_unstable();
        assert_eq!(cores, (11..26).collect::<Vec<_>>(), "the first cores are left to the rest of the system");
        assert!(configs.iter().all(|config| config.poll == PollPolicy::Spin && config.shards.get() == 2));
        assert_eq!(configs[0].verifiers.unwrap().get(), 2);
    }

    #[test]
    fn listed_cores_are_dealt_out_in_turn_and_shared_if_they_are_few() {
        let configs = configs(&plan(3, 1, Some(&[1, 2, 3]), 4).unwrap());
        let cores: Vec<CorePolicy> = configs.iter().map(|config| config.cores.clone()).collect();
        assert_eq!(cores, [vec![1, 2], vec![3, 1], vec![2, 3]].map(CorePolicy::List));
        assert!(configs.iter().all(|config| config.poll == PollPolicy::Wait));
    }

    #[test]
    fn lists_that_cannot_be_dealt_out_are_refused() {
        assert_eq!(plan(3, 2, Some(&[1, 2]), 4), Err(PlacementError::TooFew { found: 2, shards: 2 }));
        assert!(matches!(plan(3, 1, Some(&[1, 4]), 4), Err(PlacementError::NoSuchCore { core: 4, .. })));
    }

    #[test]
    fn a_poll_that_was_asked_for_is_kept() {
        let shards = NonZero::<usize>::MIN;
        for poll in [PollPolicy::Spin, PollPolicy::Wait] {
            assert_eq!(Placement::plan(5, shards, None, poll, &[0]).unwrap().poll, poll);
        }
    }
}
