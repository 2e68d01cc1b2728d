//! The work that no implementation can avoid, done by the fastest known code for each kind of it and nothing around it.

use std::collections::BTreeMap;
use std::hint::black_box;

use aes::Aes128Enc;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
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
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use ed25519_dalek::{Signer, SigningKey};
use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};
use sha2::{Digest, Sha256};

use super::fixture::{noise, slice_id};
use super::rounds::{Sampler, medians, repeated};

/// Bytes that a slice's leader signs.
const SIGNED_BYTES: usize = 93;
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
        }
    }
}

/// One way to do some work.
pub(crate) struct Candidate<'a> {
    pub(crate) work: Work,
    pub(crate) sampler: Sampler<'a>,
}

/// Everything known to do each of `works`, for full slices. `lost` are the shreds that [`Work::Rebuild`] computes.
pub(crate) fn candidates(parameters: CodingParameters, lost: &[usize], works: &[Work]) -> Vec<Candidate<'static>> {
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
            Work::Rebuild => {
                our_kernels(parameters, lost).into_iter().for_each(|sampler| add(work, sampler));
                add(work, published_decoder(parameters, lost));
            }
        }
    }
    candidates
}

/// The median time of the fastest candidate for each of `works`, in microseconds.
pub(crate) fn fastest(
    parameters: CodingParameters,
    lost: &[usize],
    works: &[Work],
    rounds: usize,
) -> BTreeMap<Work, f64> {
    let candidates = candidates(parameters, lost, works);
    let (works, mut samplers): (Vec<_>, Vec<_>) =
        candidates.into_iter().map(|candidate| (candidate.work, candidate.sampler)).unzip();
    let medians = medians(&mut samplers, rounds);
    least_of_each(works.into_iter().zip(medians))
}

/// The least time of each work.
pub(crate) fn least_of_each(times: impl Iterator<Item = (Work, f64)>) -> BTreeMap<Work, f64> {
    let mut least: BTreeMap<Work, f64> = BTreeMap::new();
    for (work, time) in times {
        let best = least.entry(work).or_insert(time);
        *best = best.min(time);
    }
    least
}

/// Keeps the compiler from leaving out what gives `value`.
fn consume<T>(value: T) {
    black_box(value);
}

fn leaves(parameters: CodingParameters) -> Vec<Sampler<'static>> {
    // The byte that marks a leaf lies before the data already: no code can hash it for less.
    let bytes = parameters.shred_bytes() + 1;
    let marked = noise(parameters.total_shreds() * bytes);
    let same = marked.clone();
    let data = noise(parameters.total_shreds() * parameters.shred_bytes());
    let mut hashes = vec![[0; 32]; parameters.total_shreds()];
    vec![
        repeated(move || marked.chunks_exact(bytes).for_each(|leaf| consume(Sha256::digest(black_box(leaf))))),
        repeated(move || {
            same.chunks_exact(bytes).for_each(|leaf| consume(digest::digest(&digest::SHA256, black_box(leaf))));
        }),
        repeated(move || {
            merkle::leaves(black_box(&data).chunks_exact(parameters.shred_bytes()), &mut hashes);
            black_box(&hashes);
        }),
    ]
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
    let message = [3; SIGNED_BYTES];
    let key = SigningKey::from_bytes(&[2; 32]);
    let (public, signature) = (key.verifying_key(), key.sign(&message));
    let pair = Ed25519KeyPair::from_seed_unchecked(&[2; 32]).expect("32 bytes are a seed");
    let other_public = UnparsedPublicKey::new(&ED25519, pair.public_key().as_ref().to_vec());
    let bytes = signature.to_bytes();
    let mut prepared = LeaderKey::reserved();
    prepared.begin(&public);
    vec![
        repeated(move || assert!(prepared.verify(black_box(&message), &bytes))),
        repeated(move || assert!(public.verify_strict(black_box(&message), &signature).is_ok())),
        repeated(move || assert!(other_public.verify(black_box(&message), &bytes).is_ok())),
    ]
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

/// Our kernels, computing `wanted` from the first gamma of the others. What they compute does not depend on whether the
/// pieces are a code word, nor does the time it takes.
fn our_kernels(parameters: CodingParameters, wanted: &[usize]) -> Vec<Sampler<'static>> {
    let available = Kernel::ALL.into_iter().filter(|kernel| kernel.is_available());
    available
        .map(|kernel| {
            let (total, bytes) = (parameters.total_shreds(), parameters.shred_bytes());
            let coded = noise(total * bytes);
            let mut code = ErasureCode::with_kernel(&parameters, kernel);
            let mut set = PieceSet::default();
            wanted.iter().for_each(|index| {
                set.insert(*index);
            });
            let known: Vec<usize> =
                (0..total).filter(|index| !set.contains(*index)).take(parameters.data_shreds()).collect();
            repeated(move || {
                let piece = |index: &usize| Piece { index: *index as u16, bytes: &coded[index * bytes..][..bytes] };
                let mut pieces = [Piece::default(); DATA_SHREDS_MAX];
                pieces.iter_mut().zip(&known).for_each(|(place, index)| *place = piece(index));
                black_box(code.compute(black_box(&pieces[..known.len()]), &set).iter().count());
            })
        })
        .collect()
}

fn published_encoder(parameters: CodingParameters) -> Sampler<'static> {
    let (data, bytes) = (parameters.data_shreds(), parameters.shred_bytes());
    let pieces = noise(data * bytes);
    let mut encoder =
        ReedSolomonEncoder::new(data, parameters.total_shreds() - data, bytes).expect("a code it supports");
    repeated(move || {
        pieces.chunks_exact(bytes).for_each(|piece| encoder.add_original_shard(piece).expect("a piece of its length"));
        black_box(encoder.encode().expect("all pieces are there").recovery_iter().count());
    })
}

/// Decodes, then computes the parity anew.
fn published_decoder(parameters: CodingParameters, lost: &[usize]) -> Sampler<'static> {
    let (data, total, bytes) = (parameters.data_shreds(), parameters.total_shreds(), parameters.shred_bytes());
    let known: Vec<usize> = (0..total).filter(|index| !lost.contains(index)).take(data).collect();
    let pieces = noise(total * bytes);
    let mut encoder = ReedSolomonEncoder::new(data, total - data, bytes).expect("a code it supports");
    let mut decoder = ReedSolomonDecoder::new(data, total - data, bytes).expect("a code it supports");
    repeated(move || {
        for index in &known {
            let piece = &pieces[index * bytes..][..bytes];
            match index.checked_sub(data) {
                None => decoder.add_original_shard(*index, piece),
                Some(parity) => decoder.add_recovery_shard(parity, piece),
            }
            .expect("a piece of its length");
        }
        let restored = decoder.decode().expect("gamma pieces are there");
        for index in 0..data {
            let piece = restored.restored_original(index).unwrap_or(&pieces[index * bytes..][..bytes]);
            encoder.add_original_shard(piece).expect("a piece of its length");
        }
        black_box(encoder.encode().expect("all pieces are there").recovery_iter().count());
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_is_the_least_of_its_candidates() {
        let times = [(Work::Sign, 3.0), (Work::Leaves, 5.0), (Work::Sign, 2.0), (Work::Sign, 4.0)];
        let least = least_of_each(times.into_iter());
        assert_eq!(least, BTreeMap::from([(Work::Leaves, 5.0), (Work::Sign, 2.0)]));
    }
}
