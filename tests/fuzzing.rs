//! Every file that a node reads, well-formed and as a few changes leave it. A failure prints how to run it again; `just
//! fuzz` goes on for longer, and towards what it has not seen yet.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up is to panic")]

#[path = "../tools/tests/mutation/mod.rs"]
mod mutation;

use alpenglow::fuzzing::ENTRY_POINTS;

/// Most inputs are refused at once; of a genesis file that is not, the keys are checked, which takes milliseconds.
const INPUTS: u32 = 500;

#[test]
fn no_file_makes_its_reader_panic() {
    for (name, run, seeds) in ENTRY_POINTS {
        mutation::drive(name, run, seeds, INPUTS);
    }
}

/// What starts from refused bytes may see nothing but refusals.
#[test]
fn every_seed_of_a_file_is_read() {
    for (name, run, seeds) in ENTRY_POINTS {
        for (index, seed) in seeds().iter().enumerate() {
            assert!(run(seed), "{name} refuses its seed {index}");
        }
    }
}
