//! What the Pool does for one vote, apart from checking its signature: admission, the place, the stake sums and the sum
//! of signatures, thresholds, the certificate. By validators, by the size of batches and by slots in flight.
#![allow(missing_docs, reason = "what criterion's macros make is not documented")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up is to panic")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use alpenglow_control::bls::{HashedPayload, SecretKey, SignatureBytes};
use alpenglow_control::consensus::{Admission, Consensus, ConsensusConfig};
use alpenglow_control::stakes::Stakes;
use alpenglow_control::vote::{UnverifiedVote, VerifiedVotes, VotePayload};
use alpenglow_rotor::types::{BlockId, ClusterId, Hash, Slot, Stake, Time, ValidatorIndex};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const VALIDATORS: [usize; 4] = [100, 500, 1_500, 2_000];
/// Votes are taken for so many slots ahead.
const SLOTS_IN_FLIGHT: [u64; 4] = [1, 4, 16, 40];
const NOW: Time = Time(0);

/// A set of validators, with a signature of each. They are points of the curve and differ, which is all that the Pool's
/// work depends on.
struct Set {
    stakes: Arc<Stakes>,
    signatures: Vec<SignatureBytes>,
}

impl Set {
    fn new(validators: usize) -> Self {
        let payload = HashedPayload::new(b"benchmark");
        let sign = |validator: usize| {
            let mut entropy = [0; 32];
            entropy[..8].copy_from_slice(&(validator as u64).to_le_bytes());
            SecretKey::from_entropy(&entropy).sign(&payload).to_bytes()
        };
        Self {
            stakes: Arc::new(Stakes::new(vec![Stake(1); validators])),
            signatures: (0..validators).map(sign).collect(),
        }
    }

    /// Validator 0's node: it has no block and no timer fires, so it casts no vote, which would cost a signature.
    fn node(&self) -> Consensus {
        let config = ConsensusConfig {
            own: ValidatorIndex(0),
            secret_key: SecretKey::from_entropy(&[1; 32]),
            stakes: Arc::clone(&self.stakes),
            cluster: ClusterId([0; 32]),
            delta_block: Duration::from_millis(400),
            delta_timeout: Duration::from_millis(1_200),
            standstill_interval: Duration::from_secs(10),
            crashed_leader: None,
        };
        Consensus::new(config, NOW)
    }

    /// All others' votes.
    fn votes(&self, payload: VotePayload) -> Vec<UnverifiedVote> {
        let others = self.signatures.iter().enumerate().skip(1);
        let vote = |(at, signature): (usize, &SignatureBytes)| UnverifiedVote {
            payload,
            signer: ValidatorIndex(at as u16),
            signature: *signature,
        };
        others.map(vote).collect()
    }

    fn batches(&self, payload: VotePayload, batch: usize) -> Vec<VerifiedVotes> {
        self.votes(payload).chunks(batch).map(|votes| VerifiedVotes::assume_checked(votes.to_vec())).collect()
    }

    /// A node that has admitted all votes for these payloads.
    fn admitted(&self, payloads: &[VotePayload]) -> Consensus {
        let mut node = self.node();
        for payload in payloads {
            admit(&mut node, &self.votes(*payload));
        }
        node
    }
}

fn notar(slot: u64) -> VotePayload {
    VotePayload::Notar(BlockId { slot: Slot(slot), hash: Hash([7; 32]) })
}

fn admit(node: &mut Consensus, votes: &[UnverifiedVote]) {
    for vote in votes {
        assert!(node.admit(vote) == Admission::Check);
    }
}

/// Stores batches and drains what they cause, as the control loop does.
fn store(mut node: Consensus, batches: Vec<VerifiedVotes>) -> Consensus {
    for batch in batches {
        node.votes(NOW, batch);
        while let Some(event) = node.poll() {
            black_box(event);
        }
    }
    node
}

fn by_validators(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("votes of one payload, by validators");
    for validators in VALIDATORS {
        let set = Set::new(validators);
        let votes = set.votes(notar(1));
        group.throughput(Throughput::Elements(votes.len() as u64));
        group.bench_function(BenchmarkId::new("admitted", validators), |bencher| {
            let run = |mut node: Consensus| {
                admit(&mut node, &votes);
                node
            };
            bencher.iter_batched(|| set.node(), run, BatchSize::LargeInput);
        });
        for batch in [1, 8, 64, 2_000] {
            let batches = set.batches(notar(1), batch);
            group.bench_function(BenchmarkId::new(format!("stored in batches of {batch}"), validators), |bencher| {
                let setup = || (set.admitted(&[notar(1)]), batches.clone());
                bencher.iter_batched(setup, |(node, batches)| store(node, batches), BatchSize::LargeInput);
            });
        }
    }
}

fn by_slots_in_flight(criterion: &mut Criterion) {
    let set = Set::new(1_500);
    let mut group = criterion.benchmark_group("votes of 1500 validators, by slots in flight");
    for slots in SLOTS_IN_FLIGHT {
        // Skip certificates leave their slots open.
        let payloads: Vec<_> = (1..=slots).map(|slot| VotePayload::Skip(Slot(slot))).collect();
        let of_slots: Vec<_> = payloads.iter().map(|payload| set.batches(*payload, 8)).collect();
        let rounds = of_slots[0].len();
        let batches: Vec<_> =
            (0..rounds).flat_map(|round| of_slots.iter().map(move |batches| batches[round].clone())).collect();
        group.throughput(Throughput::Elements(slots * (set.stakes.len() as u64 - 1)));
        group.bench_function(BenchmarkId::new("stored in batches of 8", slots), |bencher| {
            let setup = || (set.admitted(&payloads), batches.clone());
            bencher.iter_batched(setup, |(node, batches)| store(node, batches), BatchSize::LargeInput);
        });
    }
}

fn misbehaving(criterion: &mut Criterion) {
    let set = Set::new(2_000);
    let votes: Vec<_> = set
        .votes(notar(1))
        .into_iter()
        .map(|vote| {
            let mut hash = [0; 32];
            hash[..2].copy_from_slice(&vote.signer.0.to_le_bytes());
            let payload = VotePayload::Notar(BlockId { slot: Slot(1), hash: Hash(hash) });
            UnverifiedVote { payload, ..vote }
        })
        .collect();
    let batches: Vec<_> = votes.iter().map(|vote| VerifiedVotes::assume_checked(vec![*vote])).collect();
    let mut group = criterion.benchmark_group("votes of 2000 validators, each for a block of its own");
    group.throughput(Throughput::Elements(votes.len() as u64));
    group.bench_function("admitted and stored", |bencher| {
        let run = |(mut node, batches): (Consensus, Vec<VerifiedVotes>)| {
            admit(&mut node, &votes);
            store(node, batches)
        };
        bencher.iter_batched(|| (set.node(), batches.clone()), run, BatchSize::LargeInput);
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = by_validators, by_slots_in_flight, misbehaving
}
criterion_main!(benches);
