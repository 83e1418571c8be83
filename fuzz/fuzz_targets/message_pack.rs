//! See [`ms_fuzz::message_pack`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| ms_fuzz::message_pack(input));
