//! A folder for the files of a process.

use std::path::{Path, PathBuf};

use super::LabError;

/// A folder of this process among the temporary files; removed when dropped.
pub struct Folder(PathBuf);

impl Folder {
    /// Make it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(name: &str) -> Result<Self, LabError> {
        let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        match std::fs::create_dir_all(&path) {
            Ok(()) => Ok(Self(path)),
            Err(source) => Err(LabError::Write {
                path: path.display().to_string(),
                source,
            }),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Write a file in it, anew; where that is.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf, LabError> {
        let path = self.0.join(name);
        match std::fs::write(&path, text) {
            Ok(()) => Ok(path),
            Err(source) => Err(LabError::Write {
                path: path.display().to_string(),
                source,
            }),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A folder that cannot be removed is a temporary file left over, nothing more.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
