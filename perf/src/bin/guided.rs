//! `guided`: libFuzzer at a target of [`perf::fuzz::messages`], from its seeds on. `ci/fuzz guided` builds it with
//! instrumented code and runs it with the target's name in `SEXTANT_FUZZ_TARGET` and the folder of inputs in
//! `SEXTANT_FUZZ_INPUTS`.
#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use perf::fuzz::messages::Target;

static TARGET: OnceLock<Target> = OnceLock::new();

fuzz_target!(
    init: {
        let name = std::env::var("SEXTANT_FUZZ_TARGET").unwrap_or_default();
        let target = Target::named(&name).expect("SEXTANT_FUZZ_TARGET is codec, xtr or map-server");
        let folder = std::env::var("SEXTANT_FUZZ_INPUTS").expect("SEXTANT_FUZZ_INPUTS is a folder");
        for (number, seed) in target.seeds().iter().enumerate() {
            let path = PathBuf::from(&folder).join(format!("seed-{number}"));
            std::fs::write(path, seed).expect("the folder can be written to");
        }
        TARGET.get_or_init(|| target);
    },
    |input: &[u8]| {
        if let Some(target) = TARGET.get() {
            let _ = target.check(input);
        }
    }
);
