//! The file that keeps registrations over restarts, where the configuration names one.
//!
//! ```text
//! "sextant registrations 1\n" | time of day, seconds since 1970: 8 | the machine's clock then: 4 | registrations | SHA-256
//! ```
//!
//! It is written anew at most every `PAUSE`, some EIDs in each turn of the reactor, by a thread that may wait for the
//! disk; and a last time at the end. So a power cut forgets what the last half minute brought, which routers say again
//! within their minute, and an EID that was withdrawn in that time comes back until its time is over. Registrations run on
//! while nobody runs: each has its own end.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use sha2::{Digest as _, Sha256};
use tokio::task::JoinHandle;

use crate::durable::Replacement;
use crate::proto::lisp::mapserver::{Counter, Machine, Restored};
use crate::proto::lisp::wire;

/// First line: what it is, and the version of the format.
const HEADER: &[u8] = b"sextant registrations 1\n";
/// From the start of one file to that of the next.
const PAUSE: Duration = Duration::from_secs(30);
/// Places of EIDs that are written in one turn.
const PLACES: usize = 512;
/// Turns the disk may be late.
const LATE_MAX: usize = 16;
/// When it is, until the next look.
const DISK_PAUSE: Duration = Duration::from_millis(5);

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("not a file of registrations")]
    Header,
    /// Bytes are missing, or others than were written.
    #[error("it is damaged")]
    Damaged,
    /// It says what this version does not understand.
    #[error("a registration in it cannot be read: {0}")]
    Registration(#[from] wire::Error),
}

/// The time of day, seconds since 1970; 0 where the clock says an earlier time.
fn time_of_day() -> u64 {
    let passed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    passed.map_or(0, |passed| passed.as_secs())
}

/// Give a machine back what was saved; nothing where there is no file.
///
/// # Errors
/// When the file cannot be used.
pub(super) fn load(
    path: &Path,
    now: Instant,
    machine: &mut Machine,
) -> Result<Restored, FileError> {
    match fs::read(path) {
        Ok(bytes) => restore(&bytes, now, time_of_day(), machine),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Restored::default()),
        Err(error) => Err(error.into()),
    }
}

fn restore(
    bytes: &[u8],
    now: Instant,
    time: u64,
    machine: &mut Machine,
) -> Result<Restored, FileError> {
    let rest = bytes.strip_prefix(HEADER).ok_or(FileError::Header)?;
    let (_, sum) = bytes.split_last_chunk::<32>().ok_or(FileError::Damaged)?;
    let summed = bytes.get(..bytes.len() - sum.len()).unwrap_or_default();
    let right: [u8; 32] = Sha256::digest(summed).into();
    if right != *sum {
        return Err(FileError::Damaged);
    }
    let (then, rest) = rest.split_first_chunk().ok_or(FileError::Damaged)?;
    let (clock, rest) = rest.split_first_chunk().ok_or(FileError::Damaged)?;
    let (registrations, _) = rest.split_last_chunk::<32>().ok_or(FileError::Damaged)?;
    let passed = time.saturating_sub(u64::from_be_bytes(*then));
    let elapsed = passed.saturating_add(u32::from_be_bytes(*clock).into());
    Ok(machine.restore(now, elapsed, registrations)?)
}

/// What is written, with its sum.
struct Summed<W> {
    to: W,
    sum: Sha256,
}

impl<W: Write> Summed<W> {
    /// Begin with what stands first.
    fn new(to: W, time: u64, clock: u32) -> io::Result<Self> {
        let sum = Sha256::new();
        let mut summed = Self { to, sum };
        summed.write(HEADER)?;
        summed.write(&time.to_be_bytes())?;
        summed.write(&clock.to_be_bytes())?;
        Ok(summed)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.to.write_all(bytes)
    }

    fn finish(mut self) -> io::Result<W> {
        let sum = self.sum.finalize();
        self.to.write_all(&sum)?;
        Ok(self.to)
    }
}

/// Some registrations on their way to the disk; `None`: that was all.
type Chunk = Option<Vec<u8>>;

/// Writes registrations to the disk while the reactor goes on.
pub(super) struct Snapshots {
    path: Option<PathBuf>,
    /// Of what is on the disk, or on its way there.
    revision: u64,
    /// When the last one was begun.
    begun: Option<Instant>,
    running: Option<Running>,
    /// Who writes, or wrote last.
    writing: Option<JoinHandle<()>>,
}

