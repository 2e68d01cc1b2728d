//! The work that no implementation can avoid, done by the fastest known code for each kind of it and nothing around it.

use std::collections::BTreeMap;
use std::hint::black_box;

use aes::Aes128Enc;
use aes::cipher::{Block, BlockCipherEncrypt, KeyInit};
use alpenglow_dataplane::auth::TAGS_AT_ONCE;
use alpenglow_dataplane::datagram::{PREFIX_BYTES, SHRED_COVERED_BYTES};
use alpenglow_rotor::erasure::{ErasureCode, Kernel, Piece, PieceSet};
use alpenglow_rotor::leader_key::LeaderKey;
use alpenglow_rotor::merkle;
use alpenglow_rotor::parameters::{CodingParameters, DATA_SHREDS_MAX};
use alpenglow_rotor::signature::SignedRoot;
use alpenglow_rotor::signer::SliceSigner;
use alpenglow_rotor::types::{ClusterId, Hash};
use aws_lc_rs::cmac;
use aws_lc_rs::digest;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use ed25519_dalek::{Signature, Signer, SigningKey};
use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};
use sha2::{Digest, Sha256};

use crate::fixture::{Cluster, LEADER, noise, pairwise_keys, slice_id};
use crate::rounds::{Sampler, median, repeated};

/// Bytes that a slice's leader signs.
pub(super) const SIGNED_BYTES: usize = 93;
/// Bytes that the MAC of a shred's datagram covers.
const MAC_COVERED_BYTES: usize = PREFIX_BYTES + SHRED_COVERED_BYTES;

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Work {
    /// The hashes of Gamma leaves.
    Leaves,
    /// All inner nodes of the tree over them.
    InnerNodes,
    /// One signature.
    Sign,
    /// Checking one.
    Verify,
    /// The parity shreds from the data shreds.
    Encode,
    /// All other shreds from gamma of them in no order.
    Rebuild,
    /// The MAC of one shred's datagram.
    Mac,
    /// Those of [`TAGS_AT_ONCE`] of them, from or to one peer.
    Macs,
}

impl Work {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Leaves => "leaves",
            Self::InnerNodes => "inner_nodes",
            Self::Sign => "sign",
            Self::Verify => "verify",
            Self::Encode => "erasure_encode",
            Self::Rebuild => "erasure_decode_and_reencode",
            Self::Mac => "mac",
            Self::Macs => "macs",
        }
    }
}

/// One way to do some work.
struct Candidate<'a> {
    work: Work,
    sampler: Sampler<'a>,
}

/// Everything known to do each of `works`, for full slices. `lost` are the shreds that [`Work::Rebuild`] computes.
fn candidates(parameters: CodingParameters, lost: &[usize], works: &[Work]) -> Vec<Candidate<'static>> {
    let mut candidates = Vec::new();
    let mut add = |work: Work, sampler: Sampler<'static>| candidates.push(Candidate { work, sampler });
    for &work in works {
        match work {
            Work::Leaves => leaves(parameters).into_iter().for_each(|sampler| add(work, sampler)),
            Work::InnerNodes => inner_nodes(parameters).into_iter().for_each(|sampler| add(work, sampler)),
            Work::Sign => sign().into_iter().for_each(|sampler| add(work, sampler)),
            Work::Verify => verify().into_iter().for_each(|sampler| add(work, sampler)),
            Work::Encode => {
                let parity: Vec<_> = (parameters.data_shreds()..parameters.total_shreds()).collect();
                our_kernels(parameters, &parity).into_iter().for_each(|sampler| add(work, sampler));
                add(work, published_encoder(parameters));
            }
            Work::Mac => mac().into_iter().for_each(|sampler| add(work, sampler)),
            Work::Macs => macs().into_iter().for_each(|sampler| add(work, sampler)),
            Work::Rebuild => {
                our_kernels(parameters, lost).into_iter().for_each(|sampler| add(work, sampler));
                add(work, published_decoder(parameters, lost));
            }
        }
    }
    candidates
}

