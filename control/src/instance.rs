//! One instance per admin socket: a lock beside the socket, held for the life of the process, and the socket itself.
//!
//! The lock is the kernel's (`flock`), so a killed instance leaves none behind; what may be left is the socket's and the
//! lock's name in the folder, and the next instance replaces them. Called once, early, by [`crate::run`]: a second
//! instance must be refused before it touches a device.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, flock};
use rustix::io::Errno;
use rustix::process::umask;

use crate::exit::Exit;

/// Longest path of a unix socket, bytes (`sun_path` less its terminator).
const SOCKET_PATH_MAX: usize = 107;

/// Why this process may not be the instance.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// The lock is held.
    #[error("already running{} with the admin socket {}", of_pid(.pid), .socket.display())]
    Running {
        /// Its admin socket.
        socket: PathBuf,
        /// Its process, when the lock file says it.
        pid: Option<u32>,
    },
    /// The path does not fit in an address.
    #[error(
        "the path of the admin socket, {}, is {} bytes long; at most {SOCKET_PATH_MAX} are possible",
        .0.display(),
        .0.as_os_str().len()
    )]
    PathTooLong(PathBuf),
    /// There is a file that is not ours to replace.
    #[error("{} is in the way of the admin socket and is not a socket", .0.display())]
    InTheWay(PathBuf),
    /// A system call failed.
    #[error("cannot {action} {}: {error}{}", .path.display(), hint(.error))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
}

impl InstanceError {
    /// The code the program ends with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Running { .. } => Exit::Instance,
            Self::PathTooLong(_) | Self::InTheWay(_) => Exit::Failed,
            Self::Io { error, .. } if error.kind() == io::ErrorKind::PermissionDenied => {
                Exit::Unable
            }
            Self::Io { .. } => Exit::Failed,
        }
    }

    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io {
            action,
            path,
            error,
        }
    }
}

fn of_pid(pid: &Option<u32>) -> String {
    pid.map_or(String::new(), |pid| format!(" as process {pid}"))
}

/// What would help.
fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; run as root, or let `admin_socket` in the configuration name a path this user may write"
        }
        _ => "",
    }
}

/// The right to be the instance with this admin socket. Dropping it removes the socket and the lock.
#[derive(Debug)]
pub struct Instance {
    socket: PathBuf,
    lock_path: PathBuf,
    /// Its lock goes with it; removed from the folder first, under the lock.
    _lock: File,
    listener: Option<UnixListener>,
}

impl Instance {
    /// Take the lock and listen on `socket`, replacing what a killed instance left there.
    ///
    /// # Errors
    /// When another instance holds the lock, or the folder does not allow it.
    pub fn claim(socket: &Path) -> Result<Self, InstanceError> {
        if socket.as_os_str().len() > SOCKET_PATH_MAX {
            return Err(InstanceError::PathTooLong(socket.to_owned()));
        }
        if let Some(folder) = socket.parent() {
            fs::create_dir_all(folder).map_err(InstanceError::io("create", folder))?;
        }
        let lock_path = lock_path(socket);
        let lock = take_lock(socket, &lock_path)?;
        let listener = listen(socket)?;
        Ok(Self {
            socket: socket.to_owned(),
            lock_path,
            _lock: lock,
            listener: Some(listener),
        })
    }

    /// Where the admin socket is.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The socket, once: connections queue up there from the start.
    ///
    /// # Panics
    /// The second time.
    pub fn take_listener(&mut self) -> UnixListener {
        self.listener
            .take()
            .expect("the listener is taken once, by the reactor")
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        for path in [&self.socket, &self.lock_path] {
            if let Err(error) = fs::remove_file(path) {
                tracing::warn!("cannot remove {}: {error}", path.display());
            }
        }
    }
}

/// The socket's path with `.lock` appended.
fn lock_path(socket: &Path) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(".lock");
    PathBuf::from(path)
}

fn take_lock(socket: &Path, path: &Path) -> Result<File, InstanceError> {
    loop {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(path)
            .map_err(InstanceError::io("open", path))?;
        match flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(InstanceError::Running {
                    socket: socket.to_owned(),
                    pid: read_pid(&mut file),
                });
            }
            Err(errno) => return Err(InstanceError::io("lock", path)(errno.into())),
        }
        // An instance that is just ending may have removed the file between our open and our lock; then the lock is on
        // a file nobody else will find.
        let is_current = match (file.metadata(), fs::metadata(path)) {
            (Ok(ours), Ok(named)) => ours.ino() == named.ino() && ours.dev() == named.dev(),
            _ => false,
        };
        if !is_current {
            continue;
        }
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(InstanceError::io("write", path))?;
        return Ok(file);
    }
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn listen(socket: &Path) -> Result<UnixListener, InstanceError> {
    use std::os::unix::fs::FileTypeExt as _;

    match fs::symlink_metadata(socket) {
        Ok(found) if found.file_type().is_socket() => {
            fs::remove_file(socket).map_err(InstanceError::io("replace", socket))?;
        }
        Ok(_) => return Err(InstanceError::InTheWay(socket.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(InstanceError::io("look at", socket)(error)),
    }
    // Owner and group may ask; the mask is set first so that the socket never exists with more.
    let mask = umask(Mode::from_raw_mode(0o117));
    let listener = UnixListener::bind(socket);
    umask(mask);
    let listener = listener.map_err(InstanceError::io("listen on", socket))?;
    listener
        .set_nonblocking(true)
        .map_err(InstanceError::io("configure", socket))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn second_claim_is_refused_with_the_pid_and_leaves_the_first_alone() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("run").join("sextant.sock");
        let first = Instance::claim(&socket).unwrap();
        let error = Instance::claim(&socket).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "already running as process {} with the admin socket {}",
                std::process::id(),
                socket.display()
            )
        );
        assert_eq!(error.exit(), Exit::Instance);
        assert!(socket.exists());
        drop(first);
        assert_eq!(
            fs::read_dir(socket.parent().unwrap()).unwrap().count(),
            0,
            "nothing is left"
        );
        drop(Instance::claim(&socket).unwrap());
    }

    #[test]
    fn leftovers_of_a_killed_instance_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("sextant.sock");
        // What SIGKILL leaves: the names, no lock.
        drop(UnixListener::bind(&socket).unwrap());
        fs::write(lock_path(&socket), "999999\n").unwrap();
        let mut instance = Instance::claim(&socket).unwrap();
        let pid = fs::read_to_string(lock_path(&socket)).unwrap();
        assert_eq!(pid, format!("{}\n", std::process::id()));
        let listener = instance.take_listener();
        let _client = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        assert!(listener.accept().is_ok());
    }

    #[test]
    fn socket_is_for_owner_and_group_only() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("sextant.sock");
        let _instance = Instance::claim(&socket).unwrap();
        let mode = fs::metadata(&socket).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
    }

    #[test]
    fn a_file_that_is_not_a_socket_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("precious");
        fs::write(&socket, "data").unwrap();
        let error = Instance::claim(&socket).unwrap_err();
        assert!(matches!(error, InstanceError::InTheWay(_)), "{error}");
        assert_eq!(fs::read_to_string(&socket).unwrap(), "data");
    }

    #[test]
    fn too_long_a_path_is_one_sentence() {
        let socket = PathBuf::from(format!("/tmp/{}", "x".repeat(120)));
        let error = Instance::claim(&socket).unwrap_err();
        assert!(
            error.to_string().contains("at most 107 are possible"),
            "{error}"
        );
    }
}
