//! SHA-256 of many messages of one length at once, each behind the same prefix byte: the leaves of a Merkle tree, or the
//! inner nodes of one level.
//!
//! One message's rounds wait for each other, so that a processor that computes them one message after the other mostly
//! waits. Here two messages share the SHA instructions, or eight or sixteen the lanes of vectors. All kernels give the
//! same hashes, those of the sha2 crate.

#[cfg(target_arch = "x86_64")]
mod sha_ni;
#[cfg(test)]
mod tests;

use sha2::{Digest, Sha256};

const BLOCK_BYTES: usize = 64;
type Block = [u8; BLOCK_BYTES];

/// Bytes of a message that share the first block with the prefix.
const FIRST_BYTES: usize = BLOCK_BYTES - 1;
/// Messages handed to a kernel at once: as many as the widest has lanes.
const BATCH_MESSAGES: usize = 16;

const INITIAL_STATE: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// How hashes are computed. All kernels give the same ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashKernel {
    /// The sha2 crate, one message after the other, on every machine.
    Sha2,
    /// Two messages at once, on x86-64 with SHA-NI.
    ShaNi,
}

impl HashKernel {
    /// Every kernel, the preferred one last.
    pub const ALL: [Self; 2] = [Self::Sha2, Self::ShaNi];

    /// Name for reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha2 => "sha2",
            Self::ShaNi => "sha-ni",
        }
    }

    /// Whether this processor can run it.
    #[must_use]
    pub fn is_available(self) -> bool {
        match self {
            Self::Sha2 => true,
            #[cfg(target_arch = "x86_64")]
            Self::ShaNi => std::arch::is_x86_feature_detected!("sha") && std::arch::is_x86_feature_detected!("avx"),
            #[cfg(not(target_arch = "x86_64"))]
            Self::ShaNi => false,
        }
    }

    /// The preferred one of those this processor can run.
    #[must_use]
    pub fn best() -> Self {
        Self::ALL.into_iter().rfind(|kernel| kernel.is_available()).unwrap_or(Self::Sha2)
    }

    /// Sets every one of `hashes` to `SHA-256(prefix ‖ message)` of the message in its place.
    ///
    /// # Panics
    /// If there are fewer messages than hashes, if the messages differ in length, or if this processor cannot run the
    /// kernel.
    pub fn hash_prefixed<'m>(self, prefix: u8, messages: impl IntoIterator<Item = &'m [u8]>, hashes: &mut [[u8; 32]]) {
        let mut messages = messages.into_iter();
        let mut batch: [&[u8]; BATCH_MESSAGES] = [&[]; BATCH_MESSAGES];
        for hashes in hashes.chunks_mut(BATCH_MESSAGES) {
            let batch = &mut batch[..hashes.len()];
            for slot in &mut *batch {
                *slot = messages.next().expect("a message for every hash");
            }
            assert!(batch.iter().all(|message| message.len() == batch[0].len()), "messages of one length");
            self.hash_batch(prefix, batch, hashes);
        }
    }

    fn hash_batch(self, prefix: u8, messages: &[&[u8]], hashes: &mut [[u8; 32]]) {
        match self {
            Self::Sha2 => {
                for (hash, message) in hashes.iter_mut().zip(messages) {
                    *hash = Sha256::new().chain_update([prefix]).chain_update(message).finalize().into();
                }
            }
            #[cfg(target_arch = "x86_64")]
            Self::ShaNi => {
                let ((pairs, single), (pair_hashes, single_hash)) = (messages.as_chunks(), hashes.as_chunks_mut());
                for (messages, hashes) in pairs.iter().zip(pair_hashes) {
                    hash::<2>(prefix, messages, hashes, sha_ni::compress);
                }
                if let ([message], [hash]) = (single, single_hash) {
                    self::hash(prefix, &[*message], std::array::from_mut(hash), sha_ni::compress);
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            Self::ShaNi => panic!("this processor cannot run the {} kernel", self.name()),
        }
    }
}

/// Sets `hashes` to those of `messages` of one length.
#[cfg(target_arch = "x86_64")]
#[inline]
fn hash<const N: usize>(
    prefix: u8,
    messages: &[&[u8]; N],
    hashes: &mut [[u8; 32]; N],
    compress: impl Fn(&mut [[u32; 8]; N], &[&[Block]; N]),
) {
    // The first block, and what follows the middle: whatever holds more than bytes of the message. The middle is not copied.
    let mut edges = [[[0; BLOCK_BYTES]; 3]; N];
    let (mut edge_blocks, mut middles): (_, [&[Block]; N]) = (0, [&[]; N]);
    for lane in 0..N {
        (edge_blocks, middles[lane]) = cut(prefix, messages[lane], &mut edges[lane]);
    }
    let mut states = [INITIAL_STATE; N];
    let mut blocks: [&[Block]; N] = [&[]; N];
    let mut compress_edges = |range: std::ops::Range<usize>, states: &mut _| {
        for lane in 0..N {
            blocks[lane] = &edges[lane][range.clone()];
        }
        compress(states, &blocks);
    };
    if middles[0].is_empty() {
        compress_edges(0..edge_blocks, &mut states);
    } else {
        compress_edges(0..1, &mut states);
        compress(&mut states, &middles);
        compress_edges(1..edge_blocks, &mut states);
    }
    for (hash, state) in hashes.iter_mut().zip(&states) {
        for (bytes, word) in hash.as_chunks_mut().0.iter_mut().zip(state) {
            *bytes = word.to_be_bytes();
        }
    }
}

/// Fills in `edges`, which are zeros, with the parts of a message with prefix and padding that are not whole blocks of it,
/// and returns how many of them there are and the blocks whose place is after the first of them.
#[cfg(target_arch = "x86_64")]
#[inline]
fn cut<'m>(prefix: u8, message: &'m [u8], edges: &mut [Block; 3]) -> (usize, &'m [Block]) {
    let bytes = edges.as_flattened_mut();
    bytes[0] = prefix;
    let Some((first, rest)) = message.split_first_chunk::<FIRST_BYTES>() else {
        bytes[1..=message.len()].copy_from_slice(message);
        return (pad(bytes, 1 + message.len(), message.len()), &[]);
    };
    bytes[1..BLOCK_BYTES].copy_from_slice(first);
    let (middle, last) = rest.as_chunks();
    for (byte, value) in bytes[BLOCK_BYTES..].iter_mut().zip(last) {
        *byte = *value;
    }
    (pad(bytes, BLOCK_BYTES + last.len(), message.len()), middle)
}

/// After the content a bit that is set, and at the end of the last block the length in bits. Returns the number of blocks.
#[cfg(target_arch = "x86_64")]
#[inline]
fn pad(bytes: &mut [u8], content_bytes: usize, message_bytes: usize) -> usize {
    bytes[content_bytes] = 0x80;
    let blocks = (content_bytes + 1 + size_of::<u64>()).div_ceil(BLOCK_BYTES);
    let bits = 8 * (1 + message_bytes as u64);
    bytes[blocks * BLOCK_BYTES - size_of::<u64>()..][..size_of::<u64>()].copy_from_slice(&bits.to_be_bytes());
    blocks
}
