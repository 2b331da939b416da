//! `guided`: libFuzzer at the targets of [`perf::fuzz::messages`], the one that `SEXTANT_FUZZ_TARGET` names. `ci/fuzz
//! guided` builds it with instrumented code and runs it.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use perf::fuzz::messages::Target;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("SEXTANT_FUZZ_TARGET").unwrap_or_default();
    Target::named(&name).expect("SEXTANT_FUZZ_TARGET is codec, xtr or map-server")
});

fuzz_target!(|input: &[u8]| {
    let _ = TARGET.check(input);
});
