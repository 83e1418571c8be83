//! See [`ms_fuzz::server`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ms_fuzz::server(input));
