//! See [`ms_fuzz::gate_frames`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ms_fuzz::gate_frames(input));
