#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tandem_api::fuzz::headers(bytes));
