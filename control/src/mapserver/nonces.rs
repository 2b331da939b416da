//! The file that keeps nonces over restarts (RFC 9301 5.6), so that no Map-Register can be sent a second time.
//!
//! One line a nonce: site, xTR-ID in hexadecimal or `-`, key id, nonce in hexadecimal. Written whole to a file beside
//! it, which then takes its name: whoever cuts the power finds the old one or the new one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::durable;
use crate::proto::lisp::mapserver::SavedNonce;

/// First line: what it is, and the version of the format.
const HEADER: &str = "sextant nonces 1";

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub enum NonceError {
    /// The file cannot be read or written.
    #[error("cannot {action} {}: {error}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// Not a file of ours. To start without would let old registrations in.
    #[error("{}:{line}: not a line of saved nonces; remove the file to accept any nonce once", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
    },
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> NonceError + 'a {
    move |error| NonceError::Io {
        action,
        path: path.to_owned(),
        error,
    }
}

/// What was saved; nothing where there is no file.
///
/// # Errors
/// When the file cannot be read, or has a line that is none.
pub fn load(path: &Path) -> Result<Vec<SavedNonce>, NonceError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("read", path)(error)),
    };
    let wrong = |line: usize| NonceError::Line {
        path: path.to_owned(),
        line,
    };
    let mut lines = text.lines();
    if lines.next() != Some(HEADER) {
        return Err(wrong(1));
    }
    let numbered = (2..).zip(lines);
    numbered
        .map(|(number, line)| parsed(line).ok_or_else(|| wrong(number)))
        .collect()
}

fn parsed(line: &str) -> Option<SavedNonce> {
    let mut words = line.split(' ');
    let site = words.next()?.to_owned();
    let xtr_id = match words.next()? {
        "-" => None,
        digits => Some(u128::from_str_radix(digits, 16).ok()?),
    };
    let key_id = words.next()?.parse().ok()?;
    let nonce = u64::from_str_radix(words.next()?, 16).ok()?;
    match words.next() {
        None => Some(SavedNonce {
            site,
            xtr_id,
            key_id,
            nonce,
        }),
        Some(_) => None,
    }
}

/// The text of a file with these nonces.
#[must_use]
pub fn text(nonces: impl Iterator<Item = SavedNonce>) -> String {
    let mut text = format!("{HEADER}\n");
    for nonce in nonces {
        let xtr_id = nonce.xtr_id.map(|id| format!("{id:032x}"));
        let xtr_id = xtr_id.as_deref().unwrap_or("-");
        let SavedNonce {
            site,
            key_id,
            nonce,
            ..
        } = nonce;
        text.push_str(&format!("{site} {xtr_id} {key_id} {nonce:016x}\n"));
    }
    text
}

/// Replace the file: old or new, never half of one.
///
/// # Errors
/// When the folder cannot be written to; the old file stays.
pub fn save(path: &Path, text: &str) -> Result<(), NonceError> {
    durable::replace(path, text.as_bytes()).map_err(failed("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nonces() -> Vec<SavedNonce> {
        let nonce = |site: &str, xtr_id, nonce| SavedNonce {
            site: site.to_owned(),
            xtr_id,
            key_id: 7,
            nonce,
        };
        vec![
            nonce("a", None, 1),
            nonce("a", Some(u128::MAX), u64::MAX),
            nonce("b-c", Some(0), 0),
        ]
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nonces");
        assert_eq!(load(&path).unwrap(), []);
        for _ in 0..2 {
            save(&path, &text(nonces().into_iter())).unwrap();
            assert_eq!(load(&path).unwrap(), nonces());
        }
        let names = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(names, 1, "nothing is left beside it");
    }

    /// A power cut between writing and renaming.
    #[test]
    fn half_of_a_new_file_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nonces");
        save(&path, &text(nonces().into_iter())).unwrap();
        fs::write(folder.path().join("nonces.new"), "sextant non").unwrap();
        assert_eq!(load(&path).unwrap(), nonces());
        save(&path, &text(nonces().into_iter())).unwrap();
        assert_eq!(load(&path).unwrap(), nonces());
    }

    #[test]
    fn a_file_that_is_not_ours_is_refused_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nonces");
        let good = text(nonces().into_iter());
        for (wrong, line) in [
            (String::new(), 1),
            ("something else\n".to_owned(), 1),
            (format!("{good}a - 7\n"), 5),
            (format!("{good}a x 7 1\n"), 5),
            (format!("{good}a - 256 1\n"), 5),
            (format!("{good}a - 7 1 1\n"), 5),
        ] {
            fs::write(&path, wrong).unwrap();
            match load(&path) {
                Err(NonceError::Line { line: found, .. }) => assert_eq!(found, line),
                other => panic!("{other:?}"),
            }
        }
    }
}
