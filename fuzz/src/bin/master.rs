//! The fuzzer on a whole master: `make fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| dutch_master_fuzz::master::run(data));
