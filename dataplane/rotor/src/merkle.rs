//! SHA-256 Merkle trees: over the Gamma shreds of a slice, and over the slice roots of a block (double Merkle tree).
//!
//! A leaf is `SHA-256(0x00 ‖ data)`, an inner node `SHA-256(0x01 ‖ left ‖ right)`, so neither can be taken for the
//! other. Leaves are padded to a power of two with empty leaves, `SHA-256(0x00)`: no shred and no slice root is empty,
//! so padding cannot be taken for content. Trees are stored as heaps: node 1 is the root, nodes `2i` and `2i + 1` are
//! the children of `i`, and leaf `i` of `width` is node `width + i`.

use std::sync::LazyLock;

use sha2::block_api::compress256;
use sha2::{Digest, Sha256};

use crate::sha256_lanes::HashKernel;
use crate::types::{Hash, SLICES_MAX};

/// Levels above the leaves in the highest tree: the block tree over [`SLICES_MAX`] roots.
pub const DEPTH_MAX: usize = SLICES_MAX.trailing_zeros() as usize;
const LEAF: u8 = 0;
const INNER: u8 = 1;

/// Hash of a leaf.
#[must_use]
pub fn leaf(data: &[u8]) -> Hash {
    Hash(Sha256::new().chain_update([LEAF]).chain_update(data).finalize().into())
}

/// Hash of the inner node above `left` and `right`.
#[must_use]
pub fn node(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    // 65 bytes are two SHA-256 blocks; laying them out here spares the buffering of the general interface.
    let mut blocks = [[0; 64]; 2];
    blocks[0][0] = INNER;
    blocks[0][1..33].copy_from_slice(left);
    blocks[0][33..].copy_from_slice(&right[..31]);
    blocks[1][0] = right[31];
    blocks[1][1] = 0x80;
    blocks[1][56..].copy_from_slice(&(65 * 8_u64).to_be_bytes());
    let mut state =
        [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];
    compress256(&mut state, &blocks);
    let mut digest = [0; 32];
    for (bytes, word) in digest.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *bytes = word.to_be_bytes();
    }
    digest
}

/// Hashes of leaves that are equally long, one for each of `hashes`: faster than one by one.
///
/// # Panics
/// If there are fewer leaves than hashes, or if they differ in length.
pub fn leaves<'d>(data: impl IntoIterator<Item = &'d [u8]>, hashes: &mut [[u8; 32]]) {
    HashKernel::best().hash_prefixed(LEAF, data, hashes);
}

/// Hashes of the inner nodes above `pairs` of children, one for each of `parents`: faster than one by one.
///
/// # Panics
/// If there are fewer pairs than parents.
pub fn nodes<'p>(pairs: impl IntoIterator<Item = &'p [[u8; 32]; 2]>, parents: &mut [[u8; 32]]) {
    HashKernel::best().hash_prefixed(INNER, pairs.into_iter().map(|pair| pair.as_flattened()), parents);
}

/// Root of a subtree that holds nothing but padding, by its levels above the leaves (at most [`DEPTH_MAX`]).
#[must_use]
pub fn empty_subtree(levels: usize) -> [u8; 32] {
    static EMPTY: LazyLock<[[u8; 32]; DEPTH_MAX + 1]> = LazyLock::new(|| {
        let mut empty = [leaf(&[]).0; DEPTH_MAX + 1];
        for level in 1..empty.len() {
            empty[level] = node(&empty[level - 1], &empty[level - 1]);
        }
        empty
    });
    EMPTY[levels]
}

/// The root that `path` (sibling hashes, leaf upwards) leads to from leaf `index`. The caller has made sure that the
/// path is as long as the tree is high.
///
/// # Panics
/// If `index` does not lie in a tree of that height.
#[must_use]
pub fn root_from_path(leaf: Hash, index: usize, path: &[[u8; 32]]) -> Hash {
    assert!(index >> path.len() == 0, "leaf {index} in a tree of height {}", path.len());
    let mut hash = leaf.0;
    for (level, sibling) in path.iter().enumerate() {
        hash = if index >> level & 1 == 0 { node(&hash, sibling) } else { node(sibling, &hash) };
    }
    Hash(hash)
}

/// Fills a heap of `2 * width` nodes whose first `leaves` leaf nodes are set: padding, then inner nodes. Returns the
/// root.
pub(crate) fn build(nodes: &mut [[u8; 32]], leaves: usize) -> Hash {
    let width = nodes.len() / 2;
    assert!(width.is_power_of_two() && leaves <= width);
    nodes[width + leaves..].fill(empty_subtree(0));
    let mut children = width;
    while children > 1 {
        let (above, level) = nodes[..2 * children].split_at_mut(children);
        children /= 2;
        self::nodes(level.as_chunks().0, &mut above[children..]);
    }
    Hash(nodes[1])
}

