//! The erasure code for every class of loss, against the crates in common use. Everything computes all pieces that are
//! missing, parity among them, as a receiver does that encodes again; only the pieces needed are known.
#![allow(missing_docs, reason = "what criterion's macros make is not documented")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up is to panic")]

use std::hint::black_box;

use alpenglow_rotor::erasure::{ErasureCode, Kernel, Piece, PieceSet};
use alpenglow_rotor::parameters::CodingParameters;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use reed_solomon_erasure::galois_8::ReedSolomon;
use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};

const DATA: usize = 32;
const TOTAL: usize = 64;

fn losses() -> Vec<(String, Vec<usize>)> {
    let mut losses = vec![("encode".to_owned(), (0..DATA).collect())];
    for lost in [1, 4, 8, 16, 24, 31, 32] {
        let known = (lost..DATA + lost).collect();
        losses.push((format!("{lost} data pieces lost"), known));
    }
    losses.push(("every other piece lost".to_owned(), (0..TOTAL).step_by(2).collect()));
    losses
}

fn word(bytes: usize) -> Vec<Vec<u8>> {
    let mut state = 1_u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let mut word: Vec<Vec<u8>> = (0..TOTAL).map(|_| (0..bytes).map(|_| noise()).collect()).collect();
    ReedSolomon::new(DATA, TOTAL - DATA).unwrap().encode(&mut word).unwrap();
    word
}

fn erasure(criterion: &mut Criterion) {
    let parameters = CodingParameters::default();
    let bytes = parameters.shred_bytes();
    let word = word(bytes);
    for (name, known) in losses() {
        let mut group = criterion.benchmark_group(&name);
        group.throughput(Throughput::Bytes((DATA * bytes) as u64));
        for kernel in Kernel::ALL.into_iter().filter(|kernel| kernel.is_available()) {
            let mut code = ErasureCode::with_kernel(&parameters, kernel);
            let pieces: Vec<_> =
                known.iter().map(|index| Piece { index: *index as u16, bytes: &word[*index] }).collect();
            let mut wanted = PieceSet::below(TOTAL);
            known.iter().for_each(|index| wanted.remove(*index));
            group.bench_function(format!("rs8 {}", kernel.name()), |bencher| {
                bencher.iter(|| black_box(code.compute(black_box(&pieces), &wanted).iter().count()));
            });
        }
        let oracle = ReedSolomon::new(DATA, TOTAL - DATA).unwrap();
        let mut shards: Vec<_> = word.iter().cloned().map(|bytes| (bytes, false)).collect();
        group.bench_function("reed-solomon-erasure", |bencher| {
            bencher.iter(|| {
                for (index, shard) in shards.iter_mut().enumerate() {
                    shard.1 = known.contains(&index);
                }
                oracle.reconstruct(black_box(&mut shards)).unwrap();
            });
        });
        assert!(shards.iter().zip(&word).all(|((shard, _), bytes)| shard == bytes));
        let mut leopard = Leopard::new(&word[..DATA], bytes);
        group.bench_function("reed-solomon-simd", |bencher| bencher.iter(|| leopard.rebuild(black_box(&known))));
        group.finish();
    }
}

/// Another code, with other parity, for the same number of pieces.
struct Leopard {
    encoder: ReedSolomonEncoder,
    decoder: ReedSolomonDecoder,
    word: Vec<Vec<u8>>,
    restored: Vec<Vec<u8>>,
}

impl Leopard {
    fn new(data: &[Vec<u8>], bytes: usize) -> Self {
        let mut word = data.to_vec();
        word.extend(reed_solomon_simd::encode(DATA, TOTAL - DATA, data).unwrap());
        Self {
            encoder: ReedSolomonEncoder::new(DATA, TOTAL - DATA, bytes).unwrap(),
            decoder: ReedSolomonDecoder::new(DATA, TOTAL - DATA, bytes).unwrap(),
            restored: word[..DATA].to_vec(),
            word,
        }
    }

    fn rebuild(&mut self, known: &[usize]) {
        if known.iter().any(|index| *index >= DATA) {
            for index in known {
                match index.checked_sub(DATA) {
                    None => self.decoder.add_original_shard(*index, &self.word[*index]).unwrap(),
                    Some(parity) => self.decoder.add_recovery_shard(parity, &self.word[*index]).unwrap(),
                }
            }
            for (index, bytes) in self.decoder.decode().unwrap().restored_original_iter() {
                self.restored[index].copy_from_slice(bytes);
            }
        }
        self.restored.iter().for_each(|bytes| self.encoder.add_original_shard(bytes).unwrap());
        black_box(self.encoder.encode().unwrap().recovery_iter().count());
    }
}

criterion_group!(benches, erasure);
criterion_main!(benches);
