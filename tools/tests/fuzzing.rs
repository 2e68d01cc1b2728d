//! Every entry point of bytes from outside, on well-formed bytes and on what a few changes make of them. A failure
//! prints how to run it again; `just fuzz` goes on for longer, and towards what it has not seen yet.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up is to panic")]

mod mutation;

use alpenglow_tools::fuzzing::ENTRY_POINTS;

#[test]
fn no_entry_point_panics_on_any_bytes() {
    for entry_point in ENTRY_POINTS {
        mutation::drive(entry_point.name, entry_point.run, entry_point.seeds, 1_000);
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