/// The path of leaf `index` in a filled heap, leaf upwards.
pub(crate) fn path(nodes: &[[u8; 32]], index: usize) -> impl Iterator<Item = &[u8; 32]> {
    let leaf = nodes.len() / 2 + index;
    std::iter::successors(Some(leaf), |position| Some(position / 2))
        .take_while(|position| *position > 1)
        .map(|position| &nodes[position ^ 1])
}

/// Height of a block's tree over `slices` roots.
#[must_use]
pub const fn block_depth(slices: usize) -> usize {
    slices.next_power_of_two().trailing_zeros() as usize
}

/// The block hash: root of the tree over the block's slice roots, first slice first. Does not allocate.
///
/// # Panics
/// If there are no roots or more than [`SLICES_MAX`].
#[must_use]
pub fn block_hash(slice_roots: &[Hash]) -> Hash {
    assert!((1..=SLICES_MAX).contains(&slice_roots.len()), "a block of {} slices", slice_roots.len());
    // `left[level]` waits for its right sibling when bit `level` of the number of leaves so far is set.
    let mut left = [[0; 32]; DEPTH_MAX + 1];
    for (count, root) in slice_roots.iter().enumerate() {
        let mut hash = leaf(&root.0).0;
        let level = count.trailing_ones() as usize;
        for waiting in &left[..level] {
            hash = node(waiting, &hash);
        }
        left[level] = hash;
    }
    let depth = block_depth(slice_roots.len());
    let lowest = slice_roots.len().trailing_zeros() as usize;
    let mut hash = left[lowest];
    for (level, waiting) in left.iter().enumerate().take(depth).skip(lowest) {
        let is_right = slice_roots.len() >> level & 1 == 1 && level > lowest;
        hash = if is_right { node(waiting, &hash) } else { node(&hash, &empty_subtree(level)) };
    }
    Hash(hash)
}

/// The path from slice `index`'s root to the block hash, leaf upwards.
///
/// # Panics
/// If there is no such slice, or more than [`SLICES_MAX`].
#[must_use]
pub fn block_path(slice_roots: &[Hash], index: usize) -> Vec<Hash> {
    assert!(index < slice_roots.len() && slice_roots.len() <= SLICES_MAX);
    let mut nodes = vec![[0; 32]; 2 << block_depth(slice_roots.len())];
    let width = nodes.len() / 2;
    for (node, root) in nodes[width..].iter_mut().zip(slice_roots) {
        *node = leaf(&root.0).0;
    }
    build(&mut nodes, slice_roots.len());
    path(&nodes, index).copied().map(Hash).collect()
}

/// Whether `path` proves that `slice_root` is the root of slice `index` of the block `block_hash` with `slices` slices.
#[must_use]
pub fn verify_block_path(block_hash: Hash, slices: usize, index: usize, slice_root: Hash, path: &[Hash]) -> bool {
    (1..=SLICES_MAX).contains(&slices)
        && index < slices
        && path.len() == block_depth(slices)
        && block_root(index, slice_root, path) == block_hash
}

/// Whether `path` proves that `slice_root` is the root of slice `index` and that this is the block's last slice:
/// nothing but padding lies to its right.
#[must_use]
pub fn verify_last_slice(block_hash: Hash, index: usize, slice_root: Hash, path: &[Hash]) -> bool {
    let padded = |(level, sibling): (usize, &Hash)| index >> level & 1 == 1 || sibling.0 == empty_subtree(level);
    verify_block_path(block_hash, index.saturating_add(1), index, slice_root, path)
        && path.iter().enumerate().all(padded)
}

