//! The fuzzer on the decoder: `make fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dutch_master_fuzz::decoder::run(data));
