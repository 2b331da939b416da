//! Files that are replaced whole: whoever cuts the power finds the old one or the new one, never half of one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A file that is being written beside the one it will replace. Dropped before that, it is gone again.
#[derive(Debug)]
pub struct Replacement {
    path: PathBuf,
    beside: PathBuf,
    file: File,
    is_done: bool,
}

impl Replacement {
    /// Begin to write what will be `path`; only its owner may read it.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn of(path: &Path) -> io::Result<Self> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        Ok(Self {
            path: path.to_owned(),
            file: options.open(&beside)?,
            beside,
            is_done: false,
        })
    }

    /// Put it in place, when all of it is on the disk.
    ///
    /// # Errors
    /// When it is not certain that it is there; the old one is, or the new one.
    pub fn commit(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.beside, &self.path)?;
        self.is_done = true;
        // The name too must be on the disk.
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        File::open(folder)?.sync_all()
    }
}

impl Write for Replacement {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if !self.is_done {
            // It is in nobody's way: the next one begins it anew.
            let _ = fs::remove_file(&self.beside);
        }
    }
}

/// Replace a file by one with these bytes.
///
/// # Errors
/// When it is not certain that it is there; the old one is, or the new one.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut replacement = Replacement::of(path)?;
    replacement.write_all(bytes)?;
    replacement.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_one_stays_until_the_new_one_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        replace(&path, b"old").unwrap();
        let mut replacement = Replacement::of(&path).unwrap();
        replacement.write_all(b"ne").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        drop(replacement);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        // What a killed process left is no harm.
        fs::write(folder.path().join("file.new"), "n").unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let names = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(names, 1, "nothing is left beside it");
        assert!(replace(&folder.path().join("no/folder"), b"").is_err());
    }
}