fn block_root(index: usize, slice_root: Hash, path: &[Hash]) -> Hash {
    let mut siblings = [[0; 32]; DEPTH_MAX];
    for (sibling, hash) in siblings.iter_mut().zip(path) {
        *sibling = hash.0;
    }
    root_from_path(leaf(&slice_root.0), index, &siblings[..path.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sha256(bytes: &[u8]) -> [u8; 32] {
        Sha256::digest(bytes).into()
    }

    fn roots(count: usize) -> Vec<Hash> {
        (0..count).map(|index| Hash(sha256(&index.to_le_bytes()))).collect()
    }

    #[test]
    fn leaves_and_nodes_are_hashed_with_their_prefix() {
        assert_eq!(leaf(b"shred").0, sha256(b"\x00shred"));
        let mut inner = vec![1];
        inner.extend([7; 32]);
        inner.extend([8; 32]);
        assert_eq!(node(&[7; 32], &[8; 32]), sha256(&inner));
        assert_eq!(empty_subtree(0), sha256(b"\x00"));
        assert_eq!(empty_subtree(1), node(&sha256(b"\x00"), &sha256(b"\x00")));
    }

    #[test]
    fn many_leaves_and_nodes_are_hashed_like_one() {
        let data: Vec<_> = (0..21).map(|byte| [byte; 100]).collect();
        let mut hashes = vec![[0; 32]; 20];
        leaves(data.iter().map(<[u8; 100]>::as_slice), &mut hashes);
        assert!(hashes.iter().zip(&data).all(|(hash, data)| *hash == leaf(data).0));
        let mut parents = vec![[0; 32]; 10];
        nodes(hashes.as_chunks().0, &mut parents);
        assert!(parents.iter().zip(hashes.as_chunks().0).all(|(parent, [left, right])| *parent == node(left, right)));
    }

    #[test]
    fn a_leaf_cannot_be_taken_for_an_inner_node() {
        let (left, right) = (leaf(b"left"), leaf(b"right"));
        let children = [left.0, right.0].concat();
        assert_ne!(leaf(&children).0, node(&left.0, &right.0));
        assert_ne!(leaf(&[&[1], children.as_slice()].concat()).0, node(&left.0, &right.0));
    }

    #[test]
    fn three_slices_hash_to_this() {
        let [a, b, c] = [Hash([1; 32]), Hash([2; 32]), Hash([3; 32])];
        let left = node(&leaf(&a.0).0, &leaf(&b.0).0);
        let right = node(&leaf(&c.0).0, &sha256(b"\x00"));
        assert_eq!(block_hash(&[a, b, c]).0, node(&left, &right));
        assert_eq!(block_hash(&[a]), leaf(&a.0));
        let golden = "b8786dae779c53fed4abfc0adb45311693e0c6bdca03acc714460fc13138c6a2";
        assert_eq!(format!("{:?}", block_hash(&[a, b, c])), golden);
    }

    #[test]
    fn the_block_hash_is_the_root_of_the_padded_tree() {
        for count in (1..=66).chain([127, 128, 129, 1_000, 1_023, 1_024]) {
            let roots = roots(count);
            let mut nodes = vec![[0; 32]; 2 * count.next_power_of_two()];
            let width = nodes.len() / 2;
            for (node, root) in nodes[width..].iter_mut().zip(&roots) {
                *node = leaf(&root.0).0;
            }
            assert_eq!(block_hash(&roots), build(&mut nodes, count), "{count} slices");
        }
    }

    #[test]
    fn a_slice_is_proven_at_its_place_only() {
        for count in 1..=20 {
            let roots = roots(count);
            let hash = block_hash(&roots);
            for (index, root) in roots.iter().enumerate() {
                let path = block_path(&roots, index);
                for claimed in 0..count {
                    assert_eq!(verify_block_path(hash, count, claimed, *root, &path), claimed == index);
                }
                assert!(!verify_block_path(hash, count, index, Hash([9; 32]), &path));
                assert_eq!(verify_last_slice(hash, index, *root, &path), index == count - 1, "{index} of {count}");
            }
        }
    }

    /// Lesson: answers with proofs that are empty or too short were accepted, so that a false root was bound.
    #[test]
    fn a_proof_of_another_length_proves_nothing() {
        let roots = roots(5);
        let hash = block_hash(&roots);
        let path = block_path(&roots, 4);
        assert!(verify_last_slice(hash, 4, roots[4], &path));
        // The inner node above slice 4, passed off as a leaf with one sibling less; and the whole tree as one leaf.
        assert!(!verify_block_path(hash, 5, 2, roots[4], &path[1..]));
        assert!(!verify_block_path(hash, 1, 0, hash, &[]));
        assert!(!verify_last_slice(hash, 0, hash, &[]));
        assert!(!verify_last_slice(hash, usize::MAX, roots[4], &path));
        assert!(!verify_block_path(hash, 0, 0, roots[0], &[]));
        let longer: Vec<_> = path.iter().copied().chain([Hash(empty_subtree(3))]).collect();
        assert!(!verify_block_path(hash, 5, 4, roots[4], &longer));
    }

    #[test]
    fn an_earlier_slice_is_not_proven_last_by_a_tree_of_the_leaders_making() {
        // Five slices of which the fifth is empty padding to the eye, but something lies in the seventh place.
        let mut leaves = [empty_subtree(0); 8];
        for (place, root) in [0, 1, 2, 3, 6].into_iter().zip(roots(5)) {
            leaves[place] = leaf(&root.0).0;
        }
        let mut nodes = vec![[0; 32]; 16];
        nodes[8..].copy_from_slice(&leaves);
        let hash = build(&mut nodes, 8);
        let path: Vec<_> = path(&nodes, 3).copied().map(Hash).collect();
        assert!(!verify_last_slice(hash, 3, roots(5)[3], &path));
        // The path is right for a block of up to eight slices, and too long for one of four.
        assert!(verify_block_path(hash, 7, 3, roots(5)[3], &path));
        assert!(!verify_block_path(hash, 4, 3, roots(5)[3], &path));
    }
}
