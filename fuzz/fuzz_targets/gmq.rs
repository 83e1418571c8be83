//! See [`ms_fuzz::gmq`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ms_fuzz::gmq(input));
