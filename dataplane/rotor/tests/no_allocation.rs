//! After start-up the way from slice to shreds and back takes no memory from the allocator: what runs on shard threads
//! must neither wait for it nor grow.
#![allow(unsafe_code, reason = "a global allocator, here one that counts, can only be implemented with unsafe methods")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up is to panic")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use alpenglow_rotor::assembler::{Assembler, Decoded, Inserted};
use alpenglow_rotor::erasure::Kernel;
use alpenglow_rotor::parameters::{Code, CodingParameters};
use alpenglow_rotor::shred::{self, ShredView};
use alpenglow_rotor::shredder::Shredder;
use alpenglow_rotor::signer::SliceSigner;
use alpenglow_rotor::slice::SliceId;
use alpenglow_rotor::types::{ClusterId, SliceIndex, Slot, Time, ValidatorIndex};
use ed25519_dalek::SigningKey;

thread_local! {
    /// Calls to the allocator by this thread. Per thread, because the test harness allocates on others.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

fn count() {
    CALLS.with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: every method passes its arguments on to the system's allocator unchanged. Counting touches a
// constant-initialised thread-local without destructor, which neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps `alloc`'s contract, which is the same for the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as for `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps `realloc`'s contract, and `pointer` came from the system's allocator.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller keeps `dealloc`'s contract, and `pointer` came from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SLICES_PER_SLOT: usize = 3;

/// A leader and a receiver in one thread.
struct Path {
    parameters: CodingParameters,
    key: SigningKey,
    signer: SliceSigner,
    shredder: Shredder,
    assembler: Assembler,
    out: Vec<u8>,
    offsets: Vec<usize>,
    payload: Vec<u8>,
}

impl Path {
    fn new(parameters: CodingParameters, budget_bytes: usize, kernel: Kernel) -> Self {
        let cluster = ClusterId([1; 32]);
        let length = shred::wire_bytes(&parameters, parameters.shred_bytes());
        let total = parameters.total_shreds();
        let key = SigningKey::from_bytes(&[2; 32]);
        Self {
            parameters,
            signer: SliceSigner::new(&key),
            key,
            shredder: Shredder::with_kernel(parameters, cluster, kernel),
            assembler: Assembler::with_kernel(parameters, cluster, budget_bytes, kernel),
            out: vec![0; total * length],
            offsets: (0..total).map(|index| index * length).collect(),
            payload: vec![7; parameters.slice_payload_bytes()],
        }
    }

    /// The slices of one slot, every third shred lost, every fifth spoilt first, some twice, some late; then the slot
    /// closes.
    fn slot(&mut self, slot: u64) {
        for index in 0..SLICES_PER_SLOT {
            let id = SliceId { slot: Slot(slot), index: SliceIndex::new(index).unwrap() };
            let payload = &self.payload[index..];
            self.shredder.shred(
                id,
                index + 1 == SLICES_PER_SLOT,
                0,
                payload,
                &self.signer,
                &mut self.out,
                &self.offsets,
            );
            let payload_bytes = payload.len();
            let mut decoded = false;
            for round in 0..2 {
                for shred in (0..self.parameters.total_shreds()).filter(|shred| shred % 3 != round) {
                    decoded |= self.receive(shred, payload_bytes);
                }
            }
            assert!(decoded);
        }
        self.assembler.close(Slot(slot));
    }

    fn receive(&mut self, index: usize, payload_bytes: usize) -> bool {
        let length = shred::wire_bytes(&self.parameters, self.shredder.shred_len(payload_bytes));
        let bytes = &mut self.out[self.offsets[index]..][..length];
        let leader = self.key.verifying_key();
        let sender = ValidatorIndex((index % 7) as u16);
        if index.is_multiple_of(5) {
            bytes[20] ^= 1;
            let spoilt = ShredView::parse(bytes, &self.parameters).unwrap();
            assert!(self.assembler.verify(&spoilt, None, ValidatorIndex(9), &leader).is_err());
            bytes[20] ^= 1;
        }
        let shred = ShredView::parse(bytes, &self.parameters).unwrap();
        let [leaf, ..] = self.assembler.hash_leaves([(&shred, sender)]);
        let verified = self.assembler.verify(&shred, leaf, sender, &leader).unwrap();
        self.assembler.claim_relay(&verified);
        if self.assembler.insert(&shred, verified, Time(1)) != Inserted::Complete {
            return false;
        }
        match self.assembler.decode(shred.slice()) {
            Some(Decoded::Slice(slice)) => slice.payload.len() == payload_bytes,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn shredding_and_assembling_allocate_nothing() {
    for kernel in Kernel::ALL.into_iter().filter(|kernel| kernel.is_available()) {
        for (code, data, total) in [
            (Code::Rs8, 32, 64),
            (Code::Rs8, 200, 255),
            (Code::Leopard16, 32, 64),
            (Code::Leopard16, 32, 320),
            (Code::Leopard16, 255, 512),
        ] {
            let parameters = CodingParameters::new(code, data, total, 512, 1_232).unwrap();
            let mut path = Path::new(parameters, 4 << 20, kernel);
            path.slot(1);
            let before = CALLS.get();
            (2..12).for_each(|slot| path.slot(slot));
            assert_eq!(CALLS.get() - before, 0, "calls to the allocator, {parameters:?}, {} kernel", kernel.name());
        }
    }
}

#[test]
fn memory_under_pressure_allocates_nothing() {
    let parameters = CodingParameters::default();
    let mut path = Path::new(parameters, 1 << 20, Kernel::best());
    let capacity = path.assembler.capacity() as u64;
    assert!((2..100).contains(&capacity));
    let before = CALLS.get();
    // From far to near, never closing: every slice beyond the capacity evicts one.
    for slot in (100 - 2 * capacity..100).rev() {
        let id = SliceId { slot: Slot(slot), index: SliceIndex::default() };
        path.shredder.shred(id, false, 0, &path.payload, &path.signer, &mut path.out, &path.offsets);
        path.receive(0, path.payload.len());
    }
    assert_eq!(CALLS.get() - before, 0);
    assert_eq!(path.assembler.evictions(), capacity);
}

#[test]
fn the_counter_counts() {
    let before = CALLS.get();
    drop(std::hint::black_box(vec![1_u8; 100]));
    assert_eq!(CALLS.get() - before, 2);
}
