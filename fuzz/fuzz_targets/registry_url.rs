//! See [`ms_fuzz::registry_url`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ms_fuzz::registry_url(input));
