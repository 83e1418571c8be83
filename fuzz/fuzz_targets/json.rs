//! See [`ms_fuzz::json`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ms_fuzz::json(input));
