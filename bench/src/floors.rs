//! Medians of bare steps, each on data as the path has it: full slices of the default parameters, in cache.

use std::hint::black_box;
use std::time::{Duration, Instant};

use alpenglow_control::bls;
use alpenglow_rotor::assembler::{Assembler, Decoded, Inserted};
use alpenglow_rotor::erasure::{ErasureCode, Kernel, Piece, PieceSet};
use alpenglow_rotor::merkle;
use alpenglow_rotor::parameters::CodingParameters;
use alpenglow_rotor::shred::{self, ShredView};
use alpenglow_rotor::shredder::Shredder;
use alpenglow_rotor::signature::SignedRoot;
use alpenglow_rotor::signer::SliceSigner;
use alpenglow_rotor::slice::SliceId;
use alpenglow_rotor::types::{ClusterId, Hash, SliceIndex, Slot, Time, ValidatorIndex};
use ed25519_dalek::SigningKey;

use crate::fixture::noise;

const CLUSTER: ClusterId = ClusterId([1; 32]);
/// Samples of which the median is taken.
const SAMPLES: usize = 101;
/// A sample repeats a step until it takes about this long, so that reading the clock does not count.
const SAMPLE: Duration = Duration::from_micros(200);
/// Assembler memory: more than the one slice held at a time needs.
const BUDGET_BYTES: usize = 2 << 20;

/// What a step costs.
pub(crate) struct Floor {
    name: String,
    median_us: f64,
    p90_us: f64,
}

struct Floors<'a> {
    filter: &'a str,
    floors: Vec<Floor>,
}

impl Floors<'_> {
    /// Measures `step`, repeated.
    fn add(&mut self, name: impl Into<String>, mut step: impl FnMut()) {
        let name = name.into();
        if !name.contains(self.filter) {
            return;
        }
        let start = Instant::now();
        let mut warm_up: u32 = 0;
        while warm_up < 3 || start.elapsed() < 20 * SAMPLE {
            step();
            warm_up += 1;
        }
        let repetitions =
            (SAMPLE.as_nanos() / (start.elapsed().as_nanos() / u128::from(warm_up)).max(1)).clamp(1, 100_000);
        let samples = (0..SAMPLES)
            .map(|_| {
                let start = Instant::now();
                (0..repetitions).for_each(|_| step());
                start.elapsed().as_secs_f64() * 1e6 / repetitions as f64
            })
            .collect();
        self.keep(name, samples);
    }

    /// Keeps what `step` says it took, per call, in microseconds.
    fn add_timed(&mut self, name: impl Into<String>, mut step: impl FnMut() -> f64) {
        let name = name.into();
        if name.contains(self.filter) {
            step();
            let samples = (0..SAMPLES).map(|_| step()).collect();
            self.keep(name, samples);
        }
    }

    fn keep(&mut self, name: String, mut samples: Vec<f64>) {
        samples.sort_by(f64::total_cmp);
        let (median_us, p90_us) = (samples[SAMPLES / 2], samples[SAMPLES * 9 / 10]);
        self.floors.push(Floor { name, median_us, p90_us });
    }
}

/// Measures everything whose name contains `filter`.
pub(crate) fn measure_all(filter: &str) -> Vec<Floor> {
    let mut floors = Floors { filter, floors: Vec::new() };
    erasure(&mut floors);
    hashing(&mut floors);
    slice_signatures(&mut floors);
    slices(&mut floors);
    votes(&mut floors);
    floors.floors
}

fn erasure(floors: &mut Floors<'_>) {
    let parameters = CodingParameters::default();
    let (data, total, bytes) = (parameters.data_shreds(), parameters.total_shreds(), parameters.shred_bytes());
    let coded = noise(total * bytes);
    let piece = |index: usize| Piece { index: index as u16, bytes: &coded[index * bytes..][..bytes] };
    for kernel in Kernel::ALL.into_iter().filter(|kernel| kernel.is_available()) {
        let mut code = ErasureCode::with_kernel(&parameters, kernel);
        // What is computed does not depend on whether the pieces are a code word, nor does the time it takes.
        let mut compute = |name: String, known: Vec<usize>, wanted: &dyn Fn(usize) -> bool| {
            let known: Vec<_> = known.into_iter().map(piece).collect();
            let mut set = PieceSet::default();
            (0..total).filter(|index| wanted(*index)).for_each(|index| {
                set.insert(index);
            });
            floors.add(name, || {
                black_box(code.compute(black_box(&known), &set).iter().count());
            });
        };
        let name = kernel.name();
        compute(format!("erasure {name}: encode"), (0..data).collect(), &|index| index >= data);
        for lost in [1, 8, 16, 32] {
            let known: Vec<_> = (lost..data + lost).collect();
            compute(format!("erasure {name}: decode, {lost} data shreds lost"), known, &|index| index < lost);
        }
        let (known, wanted) = ((0..total).step_by(2).collect(), |index: usize| index % 2 == 1);
        compute(format!("erasure {name}: decode and encode again, every other shred lost"), known, &wanted);
    }
}

