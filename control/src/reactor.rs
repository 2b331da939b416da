//! Gives the [`Appliance`] what it must not have itself: time, signals, questions from the admin socket. One thread.
//!
//! The punt rings are polled: a worker must never make a system call to wake somebody. While packets come that is every
//! millisecond, and a few milliseconds apart when it is quiet; a protocol's timer is never late by more than the clock's
//! resolution.
//!
//! A bug that panics in the appliance does not stop the forwarding: it is logged and counted, what was being done is
//! given up, and after a tenth of a second the reactor goes on.

use std::any::Any;
use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use tokio::net::UnixListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep_until;

use crate::admin::protocol::{Answer, Refusal};
use crate::admin::server::{self, Question};
use crate::appliance::Appliance;
use crate::on_change;
use crate::platform::Platform;

/// Questions that wait for the reactor; connections with more wait themselves.
const QUESTIONS: usize = 16;
/// Pause after a panic, so that one which comes back at once does not take the whole core.
const AFTER_PANIC: Duration = Duration::from_millis(100);

/// What is run at the end has this long, all of it.
const LAST_RUNS: Duration = Duration::from_secs(5);

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

    /// Until one comes; safe to give up and call again.
    pub(crate) async fn next(&mut self) -> Received {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => Received::End("SIGINT"),
            _ = self.terminate.recv() => Received::End("SIGTERM"),
            _ = self.hangup.recv() => Received::Reload,
        }
    }
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    /// The end; the signal's name.
    End(&'static str),
    /// To read the configuration again.
    Reload,
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
    // What is run for a change of a service.
    let mut running: Option<JoinHandle<(String, Result<(), String>)>> = None;
    let ended = loop {
        let ticked = guarded(appliance, |appliance| appliance.tick(Instant::now()));
        if appliance.is_dead() {
            break Ended::WorkersDead;
        }
        let now = Instant::now();
        if running.is_none() {
            let run = guarded(appliance, |appliance| appliance.poll_run(now)).flatten();
            running = run.map(|run| tokio::spawn(on_change::execute(run)));
        }
        let next = match ticked {
            Some(()) => appliance.next_tick(now),
            None => now + AFTER_PANIC,
        };
        tokio::select! {
            biased;
            _ = signals.interrupt.recv() => break Ended::Signal("SIGINT"),
            _ = signals.terminate.recv() => break Ended::Signal("SIGTERM"),
            _ = signals.hangup.recv() => {
                // What became of it is in the log.
                guarded(appliance, |appliance| appliance.reload(Instant::now()));
            }
            Some(question) = questions.recv() => {
                let answer = guarded(appliance, |appliance| {
                    appliance.answer(Instant::now(), question.command)
                });
                let answer = answer.unwrap_or_else(|| {
                    Answer::refused(Refusal::Failed, "the question met a bug; the instance's log has it")
                });
                // A client that went away needs no answer.
                let _ = question.answer.send(answer);
            }
            ended = ended(&mut running) => {
                running = None;
                if let Some((service, outcome)) = ended {
                    guarded(appliance, |appliance| appliance.run_ended(&service, outcome));
                }
            }
            () = sleep_until(next.into()) => {}
        }
    };
    server.abort();
    Ok(ended)
}

/// Run what is still to be run, one after the other, for a few seconds at most.
pub async fn run_last<P: Platform>(appliance: &mut Appliance<P>) {
    let all = async {
        while let Some(run) =
            guarded(appliance, |appliance| appliance.poll_run(Instant::now())).flatten()
        {
            let (service, outcome) = on_change::execute(run).await;
            guarded(appliance, |appliance| {
                appliance.run_ended(&service, outcome)
            });
        }
    };
    if tokio::time::timeout(LAST_RUNS, all).await.is_err() {
        tracing::error!("on_change: not all services were told of the end in time");
    }
}

/// The end of what is running, if something is.
async fn ended(
    running: &mut Option<JoinHandle<(String, Result<(), String>)>>,
) -> Option<(String, Result<(), String>)> {
    match running {
        Some(running) => running.await.ok(),
        None => std::future::pending().await,
    }
}

/// Do something with the appliance; `None` when it panicked.
fn guarded<P: Platform, T>(
    appliance: &mut Appliance<P>,
    work: impl FnOnce(&mut Appliance<P>) -> T,
) -> Option<T> {
    // Nothing in the appliance is unsafe to look at after a panic: at worst a packet or a change is lost.
    match catch_unwind(AssertUnwindSafe(|| work(appliance))) {
        Ok(value) => Some(value),
        Err(panic) => {
            appliance.survive(&text_of(&*panic));
            None
        }
    }
}

/// What a panic said.
fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&'static str>()
        .map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;
    use crate::appliance::tests::bench::{Bench, text};

    #[test]
    fn a_panic_is_survived_counted_and_told() {
        let mut bench = Bench::new(&text(""));
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("admin.sock");
        let listener = StdListener::bind(&socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        // Code with a bug: the next look at the links.
        bench.poison_links(1);
        let client = thread::spawn(move || {
            let mut stream = BufReader::new(UnixStream::connect(&socket).unwrap());
            let mut ask = |line: &str| {
                stream.get_mut().write_all(line.as_bytes()).unwrap();
                let mut reply = String::new();
                stream.read_line(&mut reply).unwrap();
                serde_json::from_str::<Answer>(&reply).unwrap()
            };
            let ping = "{\"version\":1,\"command\":\"ping\"}\n";
            loop {
                let answer = ask(ping);
                if answer.data["panics"] == 1 {
                    return ask("{\"version\":1,\"command\":\"show\",\"subject\":\"drops\"}\n");
                }
                thread::sleep(Duration::from_millis(5));
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let answer = runtime.block_on(async {
            let mut signals = Signals::install().unwrap();
            let asked = tokio::task::spawn_blocking(move || client.join().unwrap());
            tokio::select! {
                ended = run(&mut bench.appliance, listener, &mut signals) => panic!("{ended:?}"),
                answer = asked => answer.unwrap(),
            }
        });
        assert!(answer.ok, "{answer:?}");
    }
}
