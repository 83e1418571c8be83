//! See [`ms_fuzz::gate_routes`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ms_fuzz::gate_routes(input));
