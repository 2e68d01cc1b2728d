//! The scripted conformance vectors, run against the real Pool and Votor.

use std::path::PathBuf;

use alpenglow_tools::conformance;

#[test]
fn scripted_vectors_pass() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/scripted.jsonl");
    let mut report = Vec::new();
    let tally = conformance::run_files(&[file], &mut report).expect("the vectors can be read");
    let report = String::from_utf8_lossy(&report);
    assert_eq!(tally.failed, 0, "{report}");
    assert_eq!(tally.passed, 35, "vectors went missing: {report}");
}
