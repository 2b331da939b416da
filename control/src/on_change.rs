//! The command that is run when a service is announced or withdrawn. Called by [`crate::reactor`], on its thread, which does
//! not wait for it.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::Command;

use crate::appliance::Run;

/// A command that takes longer is killed.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Run the command to its end; the service, and what went wrong. What it says on standard error goes where our log goes.
pub(crate) async fn execute(run: Run) -> (String, Result<(), String>) {
    let Some((program, arguments)) = run.command.split_first() else {
        return (run.service, Ok(()));
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .envs(run.environment)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true);
    let status = tokio::time::timeout(TIMEOUT, command.status());
    let outcome = match status.await {
        Err(_) => Err(format!(
            "{program} was killed after {} s",
            TIMEOUT.as_secs()
        )),
        Ok(Err(error)) => Err(format!("{program} cannot be run: {error}")),
        Ok(Ok(status)) => judge(program, status),
    };
    (run.service, outcome)
}

fn judge(program: &str, status: ExitStatus) -> Result<(), String> {
    if status.success() {
        Ok(())
    } else {
        Err(format!("{program} failed: {status}"))
    }
}
