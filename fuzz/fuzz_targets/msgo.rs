//! See [`ms_fuzz::msgo`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ms_fuzz::msgo(input));
