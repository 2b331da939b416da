//! The worker threads: started together or not at all, stopped together, none lost silently.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread::{Builder, JoinHandle};

use super::setback::text_of;
use super::status::{State, Status};
use super::wiring::{self, BuildError, Built, CrewConfig, PortQueues};
use super::{Pipeline, Worker};
use crate::frame::Frame;
use crate::table::publish::Publisher;

/// Cores the system's set of cores can name (`CPU_SETSIZE`).
const CORES_MAX: usize = 1024;

/// Why the threads could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The system gave no thread.
    #[error("worker {worker}: cannot start a thread: {source}")]
    Thread {
        /// The worker.
        worker: usize,
        /// What the system says.
        source: std::io::Error,
    },
    /// The core does not exist or is not ours.
    #[error("worker {worker}: cannot run on core {core}: it does not exist or is not allowed here")]
    Core {
        /// The worker.
        worker: usize,
        /// The core.
        core: usize,
    },
    /// The hook refused, or panicked.
    #[error("worker {worker}: {reason}")]
    Hook {
        /// The worker.
        worker: usize,
        /// What it said.
        reason: String,
    },
}

/// The running worker threads. Dropping it stops them.
pub struct Crew {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Crew {
    /// Give each queue to a worker, join the workers by rings and make the control thread's ends. Nothing runs yet.
    ///
    /// # Errors
    /// When the configuration makes no sense; nothing was built then.
    pub fn build<F: Frame, P: Pipeline<F>>(
        config: &CrewConfig,
        ports: Vec<PortQueues<F>>,
        publisher: &mut Publisher<P::Tables>,
        pipeline: impl FnMut(usize) -> P,
    ) -> Result<Built<F, P>, BuildError> {
        wiring::build(config, ports, publisher, pipeline)
    }

    /// Start a thread for each worker. In each thread, once it is pinned, `on_thread_start` runs with the worker's index;
    /// what it returns is kept until the worker is gone, with its queues and frames, and is dropped last, in the same
    /// thread. No worker polls before all threads are ready.
    ///
    /// # Errors
    /// When one thread cannot start, be pinned, or is refused by the hook; the others have ended then, and nothing was
    /// polled.
    pub fn start<F, P, G, E>(
        workers: Vec<Worker<F, P>>,
        on_thread_start: impl Fn(usize) -> Result<G, E> + Send + Sync + 'static,
    ) -> Result<Self, StartError>
    where
        F: Frame + 'static,
        P: Pipeline<F> + 'static,
        E: Display,
    {
        let hook = Arc::new(on_thread_start);
        let statuses: Arc<[Arc<Status>]> = workers.iter().map(|w| Arc::clone(&w.status)).collect();
        let mut crew = Self {
            stop: Arc::new(AtomicBool::new(false)),
            threads: Vec::with_capacity(workers.len()),
        };
        let mut starters = Vec::with_capacity(workers.len());
        for worker in workers {
            let index = worker.index;
            let (report, outcome) = mpsc::channel();
            let (go, started) = mpsc::channel();
            let thread = Thread {
                worker,
                stop: Arc::clone(&crew.stop),
                statuses: Arc::clone(&statuses),
                report,
                started,
            };
            let hook = Arc::clone(&hook);
            let handle = Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || thread.run(&*hook))
                .map_err(|source| StartError::Thread {
                    worker: index,
                    source,
                })?;
            crew.threads.push(handle);
            starters.push((index, outcome, go));
        }
        // An error here drops every `go`: threads that wait for theirs end without polling, and dropping the crew waits
        // for them.
        for (worker, outcome, _) in &starters {
            outcome.recv().unwrap_or_else(|_| {
                let reason = statuses[*worker].message();
                Err(StartError::Hook {
                    worker: *worker,
                    reason: reason.unwrap_or_else(|| "thread ended".to_owned()),
                })
            })?;
        }
        for (_, _, go) in starters {
            // A thread that ended since says so in its status.
            let _ = go.send(());
        }
        Ok(crew)
    }

    /// Stop all workers and wait for them. Every frame they had received is sent, punted or dropped, and counted, before
    /// they end; only what a worker held when it died is freed without a count.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            // The thread catches its own panics and tells them in its status.
            let _ = thread.join();
        }
    }
}

/// What one thread is given.
struct Thread<F: Frame, P: Pipeline<F>> {
    worker: Worker<F, P>,
    stop: Arc<AtomicBool>,
    statuses: Arc<[Arc<Status>]>,
    report: mpsc::Sender<Result<(), StartError>>,
    started: mpsc::Receiver<()>,
}

impl<F: Frame, P: Pipeline<F>> Thread<F, P> {
    /// The thread's entry: no panic leaves it.
    fn run<G, E: Display>(self, hook: &dyn Fn(usize) -> Result<G, E>) {
        let status = Arc::clone(&self.worker.status);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.prepare_and_work(hook))) {
            status.die(text_of(&*panic));
        }
    }

    fn prepare_and_work<G, E: Display>(self, hook: &dyn Fn(usize) -> Result<G, E>) {
        let Self {
            worker,
            stop,
            statuses,
            report,
            started,
        } = self;
        let status = Arc::clone(&worker.status);
        // Whoever waits for the report may be gone only after it has another thread's error.
        // A panic of the hook is caught here, so that its text is in the report and not behind it.
        let prepared = catch_unwind(AssertUnwindSafe(|| prepare(&worker, hook)));
        let prepared = prepared.unwrap_or_else(|panic| {
            Err(StartError::Hook {
                worker: worker.index,
                reason: text_of(&*panic),
            })
        });
        let guard = match prepared {
            Ok(guard) => guard,
            Err(error) => {
                let _ = report.send(Err(error));
                return;
            }
        };
        let _ = report.send(Ok(()));
        drop(report);
        if started.recv().is_err() {
            drop(worker);
            status.enter(State::Stopped);
            return;
        }
        // Caught here and not only at the entry: the guard outlives the worker, whatever ends it.
        let outcome = catch_unwind(AssertUnwindSafe(|| worker.run(&stop, &statuses)));
        match outcome {
            Ok(()) => status.enter(State::Stopped),
            Err(panic) => status.die(text_of(&*panic)),
        }
        drop(guard);
    }
}

/// Pin the current thread and run the hook.
fn prepare<F: Frame, P: Pipeline<F>, G, E: Display>(
    worker: &Worker<F, P>,
    hook: &dyn Fn(usize) -> Result<G, E>,
) -> Result<G, StartError> {
    if let Some(core) = worker.config.core {
        let id = core_affinity::CoreId { id: core };
        if core >= CORES_MAX || !core_affinity::set_for_current(id) {
            return Err(StartError::Core {
                worker: worker.index,
                core,
            });
        }
    }
    hook(worker.index).map_err(|error| StartError::Hook {
        worker: worker.index,
        reason: error.to_string(),
    })
}
