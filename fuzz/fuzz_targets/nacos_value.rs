//! See [`ms_fuzz::nacos_value`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ms_fuzz::nacos_value(input));
