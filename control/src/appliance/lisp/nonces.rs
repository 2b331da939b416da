//! The last nonce of registrations, in a file: a decimal number and the end of a line. After a power cut it is the old one
//! or the new one.

use std::fs;
use std::io;
use std::path::Path;

use crate::durable;

/// Longer is no number of 64 bits.
const LEN_MAX: u64 = 64;

/// What was kept; nothing where there is no file yet.
///
/// # Errors
/// When there is one that cannot be read, or says no number.
pub(super) fn read(path: &Path) -> io::Result<Option<u64>> {
    let length = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if length > LEN_MAX {
        return Err(io::Error::other("longer than a number"));
    }
    let text = fs::read_to_string(path)?;
    let number = text.trim().parse();
    number.map(Some).map_err(io::Error::other)
}

/// Keep one.
///
/// # Errors
/// When it is not certain that it is there.
pub(super) fn keep(path: &Path, nonce: u64) -> io::Result<()> {
    durable::replace(path, format!("{nonce}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_and_what_is_no_number_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nonce");
        assert_eq!(read(&path).unwrap(), None);
        for nonce in [0, 7, u64::MAX] {
            keep(&path, nonce).unwrap();
            assert_eq!(read(&path).unwrap(), Some(nonce));
        }
        for wrong in [
            "",
            "seven\n",
            "-1\n",
            "18446744073709551616\n",
            &"1".repeat(100),
        ] {
            fs::write(&path, wrong).unwrap();
            assert!(read(&path).is_err(), "{wrong:?}");
        }
        assert!(keep(&folder.path().join("no/folder"), 1).is_err());
    }
}
