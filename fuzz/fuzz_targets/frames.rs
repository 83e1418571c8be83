//! See [`ms_fuzz::frames`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ms_fuzz::frames(input));
