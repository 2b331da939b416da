//! The file that keeps what was learned over restarts, where the configuration names one.
//!
//! ```text
//! sextant map-cache 1 1764150000
//! {"until":1764153600,"mapping":{"instance":7,"eid":"2001:db8:b::/48","locators":[{"rloc":"2001:db8:ffff::3", ...}]}}
//! ...
//! sha256 9f86d081884c7d65...
//! ```
//!
//! In front the time of day when it was begun, behind it a mapping a line, as `sextant map dump` writes them, with the time
//! of day until which it holds; so time in which nobody runs counts. It is written anew at most every [`PAUSE`], some
//! mappings in each tick, by a thread that may wait for the disk; and a last time at the end. After a power cut it is the
//! old one or the new one.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::admin::map::NewMapping;
use crate::durable;
use crate::proto::lisp::{EidKey, MapCache, Mapping};

/// What it is, and the version of the format.
const HEADER: &str = "sextant map-cache 1 ";
const SUM: &str = "sha256 ";
/// From the start of one file to that of the next.
const PAUSE: Duration = Duration::from_secs(30);
/// Mappings that are written in one tick.
const AT_ONCE: usize = 1024;
/// No file of ours is longer: 65,536 mappings of 16 locators.
const LEN_MAX: u64 = 128 << 20;

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("not a file of a map-cache")]
    Header,
    /// Bytes are missing, or others than were written.
    #[error("it is damaged")]
    Damaged,
    /// It says what this version does not understand.
    #[error("line {line}: {why}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
}

/// A mapping and how long it holds.
pub(super) type Entry = (EidKey, Mapping, Duration);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    /// Seconds since 1970.
    until: u64,
    mapping: NewMapping,
}

/// The time of day, seconds since 1970; 0 where the clock says an earlier time.
fn time_of_day() -> u64 {
    let passed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    passed.map_or(0, |passed| passed.as_secs())
}

/// What was kept and still holds; nothing where there is no file.
///
/// # Errors
/// When the file cannot be used.
pub(super) fn read(path: &Path) -> Result<Vec<Entry>, FileError> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
        Ok(metadata) if metadata.len() > LEN_MAX => return Err(FileError::Header),
        Ok(_) => {}
    }
    parse(&fs::read(path)?, time_of_day())
}

fn parse(bytes: &[u8], time: u64) -> Result<Vec<Entry>, FileError> {
    if !bytes.starts_with(HEADER.as_bytes()) {
        return Err(FileError::Header);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| FileError::Damaged)?;
    let (body, sum) = text.rsplit_once(SUM).ok_or(FileError::Damaged)?;
    if sum != hexadecimal(body.as_bytes()) {
        return Err(FileError::Damaged);
    }
    let mut lines = (1..).zip(body.lines());
    let begun = lines.next().and_then(|(_, line)| line.strip_prefix(HEADER));
    let begun: u64 = begun
        .and_then(|begun| begun.parse().ok())
        .ok_or(FileError::Header)?;
    // A clock that went back makes nothing hold for longer than it did.
    let time = time.max(begun);
    let mut entries = Vec::new();
    for (line, text) in lines {
        let wrong = |why: String| FileError::Line { line, why };
        let read: Line = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let left = read.until.saturating_sub(time);
        let key = read.mapping.key();
        let mapping = read.mapping.into_mapping();
        let mapping = mapping.map_err(|error| wrong(error.to_string()))?;
        if left > 0 {
            entries.push((key, mapping, Duration::from_secs(left)));
        }
    }
    Ok(entries)
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::new();
    for octet in Sha256::digest(bytes) {
        // Writing to a string cannot fail.
        let _ = write!(text, "{octet:02x}");
    }
    text.push('\n');
    text
}

/// Keeps what was learned.
#[derive(Default)]
pub(super) struct Kept {
    path: Option<PathBuf>,
    /// Something was learned or forgotten that no file has.
    is_changed: bool,
    begun: Option<Instant>,
    gathering: Option<Gathering>,
    writing: Option<JoinHandle<()>>,
}

/// A file as far as it is thought out.
struct Gathering {
    text: String,
    after: Option<EidKey>,
}

