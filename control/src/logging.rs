//! The log of the control thread, on standard error. Workers never log.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;

/// The text is no level and no directive.
#[derive(Debug, thiserror::Error)]
#[error("--log {text:?}: {cause}")]
pub struct LogError {
    text: String,
    cause: String,
}

/// Start logging. `filter` is a level (`info`) or directives by module (`warn,control::appliance=debug`).
///
/// # Errors
/// When the filter cannot be read.
pub fn start(filter: &str) -> Result<(), LogError> {
    let error = |cause: String| LogError {
        text: filter.to_owned(),
        cause,
    };
    let directives = EnvFilter::try_new(filter).map_err(|cause| error(cause.to_string()))?;
    tracing_subscriber::fmt()
        .with_env_filter(directives)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .try_init()
        .map_err(|cause| error(cause.to_string()))
}