/// Everything known to do some kinds of work, measured in turns with what is compared with it.
pub(crate) struct Bare {
    works: Vec<Work>,
    samplers: Vec<Sampler<'static>>,
    samples: Vec<Vec<f64>>,
}

impl Bare {
    /// See [`candidates`].
    pub(crate) fn new(parameters: CodingParameters, lost: &[usize], works: &[Work]) -> Self {
        let candidates = candidates(parameters, lost, works);
        let (works, samplers): (Vec<_>, Vec<_>) =
            candidates.into_iter().map(|candidate| (candidate.work, candidate.sampler)).unzip();
        Self { samples: vec![Vec::new(); works.len()], works, samplers }
    }

    /// Takes one sample of each.
    pub(crate) fn round(&mut self) {
        self.samplers.iter_mut().zip(&mut self.samples).for_each(|(sampler, samples)| samples.push(sampler()));
    }

    /// For each kind of work the samples of whatever does it fastest, by the median: microseconds, round by round.
    ///
    /// # Panics
    /// If there was no round.
    pub(crate) fn fastest(self) -> BTreeMap<Work, Vec<f64>> {
        fastest_of_each(self.works.into_iter().zip(self.samples))
    }
}

fn fastest_of_each(candidates: impl Iterator<Item = (Work, Vec<f64>)>) -> BTreeMap<Work, Vec<f64>> {
    let mut fastest: BTreeMap<Work, Vec<f64>> = BTreeMap::new();
    for (work, samples) in candidates {
        let best = fastest.entry(work).or_insert_with(|| samples.clone());
        if median(samples.clone()) < median(best.clone()) {
            *best = samples;
        }
    }
    fastest
}

/// Slices that a kernel gets in turns. One and the same would be in the first-level cache, where on the path none is.
const SLICES: usize = 4;
/// Signatures to check in turns: one and the same would have every branch predicted, and every multiple of the key that
/// it takes in the cache.
pub(super) const SIGNATURES: usize = 64;

/// Gives the numbers below `count` in turns.
fn turns(count: usize) -> impl FnMut() -> usize {
    let mut turn = 0;
    move || {
        turn = (turn + 1) % count;
        turn
    }
}

/// Keeps the compiler from leaving out what gives `value`.
fn consume<T>(value: T) {
    black_box(value);
}

fn leaves(parameters: CodingParameters) -> Vec<Sampler<'static>> {
    // The byte that marks a leaf lies before the data already: no code can hash it for less.
    let (total, bytes) = (parameters.total_shreds(), parameters.shred_bytes() + 1);
    let mut hashes = vec![[0; 32]; total];
    vec![
        of_slices(total * bytes, move |slice| {
            slice.chunks_exact(bytes).for_each(|leaf| consume(Sha256::digest(leaf)));
        }),
        of_slices(total * bytes, move |slice| {
            slice.chunks_exact(bytes).for_each(|leaf| consume(digest::digest(&digest::SHA256, leaf)));
        }),
        of_slices(total * bytes, move |slice| {
            merkle::leaves(slice.chunks_exact(bytes).map(|leaf| &leaf[1..]), &mut hashes);
            black_box(&hashes);
        }),
    ]
}

/// Does something with several slices' bytes in turns.
fn of_slices(bytes: usize, mut step: impl FnMut(&[u8]) + Send + 'static) -> Sampler<'static> {
    let (slices, mut turn) = (noise(SLICES * bytes), turns(SLICES));
    repeated(move || step(black_box(&slices[turn() * bytes..][..bytes])))
}

fn inner_nodes(parameters: CodingParameters) -> Vec<Sampler<'static>> {
    let nodes = (1 << parameters.path_nodes()) - 1;
    let children: Vec<_> = (0..2 * nodes).map(|child| [child as u8; 32]).collect();
    let mut parents = vec![[0; 32]; nodes];
    let joined = [1_u8; 65];
    vec![
        repeated(move || {
            merkle::nodes(black_box(&children).as_chunks().0, &mut parents);
            black_box(&parents);
        }),
        repeated(move || (0..nodes).for_each(|_| consume(Sha256::digest(black_box(joined))))),
        repeated(move || {
            (0..nodes).for_each(|_| consume(digest::digest(&digest::SHA256, black_box(&joined))));
        }),
    ]
}

