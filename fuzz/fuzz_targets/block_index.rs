#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    alpenglow::fuzzing::block_index(bytes);
});
