//! SHA-256 of many messages of one length at once, each behind the same prefix byte: the leaves of a Merkle tree, or
//! the inner nodes of one level.
//!
//! One message's rounds wait for each other, so that a processor that computes them one message after the other mostly
//! waits. Here two messages share the SHA instructions, or eight or sixteen the lanes of vectors. All kernels give the
//! same hashes, those of the sha2 crate.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod lanes;
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
/// Messages for which sixteen lanes take less time than pairs do on SHA-NI. This is from models of Ice Lake and Zen 4
/// (58 and 62 cycles for a block of one of sixteen messages, 81 and 118 for one of two), not measured.
#[cfg(target_arch = "x86_64")]
const SIXTEEN_LANES_MIN: usize = 12;

const INITIAL_STATE: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// The round constants, four rounds a row and sixteen a table: the first 32 bits of the fractional parts of the cube
/// roots of the first 64 primes (FIPS 180-4).
#[cfg(target_arch = "x86_64")]
static CONSTANTS: [[[u32; 4]; 4]; 4] = [
    [
        [0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5],
        [0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5],
        [0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3],
        [0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174],
    ],
    [
        [0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc],
        [0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da],
        [0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7],
        [0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967],
    ],
    [
        [0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13],
        [0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85],
        [0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3],
        [0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070],
    ],
    [
        [0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5],
        [0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3],
        [0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208],
        [0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2],
    ],
];

/// How hashes are computed. All kernels give the same ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashKernel {
    /// The sha2 crate, one message after the other, on every machine.
    Sha2,
    /// Eight messages at once, on x86-64 with AVX2.
    Avx2,
    /// Two messages at once, on x86-64 with SHA-NI.
    ShaNi,
    /// Sixteen messages at once, on x86-64 with AVX-512; too few for that as with SHA-NI, if there is that too.
    Avx512,
}

impl HashKernel {
    /// Every kernel, the preferred one last.
    pub const ALL: [Self; 4] = [Self::Sha2, Self::Avx2, Self::ShaNi, Self::Avx512];

    /// Name for reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha2 => "sha2",
            Self::Avx2 => "avx2",
            Self::ShaNi => "sha-ni",
            Self::Avx512 => "avx512",
        }
    }

    /// Whether this processor can run it.
    #[must_use]
    pub fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        match self {
            Self::Sha2 => true,
            Self::Avx2 => is_x86_feature_detected!("avx2"),
            Self::Avx512 => is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw"),
            Self::ShaNi => is_x86_feature_detected!("sha") && is_x86_feature_detected!("avx"),
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Self::Sha2
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
                    *hash = hash_one(prefix, message);
                }
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => hash_all(prefix, messages, hashes, avx2::compress),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 if messages.len() < SIXTEEN_LANES_MIN && Self::ShaNi.is_available() => {
                Self::ShaNi.hash_batch(prefix, messages, hashes);
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => hash_all(prefix, messages, hashes, avx512::compress),
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
            _ => panic!("this processor cannot run the {} kernel", self.name()),
        }
    }
}

fn hash_one(prefix: u8, message: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update([prefix]).chain_update(message).finalize().into()
}

/// Sets `hashes` to those of `messages` of one length, `N` of them at a time. Lanes without a message repeat the last
/// one, but for a message alone that does not pay.
#[cfg(target_arch = "x86_64")]
fn hash_all<const N: usize>(
    prefix: u8,
    messages: &[&[u8]],
    hashes: &mut [[u8; 32]],
    compress: impl Fn(&mut [[u32; 8]; N], &[&[Block]; N]),
) {
    for (messages, hashes) in messages.chunks(N).zip(hashes.chunks_mut(N)) {
        if let ([message], [hash]) = (messages, &mut *hashes) {
            *hash = hash_one(prefix, message);
            continue;
        }
        let mut batch = [messages[messages.len() - 1]; N];
        batch[..messages.len()].copy_from_slice(messages);
        let mut batch_hashes = [[0; 32]; N];
        hash(prefix, &batch, &mut batch_hashes, &compress);
        hashes.copy_from_slice(&batch_hashes[..hashes.len()]);
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
    // The first block, and what follows the middle: whatever holds more than bytes of the message. The middle is not
    // copied.
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

/// Fills in `edges`, which are zeros, with the parts of a message with prefix and padding that are not whole blocks of
/// it, and returns how many of them there are and the blocks whose place is after the first of them.
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

/// After the content a bit that is set, and at the end of the last block the length in bits. Returns the number of
/// blocks.
#[cfg(target_arch = "x86_64")]
#[inline]
fn pad(bytes: &mut [u8], content_bytes: usize, message_bytes: usize) -> usize {
    bytes[content_bytes] = 0x80;
    let blocks = (content_bytes + 1 + size_of::<u64>()).div_ceil(BLOCK_BYTES);
    let bits = 8 * (1 + message_bytes as u64);
    bytes[blocks * BLOCK_BYTES - size_of::<u64>()..][..size_of::<u64>()].copy_from_slice(&bits.to_be_bytes());
    blocks
}