fn hashing(floors: &mut Floors<'_>) {
    let parameters = CodingParameters::default();
    let bytes = noise(parameters.total_shreds() * parameters.shred_bytes());
    floors.add("merkle: 64 leaves", || {
        bytes.chunks_exact(parameters.shred_bytes()).for_each(|data| {
            black_box(merkle::leaf(black_box(data)));
        });
    });
    let (left, right) = ([1; 32], [2; 32]);
    floors.add("merkle: 63 inner nodes", || {
        (0..63).for_each(|_| {
            black_box(merkle::node(black_box(&left), black_box(&right)));
        });
    });
    let slice = Shreds::new(1);
    let shred = slice.view(5);
    floors.add("merkle: one shred, leaf and whole path", || {
        black_box(black_box(&shred).claimed_root());
    });
    let roots = vec![Hash([3; 32]); 40];
    floors.add("merkle: block hash of 40 slices", || {
        black_box(merkle::block_hash(black_box(&roots)));
    });
}

fn slice_signatures(floors: &mut Floors<'_>) {
    let key = SigningKey::from_bytes(&[2; 32]);
    let (leader, signer) = (key.verifying_key(), SliceSigner::new(&key));
    let slice = Shreds::new(1);
    let id = slice.view(0).slice();
    let signed = SignedRoot::sign(&signer, CLUSTER, id, true, Hash([1; 32]));
    floors.add("ed25519: sign a slice root", || {
        black_box(SignedRoot::sign(&signer, CLUSTER, id, true, black_box(Hash([1; 32]))));
    });
    floors.add("ed25519: verify a slice root, strictly", || {
        assert!(black_box(&signed).verify(&leader, CLUSTER));
    });
}

/// The shreds of a full slice, and where they are.
struct Shreds {
    parameters: CodingParameters,
    bytes: Vec<u8>,
    offsets: Vec<usize>,
    shred_bytes: usize,
}

impl Shreds {
    fn new(slot: u64) -> Self {
        let parameters = CodingParameters::default();
        let shred_bytes = shred::wire_bytes(&parameters, parameters.shred_bytes());
        let offsets: Vec<_> = (0..parameters.total_shreds()).map(|index| index * shred_bytes).collect();
        let mut shreds = Self { parameters, bytes: vec![0; offsets.len() * shred_bytes], offsets, shred_bytes };
        let payload = noise(parameters.slice_payload_bytes());
        let mut shredder = Shredder::new(parameters, CLUSTER);
        shreds.shred(&mut shredder, slot, &payload);
        shreds
    }

    fn shred(&mut self, shredder: &mut Shredder, slot: u64, payload: &[u8]) {
        let id = SliceId { slot: Slot(slot), index: SliceIndex::default() };
        let signer = SliceSigner::new(&SigningKey::from_bytes(&[2; 32]));
        shredder.shred(id, true, 0, payload, &signer, &mut self.bytes, &self.offsets);
    }

    fn view(&self, index: usize) -> ShredView<'_> {
        ShredView::parse(&self.bytes[self.offsets[index]..][..self.shred_bytes], &self.parameters)
            .expect("the shredder writes shreds")
    }
}

fn slices(floors: &mut Floors<'_>) {
    let parameters = CodingParameters::default();
    let payload = noise(parameters.slice_payload_bytes());
    let mut slice = Shreds::new(1);
    for kernel in Kernel::ALL.into_iter().filter(|kernel| kernel.is_available()) {
        let mut shredder = Shredder::with_kernel(parameters, CLUSTER, kernel);
        floors.add(format!("slice, {}: shred and sign", kernel.name()), || {
            slice.shred(&mut shredder, 1, black_box(&payload));
        });
    }
    let slices: Vec<_> = (1..=16).map(Shreds::new).collect();
    let total = parameters.total_shreds();
    let orders = [
        ("data first", (0..total).collect::<Vec<_>>()),
        ("parity first", (0..total).rev().collect()),
        ("in no order", (0..total).map(|index| index * 27 % total).collect()),
    ];
    for kernel in Kernel::ALL.into_iter().filter(|kernel| kernel.is_available()) {
        for (order_name, order) in &orders {
            let name = format!("slice, {}: receive 64 shreds, {order_name}", kernel.name());
            floors.add_timed(name, || time_receiving(&slices, order, kernel));
        }
    }
    floors.add_timed("slice: check a shred after the first, nodes remembered", || time_checking(&slices));
}