impl Gathering {
    fn new(time: u64) -> Self {
        Self {
            text: format!("{HEADER}{time}\n"),
            after: None,
        }
    }

    /// Some more of it; whether that was all.
    fn go_on(&mut self, now: Instant, time: u64, cache: &MapCache, count: usize) -> bool {
        let mut is_all = true;
        let learned = cache.learned_behind(self.after);
        for (number, (key, mapping, expires)) in learned.enumerate() {
            if number >= count {
                is_all = false;
                break;
            }
            self.after = Some(key);
            let left = expires.saturating_duration_since(now).as_secs();
            let line = Line {
                until: time.saturating_add(left),
                mapping: NewMapping::new(key, mapping),
            };
            self.text += &serde_json::to_string(&line).expect("its keys are strings");
            self.text.push('\n');
        }
        is_all
    }

    fn finish(mut self) -> String {
        let sum = hexadecimal(self.text.as_bytes());
        self.text += SUM;
        self.text += &sum;
        self.text
    }
}

impl Kept {
    /// Which file, from now on; whether it is one and the first, so that it is to be read.
    pub(super) fn set_path(&mut self, path: Option<&Path>) -> bool {
        let is_first = self.path.is_none() && self.begun.is_none();
        if self.path.as_deref() != path {
            self.path = path.map(Path::to_owned);
            self.is_changed = true;
            return is_first && path.is_some();
        }
        false
    }

    /// What was learned is something else now.
    pub(super) const fn note_change(&mut self) {
        self.is_changed = true;
    }

    /// Think about the file, and have it written when it is complete.
    pub(super) fn tick(&mut self, now: Instant, cache: &MapCache) {
        let Some(path) = &self.path else {
            self.gathering = None;
            return;
        };
        if self.gathering.is_none() {
            let is_due = self.begun.is_none_or(|begun| now >= begun + PAUSE);
            if !self.is_changed || !is_due {
                return;
            }
            self.begun = Some(now);
            if self.writing.as_ref().is_some_and(|it| !it.is_finished()) {
                // The disk is late: it gets the next one.
                return;
            }
            self.is_changed = false;
        }
        let time = time_of_day();
        let gathering = self.gathering.get_or_insert_with(|| Gathering::new(time));
        if !gathering.go_on(now, time, cache, AT_ONCE) {
            return;
        }
        if let Some(gathering) = self.gathering.take() {
            let (path, text) = (path.clone(), gathering.finish());
            self.writing = Some(std::thread::spawn(move || write(&path, &text)));
        }
    }

    /// A last time, and wait until it is on the disk.
    pub(super) fn finish(&mut self, now: Instant, cache: &MapCache) {
        if let Some(writing) = self.writing.take() {
            // What it says of a panic is in the log.
            let _ = writing.join();
        }
        let is_half = self.gathering.take().is_some();
        if let Some(path) = self.path.as_ref().filter(|_| self.is_changed || is_half) {
            let time = time_of_day();
            let mut gathering = Gathering::new(time);
            gathering.go_on(now, time, cache, usize::MAX);
            write(path, &gathering.finish());
            self.is_changed = false;
        }
    }
}