fn sign() -> Vec<Sampler<'static>> {
    let message = [3; SIGNED_BYTES];
    let key = SigningKey::from_bytes(&[2; 32]);
    let pair = Ed25519KeyPair::from_seed_unchecked(&[2; 32]).expect("32 bytes are a seed");
    let signer = SliceSigner::new(&key);
    let root = Hash([4; 32]);
    vec![
        repeated(move || {
            consume(SignedRoot::sign(&signer, ClusterId([1; 32]), slice_id(1, 0), false, black_box(root)))
        }),
        repeated(move || consume(key.sign(black_box(&message)))),
        repeated(move || consume(pair.sign(black_box(&message)))),
    ]
}

fn verify() -> Vec<Sampler<'static>> {
    let key = SigningKey::from_bytes(&[2; 32]);
    let public = key.verifying_key();
    let other_public = UnparsedPublicKey::new(&ED25519, public.to_bytes());
    let mut prepared = LeaderKey::reserved();
    prepared.begin(&public);
    vec![
        of_signatures(&key, move |message, signature| prepared.verify(message, signature)),
        of_signatures(&key, move |message, signature| {
            public.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
        }),
        of_signatures(&key, move |message, signature| other_public.verify(message, signature).is_ok()),
    ]
}

/// Checks several signatures by `key` in turns.
fn of_signatures(
    key: &SigningKey,
    mut check: impl FnMut(&[u8], &[u8; 64]) -> bool + Send + 'static,
) -> Sampler<'static> {
    let message = |number: usize| [number as u8; SIGNED_BYTES];
    let signed: Vec<_> = (0..SIGNATURES).map(message).map(|it| (it, key.sign(&it).to_bytes())).collect();
    let mut turn = turns(SIGNATURES);
    repeated(move || {
        let (message, signature) = black_box(&signed[turn()]);
        assert!(check(message, signature));
    })
}

fn mac() -> Vec<Sampler<'static>> {
    let message = [3; MAC_COVERED_BYTES];
    let cipher = Aes128Enc::new(&[4; 16].into());
    let key = cmac::Key::new(cmac::AES_128, &[4; 16]).expect("16 bytes are a key");
    vec![
        // Each block's input depends on the block before: nothing that CMAC does can be faster than this.
        repeated(move || {
            let mut chain = 0;
            for block in black_box(&message).as_chunks().0 {
                let mut bytes = (chain ^ u128::from_be_bytes(*block)).to_be_bytes().into();
                cipher.encrypt_block(&mut bytes);
                chain = u128::from_be_bytes(bytes.into());
            }
            consume(chain);
        }),
        repeated(move || consume(cmac::sign(&key, black_box(&message)))),
    ]
}

fn macs() -> Vec<Sampler<'static>> {
    let (prefix, covered) = ([1; PREFIX_BYTES], [2; SHRED_COVERED_BYTES]);
    let keys = pairwise_keys(&Cluster::of_five());
    let messages = [[3_u8; MAC_COVERED_BYTES]; TAGS_AT_ONCE];
    let cipher = Aes128Enc::new(&[4; 16].into());
    vec![
        repeated(move || {
            let messages = [black_box((&prefix, &covered[..])); TAGS_AT_ONCE];
            black_box(keys.tags_to(LEADER, &messages));
        }),
        // As in `mac`, eight chains side by side.
        repeated(move || {
            let messages = black_box(&messages);
            let mut chains = [Block::<Aes128Enc>::default(); TAGS_AT_ONCE];
            for start in (0..MAC_COVERED_BYTES).step_by(size_of::<u128>()) {
                for (chain, message) in chains.iter_mut().zip(messages) {
                    chain.iter_mut().zip(&message[start..]).for_each(|(byte, more)| *byte ^= more);
                }
                cipher.encrypt_blocks(&mut chains);
            }
            black_box(&chains);
        }),
    ]
}

