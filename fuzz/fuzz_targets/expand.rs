//! See [`ms_fuzz::expand`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ms_fuzz::expand(input));
