//! Commands with a time limit that a signal can end.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How often a running command is looked at.
const LOOK: Duration = Duration::from_millis(10);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// What can go wrong in the laboratory.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The program is not there.
    #[error("cannot run `{command}`: {source}")]
    Spawn {
        /// What was to run.
        command: String,
        /// Why it did not.
        source: std::io::Error,
    },
    /// It ended with an error.
    #[error("`{command}` failed ({status}): {output}")]
    Failed {
        /// What ran.
        command: String,
        /// Its exit status.
        status: String,
        /// What it printed.
        output: String,
    },
    /// It took too long.
    #[error("`{command}` did not end within {limit:?}")]
    TimedOut {
        /// What ran.
        command: String,
        /// How long it had.
        limit: Duration,
    },
    /// A condition did not come true.
    #[error("waited {limit:?} in vain for {what}")]
    InVain {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
    },
    /// SIGINT or SIGTERM came.
    #[error("interrupted")]
    Interrupted,
    /// An answer could not be read.
    #[error("unexpected answer of {from}: {text}")]
    Answer {
        /// Who answered.
        from: String,
        /// What.
        text: String,
    },
    /// A file could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// From now on SIGINT and SIGTERM end waiting instead of the process, so that everything made is removed.
pub fn interrupt_on_signals() {
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut interrupt), Ok(mut terminate)) = (
                signal(SignalKind::interrupt()),
                signal(SignalKind::terminate()),
            ) else {
                return;
            };
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            INTERRUPTED.store(true, Relaxed);
        });
    });
}

/// Whether a signal came.
#[must_use]
pub fn interrupted() -> bool {
    INTERRUPTED.load(Relaxed)
}

/// How a command ended.
#[derive(Debug)]
pub struct Finished {
    /// Whether its exit status was 0.
    pub success: bool,
    /// Its exit code, if it was not ended by a signal.
    pub code: Option<i32>,
    /// What it printed to standard output.
    pub stdout: String,
    /// What it printed to standard error.
    pub stderr: String,
}

/// A running command; killed when dropped.
pub struct Process {
    child: Child,
    command: String,
}

impl Process {
    /// Start `words[0]` with the rest as arguments, its output kept for [`Process::wait`].
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(words: &[&str]) -> Result<Self, LabError> {
        Self::spawn_with(words, |command| {
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
        })
    }

    /// The same, with its output arranged by `arrange`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn_with(
        words: &[&str],
        arrange: impl FnOnce(&mut Command),
    ) -> Result<Self, LabError> {
        let text = words.join(" ");
        let (program, arguments) = words.split_first().unwrap_or((&"", &[]));
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        arrange(&mut command);
        let child = command.spawn().map_err(|source| LabError::Spawn {
            command: text.clone(),
            source,
        })?;
        Ok(Self {
            child,
            command: text,
        })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Send it a signal by number.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        if let Some(id) = id {
            // It may just have ended; then there is nobody to tell.
            let _ = rustix::process::kill_process(id, signal);
        }
    }

    /// Wait for its end.
    ///
    /// # Errors
    /// After `limit`, or when a signal came; the command is killed then.
    pub fn wait(mut self, limit: Duration) -> Result<Finished, LabError> {
        let stdout = self.child.stdout.take().map(drain);
        let stderr = self.child.stderr.take().map(drain);
        let deadline = Instant::now() + limit;
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) => {}
                Err(source) => {
                    return Err(LabError::Spawn {
                        command: self.command.clone(),
                        source,
                    });
                }
            }
            if interrupted() {
                return Err(LabError::Interrupted);
            }
            if Instant::now() > deadline {
                return Err(LabError::TimedOut {
                    command: self.command.clone(),
                    limit,
                });
            }
            std::thread::sleep(LOOK);
        };
        let text = |reader: Option<std::thread::JoinHandle<String>>| {
            reader
                .and_then(|reader| reader.join().ok())
                .unwrap_or_default()
        };
        Ok(Finished {
            success: status.success(),
            code: status.code(),
            stdout: text(stdout),
            stderr: text(stderr),
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn drain(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is still worth showing.
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Run a command to its end, at most ten seconds; its output. A failure is an error.
///
/// # Errors
/// When it cannot run, fails or takes too long.
pub fn run(words: &[&str]) -> Result<String, LabError> {
    let finished = run_for(words, Duration::from_secs(10))?;
    if finished.success {
        return Ok(finished.stdout);
    }
    Err(LabError::Failed {
        command: words.join(" "),
        status: finished
            .code
            .map_or("signal".to_owned(), |code| format!("exit status {code}")),
        output: format!("{}{}", finished.stdout, finished.stderr)
            .trim()
            .to_owned(),
    })
}

/// Run a command to its end, at most `limit`; how it ended, whatever that was.
///
/// # Errors
/// When it cannot run or takes too long.
pub fn run_for(words: &[&str], limit: Duration) -> Result<Finished, LabError> {
    Process::spawn(words)?.wait(limit)
}

/// Wait until `condition` holds, looking every 20 ms.
///
/// # Errors
/// After `limit`, or when a signal came.
pub fn wait_until(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> bool,
) -> Result<(), LabError> {
    let deadline = Instant::now() + limit;
    while !condition() {
        if interrupted() {
            return Err(LabError::Interrupted);
        }
        if Instant::now() > deadline {
            return Err(LabError::InVain {
                what: what.to_owned(),
                limit,
            });
        }
        std::thread::sleep(2 * LOOK);
    }
    Ok(())
}
