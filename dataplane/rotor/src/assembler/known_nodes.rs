//! The nodes of a slice's tree that are known to lie under its signed root, so that a further shred's path is hashed
//! only up to the first of them.

use crate::erasure::PieceSet;
use crate::merkle;
use crate::parameters::PATH_NODES_MAX;
use crate::types::Hash;

/// Nodes whose hashes are computed together.
const HASHED_AT_ONCE: usize = 16;

/// A set of positions in the heap of a slice's tree.
#[derive(Clone, Copy, Default)]
pub(super) struct NodeSet([u64; (2 << PATH_NODES_MAX) / 64]);

impl NodeSet {
    const fn insert(&mut self, position: usize) {
        self.0[position / 64] |= 1 << (position % 64);
    }

    const fn contains(&self, position: usize) -> bool {
        self.0[position / 64] >> (position % 64) & 1 == 1
    }
}

/// A slice's tree. Once the root is remembered, every known node is verified, and the parent and the sibling of a known
/// node are known too: nodes become known as whole paths with their siblings, or all at once.
pub(super) struct KnownNodes<'a> {
    /// Heap; meaningless where not known.
    pub(super) nodes: &'a mut [[u8; 32]],
    pub(super) known: &'a mut NodeSet,
}

impl KnownNodes<'_> {
    /// Forgets everything but `root`, which its leader signed.
    pub(super) fn begin(&mut self, root: Hash) {
        *self.known = NodeSet::default();
        self.remember(1, root.0);
    }

    const fn width(&self) -> usize {
        self.nodes.len() / 2
    }

    fn remember(&mut self, position: usize, hash: [u8; 32]) {
        self.nodes[position] = hash;
        self.known.insert(position);
    }

    /// Whether `path` leads from `leaf`, at `index`, to the root; if so, all its nodes are known from now on. Equal to
    /// checking the whole path: what lies above the first known node is compared with what is known there.
    pub(super) fn verify(&mut self, index: usize, leaf: Hash, path: &[[u8; 32]]) -> bool {
        let width = self.width();
        assert!(index < width && 1 << path.len() == width);
        let mut computed = [[0; 32]; PATH_NODES_MAX + 1];
        let (mut position, mut level) = (width + index, 0);
        computed[0] = leaf.0;
        while !self.known.contains(position) {
            let (hash, sibling) = (&computed[level], &path[level]);
            let parent =
                if position.is_multiple_of(2) { merkle::node(hash, sibling) } else { merkle::node(sibling, hash) };
            (position, level) = (position / 2, level + 1);
            computed[level] = parent;
        }
        if self.nodes[position] != computed[level] || !self.siblings_equal(position, &path[level..]) {
            return false;
        }
        for (level, (hash, sibling)) in computed[..level].iter().zip(path).enumerate() {
            let position = (width + index) >> level;
            self.remember(position, *hash);
            self.remember(position ^ 1, *sibling);
        }
        true
    }

    /// Whether `path` is the path of the known leaf `index`.
    pub(super) fn path_equal(&self, index: usize, path: &[[u8; 32]]) -> bool {
        self.siblings_equal(self.width() + index, path)
    }

    /// Whether the siblings on the way up from the known node at `position` are `siblings`.
    fn siblings_equal(&self, position: usize, siblings: &[[u8; 32]]) -> bool {
        siblings.iter().enumerate().all(|(level, sibling)| self.nodes[(position >> level) ^ 1] == *sibling)
    }

    /// Whether the leaves computed from a slice's `total` pieces, those of `verified` ones being known, lead to the
    /// root; if so, the whole tree is known from now on.
    pub(super) fn complete<'p>(
        &mut self,
        total: usize,
        verified: &PieceSet,
        piece: impl Fn(usize) -> &'p [u8],
    ) -> bool {
        let width = self.width();
        let mut fresh = NodeSet::default();
        let missing = (0..total).filter(|index| !verified.contains(*index)).map(|index| width + index);
        let leaves = |_: &_, positions: &[usize], hashes: &mut _| {
            merkle::leaves(positions.iter().map(|position| piece(position - width)), hashes);
        };
        if !self.settle(missing, &mut fresh, leaves)
            || !(total..width).all(|padding| self.agrees(width + padding, merkle::empty_subtree(0), &mut fresh))
        {
            return false;
        }
        let parents = |nodes: &[[u8; 32]], positions: &[usize], hashes: &mut _| {
            merkle::nodes(positions.iter().map(|position| &nodes.as_chunks().0[*position]), hashes);
        };
        let mut level = width;
        while level > 1 {
            level /= 2;
            let below = fresh;
            let has_fresh_child = |position: &usize| below.contains(2 * position) || below.contains(2 * position + 1);
            if !self.settle((level..2 * level).filter(has_fresh_child), &mut fresh, parents) {
                return false;
            }
        }
        (1..2 * width).for_each(|position| self.known.insert(position));
        true
    }

    /// Computes the hashes at `positions`, many at once; whether they agree with what is known.
    fn settle(
        &mut self,
        mut positions: impl Iterator<Item = usize>,
        fresh: &mut NodeSet,
        hash: impl Fn(&[[u8; 32]], &[usize], &mut [[u8; 32]]),
    ) -> bool {
        let (mut batch, mut hashes) = ([0; HASHED_AT_ONCE], [[0; 32]; HASHED_AT_ONCE]);
        loop {
            let mut count = 0;
            for (place, position) in batch.iter_mut().zip(&mut positions) {
                *place = position;
                count += 1;
            }
            if count == 0 {
                return true;
            }
            let (batch, hashes) = (&batch[..count], &mut hashes[..count]);
            hash(self.nodes, batch, hashes);
            if !batch.iter().zip(&*hashes).all(|(position, hash)| self.agrees(*position, *hash, fresh)) {
                return false;
            }
        }
    }

    /// Whether `hash` is what is known at `position`; if nothing is, it is put there, as fresh.
    fn agrees(&mut self, position: usize, hash: [u8; 32], fresh: &mut NodeSet) -> bool {
        if self.known.contains(position) {
            return self.nodes[position] == hash;
        }
        self.nodes[position] = hash;
        fresh.insert(position);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAVES: usize = 8;

    fn tree() -> (Vec<[u8; 32]>, Vec<Vec<[u8; 32]>>) {
        let mut nodes = vec![[0; 32]; 2 * LEAVES];
        for index in 0..LEAVES {
            nodes[LEAVES + index] = merkle::leaf(&[index as u8]).0;
        }
        merkle::build(&mut nodes, LEAVES);
        let paths = (0..LEAVES).map(|index| merkle::path(&nodes, index).copied().collect()).collect();
        (nodes, paths)
    }

    #[test]
    fn a_node_of_a_refused_path_is_not_remembered() {
        let (nodes, paths) = tree();
        let (mut heap, mut known) = (vec![[0; 32]; 2 * LEAVES], NodeSet::default());
        let mut tree = KnownNodes { nodes: &mut heap, known: &mut known };
        tree.begin(Hash(nodes[1]));
        // A forged leaf with a path of the forger's making, offered twice: if its nodes were kept, the second would
        // pass.
        let forged = merkle::leaf(b"forged");
        assert!(!tree.verify(3, forged, &paths[3]));
        assert!(!tree.verify(3, forged, &paths[3]));
        assert!(tree.verify(3, merkle::leaf(&[3]), &paths[3]));
        assert!(tree.verify(2, merkle::leaf(&[2]), &paths[2]));
    }

    #[test]
    fn a_path_is_checked_above_the_first_known_node_too() {
        let (nodes, paths) = tree();
        let (mut heap, mut known) = (vec![[0; 32]; 2 * LEAVES], NodeSet::default());
        let mut tree = KnownNodes { nodes: &mut heap, known: &mut known };
        tree.begin(Hash(nodes[1]));
        assert!(tree.verify(0, merkle::leaf(&[0]), &paths[0]));
        for level in 0..3 {
            let mut path = paths[1].clone();
            path[level][31] ^= 1;
            assert!(!tree.verify(1, merkle::leaf(&[1]), &path), "level {level}");
        }
        assert!(tree.verify(1, merkle::leaf(&[1]), &paths[1]));
    }
}
