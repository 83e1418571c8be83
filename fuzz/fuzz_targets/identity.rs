//! See [`ms_fuzz::identity`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ms_fuzz::identity(input));
