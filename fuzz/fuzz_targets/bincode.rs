//! See [`ms_fuzz::bincode`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ms_fuzz::bincode(input));
