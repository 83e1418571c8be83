//! See [`ms_fuzz::etcd_value`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ms_fuzz::etcd_value(input));
