//! Hashing the Merkle tree of a slice, leaves and inner nodes, with every kernel this processor can run. `sha2` is the
//! crate in common use.
#![allow(missing_docs, reason = "what criterion's macros make is not documented")]

use std::hint::black_box;

use alpenglow_rotor::parameters::CodingParameters;
use alpenglow_rotor::sha256_lanes::HashKernel;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn hashes(criterion: &mut Criterion) {
    let parameters = CodingParameters::default();
    let bytes = parameters.shred_bytes();
    let leaves = vec![7; parameters.total_shreds() * bytes];
    for (name, message_bytes, count) in [
        ("all leaves", bytes, parameters.total_shreds()),
        ("13 leaves", bytes, 13),
        ("32 inner nodes", 64, 32),
        ("4 inner nodes", 64, 4),
        ("1 inner node", 64, 1),
    ] {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes((count * message_bytes) as u64));
        let mut hashes = vec![[0; 32]; count];
        for kernel in HashKernel::ALL.into_iter().filter(|kernel| kernel.is_available()) {
            group.bench_function(kernel.name(), |bencher| {
                bencher.iter(|| {
                    kernel.hash_prefixed(0, black_box(&leaves).chunks_exact(message_bytes), &mut hashes);
                    black_box(&mut hashes);
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, hashes);
criterion_main!(benches);
