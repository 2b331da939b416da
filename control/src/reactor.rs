//! Gives the [`Appliance`] what it must not have itself: time, signals, questions from the admin socket. One thread.
//!
//! The punt rings are polled: a worker must never make a system call to wake somebody. While packets come that is every
//! millisecond, and a few milliseconds apart when it is quiet; a protocol's timer is never late by more than the clock's
//! resolution.

use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::time::Instant;

use tokio::net::UnixListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::sleep_until;

use crate::admin::server::{self, Question};
use crate::appliance::Appliance;
use crate::platform::Platform;

/// Questions that wait for the reactor; connections with more wait themselves.
const QUESTIONS: usize = 16;

/// Why the reactor ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was told to, by this signal.
    Signal(&'static str),
    /// No worker is left.
    WorkersDead,
}

/// The signals an instance listens to. Made before the slow part of starting up, so that none is missed.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// Listen from now on. To be called within the runtime.
    ///
    /// # Errors
    /// When the kernel refuses a handler.
    pub fn install() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// Run the appliance until it is told to stop.
///
/// # Errors
/// When the admin socket cannot be given to the runtime.
pub async fn run<P: Platform>(
    appliance: &mut Appliance<P>,
    listener: StdListener,
    signals: &mut Signals,
) -> io::Result<Ended> {
    let (sender, mut questions) = mpsc::channel::<Question>(QUESTIONS);
    let server = tokio::spawn(server::serve(UnixListener::from_std(listener)?, sender));
    let ended = loop {
        appliance.tick(Instant::now());
        if appliance.is_dead() {
            break Ended::WorkersDead;
        }
        let next = appliance.next_tick(Instant::now());
        tokio::select! {
            biased;
            _ = signals.interrupt.recv() => break Ended::Signal("SIGINT"),
            _ = signals.terminate.recv() => break Ended::Signal("SIGTERM"),
            _ = signals.hangup.recv() => {
                // What became of it is in the log.
                appliance.reload(Instant::now());
            }
            Some(question) = questions.recv() => {
                let answer = appliance.answer(Instant::now(), question.command);
                // A client that went away needs no answer.
                let _ = question.answer.send(answer);
            }
            () = sleep_until(next.into()) => {}
        }
    };
    server.abort();
    Ok(ended)
}
