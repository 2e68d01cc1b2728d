//! How the memory for slices is shared between the shards, which put them together in it, and control, which keeps it
//! from them as long as it holds the slices.

use alpenglow_control::blokstor::BlokstorConfig;
use alpenglow_rotor::assembler::Assembler;
use alpenglow_rotor::parameters::CodingParameters;
use alpenglow_rotor::types::WINDOW_SLOTS;

/// Slices that a shard needs room for at least: two leader windows of blocks of one slice each.
const SLICES_MIN: usize = 2 * WINDOW_SLOTS as usize;

/// Too little memory for the cluster's slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the slice memory of each shard holds {found} of this cluster's slices, and {SLICES_MIN} are needed: raise `slice_memory_mib`, or start fewer shards"
)]
pub(crate) struct SliceMemoryError {
    found: usize,
}

/// Lowers the bounds of control's store so that it never holds more than three quarters of the slices that *one* shard
/// has memory for: a leader picks which slices it signs, and so may give all of its slices to the same shard. If
/// control could hold all of a shard's memory, such a leader would stop the chain, for nothing after its window would
/// be put together and so nothing would be finalized that lets control let go.
///
/// # Errors
/// [`SliceMemoryError`] if a shard has room for too few slices.
pub(crate) fn leave_room_to_shards(
    blokstor: &mut BlokstorConfig,
    coding: &CodingParameters,
    slice_memory_bytes: usize,
    shards: usize,
) -> Result<(), SliceMemoryError> {
    let of_a_shard = Assembler::capacity_within(coding, slice_memory_bytes / shards);
    if of_a_shard < SLICES_MIN {
        return Err(SliceMemoryError { found: of_a_shard });
    }
    let held_max = of_a_shard * 3 / 4 * blokstor.slice_memory_bytes;
    blokstor.bytes_max = blokstor.bytes_max.min(held_max);
    Ok(())
}

#[cfg(test)]
mod tests {
    use alpenglow_rotor::parameters::Code;
    use alpenglow_rotor::types::ClusterId;

    use super::*;

    fn blokstor(coding: &CodingParameters) -> BlokstorConfig {
        BlokstorConfig {
            slice_memory_bytes: coding.data_shreds() * coding.shred_bytes(),
            bytes_max: 32 << 20,
            repaired_bytes: 64 << 20,
            retained_slots: 16,
            retained_bytes: 4 << 20,
            handover_slots: 32,
        }
    }

    #[test]
    fn control_cannot_hold_all_the_memory_of_a_shard() {
        let coding = CodingParameters::default();
        for (memory_mib, shards) in [(64, 1), (64, 2), (64, 3), (4, 1), (1_024, 4)] {
            let mut blokstor = blokstor(&coding);
            leave_room_to_shards(&mut blokstor, &coding, memory_mib << 20, shards).unwrap();
            let shard = Assembler::new(coding, ClusterId([1; 32]), (memory_mib << 20) / shards);
            let held_max = blokstor.bytes_max / blokstor.slice_memory_bytes;
            let of = format!("{memory_mib} MiB, {shards} shards: {held_max} of {}", shard.capacity());
            assert!(held_max < shard.capacity(), "{of}");
            assert!(held_max > 0, "{of}");
        }
    }
    #[test]
    fn wide_jumbo_slices_need_more_than_the_least_memory() {
        let coding = CodingParameters::fitting(Code::Leopard16, 32, 320, 8_972).unwrap();
        let room =
            |memory_mib: usize, shards| leave_room_to_shards(&mut blokstor(&coding), &coding, memory_mib << 20, shards);
        assert_eq!((room(64, 1), room(128, 2)), (Ok(()), Ok(())));
        assert_eq!(room(64, 4), Err(SliceMemoryError { found: 2 }));
        assert_eq!(room(16, 1), Err(SliceMemoryError { found: 2 }));
    }
}
