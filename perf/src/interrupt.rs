//! Ctrl-C, SIGTERM and SIGHUP turned into an ordinary error, so that children are killed and files removed by their owners' drops.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

/// How often a waiting suite looks whether it shall stop.
const STEP: Duration = Duration::from_millis(20);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Take these signals from now on; called once, at the start of `main`.
pub fn install() -> Result<()> {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    if INSTALLED.set(()).is_err() {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("cannot wait for signals")?;
    let (mut interrupt, mut terminate, mut hangup) = {
        let _guard = runtime.enter();
        (
            signal(SignalKind::interrupt()).context("cannot take SIGINT")?,
            signal(SignalKind::terminate()).context("cannot take SIGTERM")?,
            signal(SignalKind::hangup()).context("cannot take SIGHUP")?,
        )
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
            });
            INTERRUPTED.store(true, Relaxed);
        })
        .context("cannot start the thread that waits for signals")?;
    Ok(())
}

/// An error once a signal has come.
pub fn check() -> Result<()> {
    if INTERRUPTED.load(Relaxed) {
        bail!("interrupted");
    }
    Ok(())
}

/// Sleep, or fail as soon as a signal comes.
pub fn sleep(duration: Duration) -> Result<()> {
    let end = Instant::now() + duration;
    loop {
        check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(STEP));
    }
}