/// Microseconds per slice: check, insert, decode, and close its slot.
fn time_receiving(slices: &[Shreds], order: &[usize], kernel: Kernel) -> f64 {
    let leader = SigningKey::from_bytes(&[2; 32]).verifying_key();
    let mut assembler = Assembler::with_kernel(CodingParameters::default(), CLUSTER, BUDGET_BYTES, kernel);
    // Touches the memory that every slice then uses.
    receive(&mut assembler, &slices[0], order, &leader);
    let start = Instant::now();
    slices[1..].iter().for_each(|slice| receive(&mut assembler, slice, order, &leader));
    start.elapsed().as_secs_f64() * 1e6 / (slices.len() - 1) as f64
}

fn receive(assembler: &mut Assembler, slice: &Shreds, order: &[usize], leader: &ed25519_dalek::VerifyingKey) {
    let mut decoded = 0;
    for index in order {
        let shred = slice.view(*index);
        let verified = assembler.verify(&shred, None, ValidatorIndex(0), leader).expect("an honest leader's shred");
        if assembler.insert(&shred, verified, Time(0)) == Inserted::Complete {
            assert!(matches!(assembler.decode(shred.slice()), Some(Decoded::Slice(_))));
            decoded += 1;
        }
    }
    assert_eq!(decoded, 1);
    assembler.close(slice.view(0).slice().slot);
}

/// Microseconds per shred, of the 63 that come after a slice's first one and before it is decoded.
fn time_checking(slices: &[Shreds]) -> f64 {
    let leader = SigningKey::from_bytes(&[2; 32]).verifying_key();
    let mut assembler = Assembler::new(CodingParameters::default(), CLUSTER, BUDGET_BYTES);
    let mut check = |slice: &Shreds, index| {
        black_box(assembler.verify(&slice.view(index), None, ValidatorIndex(0), &leader)).is_ok()
    };
    slices.iter().for_each(|slice| assert!(check(slice, 0)));
    let start = Instant::now();
    for slice in slices {
        (1..64).for_each(|index| assert!(check(slice, index)));
    }
    start.elapsed().as_secs_f64() * 1e6 / (63 * slices.len()) as f64
}

fn votes(floors: &mut Floors<'_>) {
    let key = bls::SecretKey::from_entropy(&[5; 32]);
    let payload = bls::HashedPayload::new(b"a vote");
    let signature = key.sign(&payload);
    let keys = bls::PublicKeySum::of(&[key.public_key()]);
    floors.add("bls: hash a payload to the curve", || {
        black_box(bls::HashedPayload::new(black_box(b"a vote")));
    });
    floors.add("bls: sign, payload hashed", || {
        black_box(key.sign(black_box(&payload)));
    });
    floors.add("bls: verify, payload hashed", || {
        assert!(bls::verify(&payload, &keys, &bls::SignatureSum::of(black_box(&[signature]))));
    });
    let hundred = vec![signature; 100];
    floors.add("bls: sum of 100 signatures", || {
        black_box(bls::SignatureSum::of(black_box(&hundred)));
    });
}

/// For people.
pub(crate) fn table(floors: &[Floor]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
    table.set_header(["step", "median µs", "p90 µs"]);
    for floor in floors {
        table.add_row([floor.name.clone(), format!("{:.2}", floor.median_us), format!("{:.2}", floor.p90_us)]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(comfy_table::CellAlignment::Right);
    }
    table
}

/// For programs: one object.
pub(crate) fn json(floors: &[Floor]) -> serde_json::Value {
    let floor =
        |floor: &Floor| serde_json::json!({"name": floor.name, "median_us": floor.median_us, "p90_us": floor.p90_us});
    serde_json::json!({
        "schema": "alpenglow.floors/1",
        "kernel": Kernel::best().name(),
        "floors": floors.iter().map(floor).collect::<Vec<_>>(),
    })
}
