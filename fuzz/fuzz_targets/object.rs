#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| chatlake_fuzz::object(data));
