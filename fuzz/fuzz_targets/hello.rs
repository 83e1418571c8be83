//! See [`ms_fuzz::hello`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ms_fuzz::hello(input));
