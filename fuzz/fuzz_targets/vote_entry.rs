#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    alpenglow_tools::fuzzing::vote_entry(bytes);
});