fn write(path: &Path, text: &str) {
    if let Err(error) = durable::replace(path, text.as_bytes()) {
        let path = path.display();
        tracing::error!("lisp: the map-cache cannot be kept in {path}: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::lisp::{Action, InstanceId, Locator};

    /// Each of them holds ten seconds longer than the one before.
    fn cache(now: Instant, count: u32, first_s: u64) -> MapCache {
        let mut cache = MapCache::new();
        for number in 0..count {
            let key = EidKey {
                instance: InstanceId::new(7).unwrap(),
                eid: format!("2001:db8:{number:x}::/48").parse().unwrap(),
            };
            let mapping = match number % 2 {
                0 => Mapping::Negative(Action::Native),
                _ => Mapping::Locators {
                    locators: vec![Locator {
                        priority: 3,
                        weight: 20,
                        up: false,
                        ..Locator::new("192.0.2.9".parse().unwrap())
                    }],
                    version: 5,
                },
            };
            let lasts = Duration::from_secs(u64::from(number) * 10 + first_s);
            cache.learn(key, mapping, now + lasts);
        }
        cache
    }

    /// Until the file is there, or is another.
    fn written(kept: &mut Kept) {
        kept.writing.take().expect("it is written").join().unwrap();
    }

    #[test]
    fn what_is_kept_holds_for_the_rest_of_its_time() {
        let now = Instant::now();
        let cache = cache(now, 5, 1);
        let mut gathering = Gathering::new(1000);
        assert!(gathering.go_on(now, 1000, &cache, usize::MAX));
        let text = gathering.finish();
        let at = |time: u64| {
            let entries = parse(text.as_bytes(), time).unwrap();
            let known = cache.learned_behind(None);
            let known =
                known.filter(|(.., expires)| *expires > now + Duration::from_secs(time - 1000));
            let known: Vec<Entry> = known
                .map(|(key, mapping, expires)| {
                    let left = expires - now - Duration::from_secs(time - 1000);
                    (key, mapping.clone(), left)
                })
                .collect();
            assert_eq!(entries, known, "{time}");
            entries.len()
        };
        assert_eq!([1000, 1001, 1011, 1040, 1041].map(at), [5, 4, 3, 1, 0]);
        // The clock went back: nothing holds for longer.
        let entries = parse(text.as_bytes(), 10).unwrap();
        assert_eq!(entries[4].2, Duration::from_secs(41));
    }

    #[test]
    fn nothing_of_a_damaged_file_is_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("map-cache");
        assert_eq!(read(&path).unwrap(), []);
        let now = Instant::now();
        let mut gathering = Gathering::new(1000);
        gathering.go_on(now, 1000, &cache(now, 3, 1), usize::MAX);
        let text = gathering.finish().into_bytes();
        assert_eq!(parse(&text, 1000).unwrap().len(), 3);
        for length in 0..text.len() {
            assert!(parse(&text[..length], 1000).is_err(), "{length}");
        }
        for position in 0..text.len() {
            let mut damaged = text.clone();
            damaged[position] ^= 0x04;
            assert!(parse(&damaged, 1000).is_err(), "{position}");
        }
        let summed = |body: &str| format!("{body}{SUM}{}", hexadecimal(body.as_bytes()));
        for (body, said) in [
            ("sextant registrations 1 7\n", "not a file of a map-cache"),
            ("sextant map-cache 2 7\n", "not a file of a map-cache"),
            ("sextant map-cache 1 now\n", "not a file of a map-cache"),
            (
                "sextant map-cache 1 7\n{\"until\":9,\"mapping\":{\"eid\":\"10.0.0.0/8\"}}\n",
                "line 2: it leads nowhere, expected exactly one of locators and action",
            ),
        ] {
            assert_eq!(
                parse(summed(body).as_bytes(), 8).unwrap_err().to_string(),
                said
            );
        }
    }

    #[test]
    fn many_take_several_ticks_and_changes_wait_for_their_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("map-cache");
        let now = Instant::now();
        let many = cache(now, 2500, 900);
        let mut kept = Kept::default();
        assert!(kept.set_path(Some(&path)), "it is to be read");
        kept.tick(now, &many);
        kept.tick(now, &many);
        assert!(kept.writing.is_none() && !path.exists());
        kept.tick(now, &many);
        written(&mut kept);
        assert_eq!(read(&path).unwrap().len(), 2500);
        // Nothing new, or too soon.
        let few = cache(now, 7, 900);
        kept.tick(now + PAUSE, &few);
        assert!(kept.writing.is_none());
        kept.note_change();
        kept.tick(now + PAUSE / 2, &few);
        assert!(kept.writing.is_none());
        kept.tick(now + PAUSE, &few);
        written(&mut kept);
        assert_eq!(read(&path).unwrap().len(), 7);
        // At the end at once.
        kept.note_change();
        kept.finish(now, &cache(now, 4, 900));
        assert_eq!(read(&path).unwrap().len(), 4);
        // Another file is not read, since there is something to keep already.
        let other = folder.path().join("other");
        assert!(!kept.set_path(Some(&other)));
        kept.finish(now, &few);
        assert_eq!(read(&other).unwrap().len(), 7);
        kept.set_path(None);
        kept.note_change();
        kept.finish(now, &few);
    }
}
