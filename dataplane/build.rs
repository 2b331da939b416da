//! Hands the compiler flags of this build to the crate's tests: `tests/compiler_canary.rs` checks that the flags of
//! `.cargo/config.toml` are in force. Nothing else looks at them.

fn main() {
    // Nothing in the folder matters; cargo runs the script again by itself when the flags change.
    println!("cargo::rerun-if-changed=build.rs");
    let flags = std::env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    println!("cargo::rustc-env=DATAPLANE_RUSTFLAGS={flags}");
}
