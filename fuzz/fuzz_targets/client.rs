//! See [`ms_fuzz::client`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ms_fuzz::client(input));
