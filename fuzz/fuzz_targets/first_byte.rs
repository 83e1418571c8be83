//! See [`ms_fuzz::first_byte`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ms_fuzz::first_byte(input));
