//! See [`ms_fuzz::goaway`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ms_fuzz::goaway(input));
