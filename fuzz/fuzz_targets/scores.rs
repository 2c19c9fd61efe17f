#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tokenrank_fuzz::scores(data));
