//! What a seed draws from: stakes, and nodes by how much stake they have together.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::super::cluster::StakeTable;
use super::super::fault::{During, Nodes};

/// Windows whose leaders a run surely reaches: leaders take turns in index order.
const EARLY_LEADERS: usize = 4;
const STAKE_MAX: u64 = 100;
const STAKE_MIN: u64 = 20;

pub(super) struct Draft {
    random: ChaCha8Rng,
    pub(super) table: StakeTable,
    /// All nodes, those that lead early first.
    order: Vec<usize>,
}

impl Draft {
    pub(super) fn new(seed: u64, nodes: usize) -> Self {
        let mut draft = Self {
            random: ChaCha8Rng::seed_from_u64(seed ^ 0x6661_756c_7473),
            table: StakeTable::endless(vec![1_000; nodes]),
            order: Vec::new(),
        };
        let mut early: Vec<usize> = (1..nodes.min(1 + EARLY_LEADERS)).collect();
        let mut others: Vec<usize> = (0..nodes).filter(|node| !early.contains(node)).collect();
        draft.shuffle(&mut early);
        draft.shuffle(&mut others);
        draft.order = [early, others].concat();
        draft
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.random.next_u64() % limit
    }

    /// From `least` on, below `limit`.
    pub(super) fn between(&mut self, least: u64, limit: u64) -> u64 {
        least + self.below(limit - least)
    }

    pub(super) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    fn shuffle(&mut self, nodes: &mut [usize]) {
        for last in (1..nodes.len()).rev() {
            nodes.swap(last, self.below(last as u64 + 1) as usize);
        }
    }

    fn stakes(&mut self) -> Vec<u64> {
        (0..self.order.len()).map(|_| self.between(STAKE_MIN, STAKE_MAX)).collect()
    }

    /// Everybody gets a stake of its own.
    pub(super) fn uneven(&mut self) {
        self.table = StakeTable::endless(self.stakes());
    }

    /// Epochs with other stakes, and with a member that comes and one that goes.
    pub(super) fn epochs(&mut self, slots: u64, sets: usize) {
        let nodes = self.order.len();
        let by_epoch = (0..sets).map(|epoch| {
            let mut stakes = self.stakes();
            stakes[nodes - 1 - epoch % (nodes / 2)] = 0;
            stakes
        });
        self.table = StakeTable { by_epoch: by_epoch.collect(), epoch_slots: Some(slots) };
    }

    fn fits(&self, nodes: &[usize], is_little: impl Fn(u64, u64) -> bool) -> bool {
        self.table.by_epoch.iter().all(|stakes| {
            let part = nodes.iter().map(|node| stakes[*node]).sum();
            is_little(part, stakes.iter().sum())
        })
    }

    fn take(&self, from: impl IntoIterator<Item = usize>, is_little: impl Fn(u64, u64) -> bool + Copy) -> Vec<usize> {
        let mut taken = Vec::new();
        for node in from {
            taken.push(node);
            if !self.fits(&taken, is_little) {
                taken.pop();
            }
        }
        taken
    }

    /// As many nodes as have less than a fifth of the stake together, early leaders first.
    pub(super) fn liars(&self) -> Vec<usize> {
        self.take(self.order.iter().copied(), |part, total| 5 * part < total)
    }

    /// Others with at most a fifth.
    pub(super) fn crashing(&self, liars: &[usize]) -> Vec<usize> {
        let others = self.order.iter().rev().copied().filter(|node| !liars.contains(node));
        self.take(others, |part, total| 5 * part <= total)
    }

    /// Some nodes with at most so much of the stake, and as much of it as fits.
    pub(super) fn share(&mut self, percent: u64) -> Nodes {
        let mut order = self.order.clone();
        self.shuffle(&mut order);
        self.take(order, |part, total| 100 * part <= percent * total).into_iter().collect()
    }

    pub(super) fn others(&self, nodes: Nodes) -> Nodes {
        (0..self.order.len()).filter(|node| !nodes.contains(*node)).collect()
    }

    /// Some time that begins early and ends before `to_ms`.
    pub(super) fn during(&mut self, to_ms: u64) -> During {
        let from_ms = self.below(to_ms / 2);
        During { from_ms, to_ms: self.between(from_ms + to_ms / 4, to_ms) }
    }
}
