//! See [`ms_fuzz::request_head`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ms_fuzz::request_head(input));