/// A file that is being written.
struct Running {
    /// The place to go on from; none: at the end.
    next: Option<usize>,
    /// What the disk was too late for.
    waiting: Option<Chunk>,
    chunks: SyncSender<Chunk>,
}

impl Snapshots {
    pub(super) fn new(path: Option<PathBuf>, machine: &Machine) -> Self {
        Self {
            path,
            revision: revision(machine),
            begun: None,
            running: None,
            writing: None,
        }
    }

    /// Some work, if there is any; when to come back.
    pub(super) fn step(&mut self, now: Instant, machine: &Machine) -> Option<Instant> {
        let path = self.path.as_ref()?;
        if let Some(running) = &mut self.running {
            let again = running.step(now, machine);
            if again.is_none() {
                self.running = None;
            }
            return again;
        }
        if revision(machine) == self.revision {
            return None;
        }
        // Two would write to the same file.
        let mut writing = self.writing.iter();
        if writing.any(|writing| !writing.is_finished()) {
            return Some(now + DISK_PAUSE);
        }
        if let Some(due) = self.begun.map(|begun| begun + PAUSE)
            && due > now
        {
            return Some(due);
        }
        self.revision = revision(machine);
        self.begun = Some(now);
        let (chunks, receiver) = sync_channel(LATE_MAX);
        let (path, clock, time) = (path.clone(), machine.clock(now), time_of_day());
        self.writing = Some(tokio::task::spawn_blocking(move || {
            if let Err(error) = write(&path, time, clock, &receiver) {
                tracing::error!("registrations are not kept: {}: {error}", path.display());
            }
        }));
        self.running = Some(Running {
            next: Some(0),
            waiting: None,
            chunks,
        });
        Some(now)
    }

    /// Write everything, whatever is being written.
    ///
    /// # Errors
    /// When it is not certain that it is there.
    pub(super) async fn finish(&mut self, now: Instant, machine: &Machine) -> io::Result<()> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        self.running = None;
        if let Some(writing) = self.writing.take() {
            // It is done or has given up, and said so if that was not because of us.
            let _ = writing.await;
        }
        let to = Replacement::of(path)?;
        let mut summed = Summed::new(to, time_of_day(), machine.clock(now))?;
        let mut next = Some(0);
        let mut bytes = Vec::new();
        while let Some(first) = next {
            next = machine.save(first, PLACES, &mut bytes);
            summed.write(&bytes)?;
            bytes.clear();
        }
        summed.finish()?.commit()
    }
}

impl Running {
    /// As many as a turn allows; when to come back, or none when all is on its way.
    fn step(&mut self, now: Instant, machine: &Machine) -> Option<Instant> {
        let chunk = self.waiting.take().unwrap_or_else(|| {
            self.next.map(|first| {
                let mut bytes = Vec::new();
                self.next = machine.save(first, PLACES, &mut bytes);
                bytes
            })
        });
        let was_last = chunk.is_none();
        match self.chunks.try_send(chunk) {
            Ok(()) if was_last => None,
            Ok(()) => Some(now),
            Err(TrySendError::Full(chunk)) => {
                self.waiting = Some(chunk);
                Some(now + DISK_PAUSE)
            }
            // It has said why; the next file may fare better.
            Err(TrySendError::Disconnected(_)) => None,
        }
    }
}

/// Write what comes, and put it in place when that was all.
fn write(path: &Path, time: u64, clock: u32, chunks: &Receiver<Chunk>) -> io::Result<()> {
    let mut summed = Summed::new(Replacement::of(path)?, time, clock)?;
    while let Ok(chunk) = chunks.recv() {
        match chunk {
            Some(bytes) => summed.write(&bytes)?,
            None => return summed.finish()?.commit(),
        }
    }
    // Nobody wants it any more.
    Ok(())
}

/// Another number whenever a registration is another.
fn revision(machine: &Machine) -> u64 {
    let changes = [
        Counter::RecordAccepted,
        Counter::RecordWithdrawn,
        Counter::Expired,
    ];
    let counters = machine.counters();
    changes
        .into_iter()
        .map(|change| counters.count(change))
        .sum()
}

#[cfg(test)]
mod tests;
