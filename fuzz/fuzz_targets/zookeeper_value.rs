//! See [`ms_fuzz::zookeeper_value`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ms_fuzz::zookeeper_value(input));
