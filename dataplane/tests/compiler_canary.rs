//! A canary for the compiler hazard: rustc 1.95 loses a counter increment when a comparison is both added to a counter
//! and branched on in an inlined function (rust-lang/rust issue 158206, MIR pass `SimplifyComparisonIntegral`). The pass
//! is switched off in `.cargo/config.toml`, and our own code counts inside the branch.
//!
//! Meant for release mode, where the pass runs: at opt-level 0 and 1 nothing is lost. `ci/test` runs both. Without the
//! flag the first two tests fail here in release mode, as they should.

use std::hint::black_box;

/// The pattern of the report, with values that are counted, compared and branched on.
macro_rules! counted_and_branched_on {
    ($name:ident, $kind:ty, $wanted:expr, $count:expr) => {
        #[inline(always)]
        fn $name(counters: &mut [u64; 4], value: $kind) -> bool {
            let is_wanted = value == $wanted;
            let count: fn(bool) -> u64 = $count;
            counters[0] += count(is_wanted);
            is_wanted
        }
    };
}

/// The same without a function pointer between, as one writes it.
#[inline(always)]
fn is_version_6(counters: &mut [u64; 4], version: u8) -> bool {
    let is_6 = version == 6;
    counters[0] += is_6 as u64; // `as`: the hazard itself
    is_6
}

#[inline(always)]
fn is_version_6_from(counters: &mut [u64; 4], version: u8) -> bool {
    let is_6 = version == 6;
    counters[0] += u64::from(is_6);
    is_6
}

#[inline(always)]
fn is_version_6_matches(counters: &mut [u64; 4], version: u8) -> bool {
    let is_6 = matches!(version, 6);
    counters[0] += u64::from(is_6);
    is_6
}

#[inline(always)]
fn is_type_ipv6(counters: &mut [u64; 4], ether_type: u16) -> bool {
    let is_ipv6 = ether_type == 0x86dd;
    counters[0] += u64::from(is_ipv6);
    is_ipv6
}

#[inline(always)]
fn is_length_zero(counters: &mut [u64; 4], length: u64) -> bool {
    let is_zero = length == 0;
    counters[0] += u64::from(is_zero);
    is_zero
}

counted_and_branched_on!(is_through_a_pointer, i32, -7, u64::from);

/// How often the counter and the branch each saw the value.
macro_rules! seen {
    ($check:ident, $values:expr) => {{
        let mut counters = [0; 4];
        for value in $values {
            if $check(&mut counters, black_box(value)) {
                counters[1] += 1;
            } else {
                counters[2] += 1;
            }
        }
        (counters[0], counters[1], counters[2])
    }};
}

#[test]
fn a_comparison_that_is_counted_and_branched_on_is_counted() {
    assert_eq!(seen!(is_version_6, [6_u8; 1000]), (1000, 1000, 0));
    assert_eq!(seen!(is_version_6_from, [6_u8; 1000]), (1000, 1000, 0));
    assert_eq!(seen!(is_version_6_matches, [6_u8; 1000]), (1000, 1000, 0));
    assert_eq!(seen!(is_type_ipv6, [0x86dd_u16; 1000]), (1000, 1000, 0));
    assert_eq!(seen!(is_length_zero, [0_u64; 1000]), (1000, 1000, 0));
    assert_eq!(seen!(is_through_a_pointer, [-7; 1000]), (1000, 1000, 0));
}

#[test]
fn it_is_right_for_every_value() {
    assert_eq!(seen!(is_version_6, 0..=u8::MAX), (1, 1, 255));
    assert_eq!(seen!(is_version_6_from, 0..=u8::MAX), (1, 1, 255));
    assert_eq!(seen!(is_version_6_matches, 0..=u8::MAX), (1, 1, 255));
    assert_eq!(seen!(is_type_ipv6, 0..=u16::MAX), (1, 1, 65_535));
    assert_eq!(seen!(is_length_zero, 0..1000), (1, 1, 999));
    assert_eq!(seen!(is_through_a_pointer, -500..500), (1, 1, 999));
}

/// The flag this crate was really compiled with, not the one a file asks for: `build.rs` hands it on.
#[test]
fn the_pass_is_switched_off() {
    let flags: Vec<&str> = env!("DATAPLANE_RUSTFLAGS").split('\u{1f}').collect();
    assert!(
        flags.contains(&"-Zmir-enable-passes=-SimplifyComparisonIntegral"),
        "compiled with {flags:?}: a RUSTFLAGS variable replaces the flags of .cargo/config.toml"
    );
}
