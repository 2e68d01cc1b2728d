//! Proofs over a block's slice roots. Every proof has exactly the length that the block's number of slices demands.

use alpenglow_rotor::merkle::{self, block_depth};
use alpenglow_rotor::types::{Hash, SLICES_MAX};

use super::wire::ROOTS_PER_GROUP;

/// Levels of the block's tree below the node above a group.
const GROUP_LEVELS: usize = ROOTS_PER_GROUP.trailing_zeros() as usize;

/// Groups that a block's roots are in.
pub(super) const fn groups(slices: usize) -> usize {
    slices.div_ceil(ROOTS_PER_GROUP)
}

/// The roots of a group and their path, if there is such a group.
pub(super) fn prove_group(roots: &[Hash], group: usize) -> Option<(Vec<Hash>, Vec<Hash>)> {
    let first = group * ROOTS_PER_GROUP;
    let of_group = roots.get(first..)?.iter().take(ROOTS_PER_GROUP).copied().collect::<Vec<_>>();
    let path = merkle::block_path(roots, (!of_group.is_empty()).then_some(first)?);
    Some((of_group, path.into_iter().skip(GROUP_LEVELS).collect()))
}

/// Whether `path` proves that these are the roots of `group`, all of them, in a block of `slices` slices.
pub(super) fn verify_group(block_hash: Hash, slices: usize, group: usize, roots: &[Hash], path: &[Hash]) -> bool {
    if !(1..=SLICES_MAX).contains(&slices) || group >= groups(slices) {
        return false;
    }
    let levels = block_depth(slices).min(GROUP_LEVELS);
    let expected = (slices - group * ROOTS_PER_GROUP).min(ROOTS_PER_GROUP);
    if roots.len() != expected || path.len() != block_depth(slices) - levels {
        return false;
    }
    let mut above = merkle::block_hash(roots);
    for level in block_depth(roots.len())..levels {
        above = Hash(merkle::node(&above.0, &merkle::empty_subtree(level)));
    }
    let siblings: Vec<[u8; 32]> = path.iter().map(|hash| hash.0).collect();
    merkle::root_from_path(above, group, &siblings) == block_hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roots(count: usize) -> Vec<Hash> {
        (0..count).map(|index| merkle::leaf(&index.to_le_bytes())).collect()
    }

    #[test]
    fn every_group_is_proven_in_its_place_and_in_a_block_of_its_length_only() {
        for slices in [1, 2, 3, 8, 15, 16, 17, 31, 32, 33, 40, 64, 65, 300, 1_023, 1_024] {
            let roots = roots(slices);
            let hash = merkle::block_hash(&roots);
            for group in 0..groups(slices) {
                let (of_group, path) = prove_group(&roots, group).unwrap();
                for claimed in 0..groups(slices) + 1 {
                    let proven = verify_group(hash, slices, claimed, &of_group, &path);
                    assert_eq!(proven, claimed == group, "{claimed} of {slices}");
                }
                let fewer = of_group.len() - 1;
                assert!(!verify_group(hash, slices, group, &of_group[..fewer], &path));
                assert!(!verify_group(hash, 2 * slices, group, &of_group, &path));
                let longer = [&path[..], &[hash]].concat();
                assert!(!verify_group(hash, slices, group, &of_group, &longer));
                if let Some((_, shorter)) = path.split_last() {
                    assert!(!verify_group(hash, slices, group, &of_group, shorter));
                }
                let mut wrong = of_group.clone();
                wrong[fewer] = Hash([9; 32]);
                assert!(!verify_group(hash, slices, group, &wrong, &path));
            }
            assert_eq!(prove_group(&roots, groups(slices)), None);
        }
    }

    #[test]
    fn nothing_is_proven_of_a_block_of_impossible_length() {
        let roots = roots(3);
        let hash = merkle::block_hash(&roots);
        assert!(!verify_group(hash, 0, 0, &[], &[]));
        assert!(!verify_group(hash, SLICES_MAX + 1, 0, &roots, &[]));
    }
}