/// Our kernels, computing `wanted` from the first gamma of the others. What they compute does not depend on whether the
/// pieces are a code word, nor does the time it takes.
fn our_kernels(parameters: CodingParameters, wanted: &[usize]) -> Vec<Sampler<'static>> {
    let available = Kernel::ALL.into_iter().filter(|kernel| kernel.is_available());
    available
        .map(|kernel| {
            let (total, bytes) = (parameters.total_shreds(), parameters.shred_bytes());
            let mut code = ErasureCode::with_kernel(&parameters, kernel);
            let mut set = PieceSet::default();
            wanted.iter().for_each(|index| {
                set.insert(*index);
            });
            let known: Vec<usize> =
                (0..total).filter(|index| !set.contains(*index)).take(parameters.data_shreds()).collect();
            of_slices(total * bytes, move |slice| {
                let piece = |index: &usize| Piece { index: *index as u16, bytes: &slice[index * bytes..][..bytes] };
                let mut pieces = [Piece::default(); DATA_SHREDS_MAX];
                pieces.iter_mut().zip(&known).for_each(|(place, index)| *place = piece(index));
                black_box(code.compute(&pieces[..known.len()], &set).iter().count());
            })
        })
        .collect()
}

fn published_encoder(parameters: CodingParameters) -> Sampler<'static> {
    let (data, bytes) = (parameters.data_shreds(), parameters.shred_bytes());
    let mut encoder =
        ReedSolomonEncoder::new(data, parameters.total_shreds() - data, bytes).expect("a code it supports");
    of_slices(data * bytes, move |slice| {
        slice.chunks_exact(bytes).for_each(|piece| encoder.add_original_shard(piece).expect("a piece of its length"));
        black_box(encoder.encode().expect("all pieces are there").recovery_iter().count());
    })
}

/// Decodes, then computes the parity anew.
fn published_decoder(parameters: CodingParameters, lost: &[usize]) -> Sampler<'static> {
    let (data, total, bytes) = (parameters.data_shreds(), parameters.total_shreds(), parameters.shred_bytes());
    let known: Vec<usize> = (0..total).filter(|index| !lost.contains(index)).take(data).collect();
    let mut encoder = ReedSolomonEncoder::new(data, total - data, bytes).expect("a code it supports");
    let mut decoder = ReedSolomonDecoder::new(data, total - data, bytes).expect("a code it supports");
    of_slices(total * bytes, move |slice| {
        for index in &known {
            let piece = &slice[index * bytes..][..bytes];
            match index.checked_sub(data) {
                None => decoder.add_original_shard(*index, piece),
                Some(parity) => decoder.add_recovery_shard(parity, piece),
            }
            .expect("a piece of its length");
        }
        let restored = decoder.decode().expect("gamma pieces are there");
        for index in 0..data {
            let piece = restored.restored_original(index).unwrap_or(&slice[index * bytes..][..bytes]);
            encoder.add_original_shard(piece).expect("a piece of its length");
        }
        black_box(encoder.encode().expect("all pieces are there").recovery_iter().count());
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_is_the_fastest_of_its_candidates() {
        let samples = [(Work::Sign, vec![3.0, 9.0, 1.0]), (Work::Leaves, vec![5.0]), (Work::Sign, vec![2.0, 2.0, 4.0])];
        let fastest = fastest_of_each(samples.into_iter());
        assert_eq!(fastest, BTreeMap::from([(Work::Leaves, vec![5.0]), (Work::Sign, vec![2.0, 2.0, 4.0])]));
    }
}
