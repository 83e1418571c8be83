//! See [`ms_fuzz::gregister_log`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ms_fuzz::gregister_log(input));
