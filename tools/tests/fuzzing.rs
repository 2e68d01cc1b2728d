//! Every entry point of bytes from outside, on well-formed bytes and on what a few changes make of them. A failure prints how to
//! run it again; `just fuzz` goes on for longer, and towards what it has not seen yet.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up is to panic")]

use std::fs;

use alpenglow_tools::fuzzing::{ENTRY_POINTS, EntryPoint};
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// A change to bytes.
#[derive(Clone, Debug)]
enum Change {
    Set(Index, u8),
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, Index),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let length = bytes.len();
        match self {
            Self::Insert(at, inserted) => {
                let at = at.index(length + 1);
                bytes.splice(at..at, inserted.iter().copied());
            }
            _ if length == 0 => {}
            Self::Set(at, value) => bytes[at.index(length)] = *value,
            Self::Flip(at, bit) => bytes[at.index(length)] ^= 1 << (bit % 8),
            Self::Remove(from, to) => {
                let (from, to) = (from.index(length), to.index(length));
                bytes.drain(from.min(to)..from.max(to));
            }
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (any::<Index>(), prop_oneof![0..8_u8, any::<u8>()]).prop_map(|(at, value)| Change::Set(at, value)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, bit)| Change::Flip(at, bit)),
        (any::<Index>(), prop::collection::vec(any::<u8>(), 1..40)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Change::Remove(from, to)),
    ]
}

fn mutated(entry_point: EntryPoint) -> impl Strategy<Value = Vec<u8>> {
    let seeds = (entry_point.seeds)();
    let mutated = (select(seeds), prop::collection::vec(change(), 0..4)).prop_map(|(mut bytes, changes)| {
        changes.iter().for_each(|change| change.apply(&mut bytes));
        bytes
    });
    prop_oneof![4 => mutated, 1 => prop::collection::vec(any::<u8>(), 0..1_500)]
}

#[test]
fn no_entry_point_panics_on_any_bytes() {
    for entry_point in ENTRY_POINTS {
        let config = ProptestConfig { cases: 1_000, ..ProptestConfig::with_source_file(file!()) };
        let outcome = proptest::test_runner::TestRunner::new(config).run(&mutated(entry_point), |bytes| {
            (entry_point.run)(&bytes);
            Ok(())
        });
        outcome.unwrap_or_else(|failure| panic!("{}: {failure}", entry_point.name));
    }
}

/// What starts from refused bytes may see nothing but refusals.
#[test]
fn every_seed_is_read() {
    for entry_point in ENTRY_POINTS {
        for (index, seed) in (entry_point.seeds)().iter().enumerate() {
            assert!((entry_point.run)(seed), "{} refuses its seed {index}", entry_point.name);
        }
    }
}

#[test]
fn every_entry_point_has_a_fuzz_target() {
    for entry_point in ENTRY_POINTS {
        let path = format!("{}/../fuzz/fuzz_targets/{}.rs", env!("CARGO_MANIFEST_DIR"), entry_point.name);
        let target = fs::read_to_string(&path).unwrap();
        assert!(target.contains(&format!("fuzzing::{}(", entry_point.name)), "{path}");
    }
}
