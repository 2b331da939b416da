//! Asks the running instance, from another process: a blocking unix socket with a time limit.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::protocol::{Answer, Command, Refusal, Request, VERSION};
use crate::exit::Exit;

/// How long the instance may take for an answer; starting up (huge pages, devices) is part of it.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Why there is no answer, or not the one hoped for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no socket, or nobody listens on it.
    #[error("no instance of sextant answers on {}: {}; is it running, and with this admin socket?", .socket.display(), cause(.error))]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// The socket is there and this user may not use it.
    #[error("the admin socket {} is not for this user: ask as root or as a member of its group", .0.display())]
    Forbidden(PathBuf),
    /// The connection broke or was silent.
    #[error("the instance on {} did not answer: {error}", .socket.display())]
    Silent {
        /// The socket.
        socket: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// What came back is not the protocol.
    #[error("what answers on {} does not speak this program's protocol: {error}", .socket.display())]
    Protocol {
        /// The socket.
        socket: PathBuf,
        /// What was wrong with it.
        error: serde_json::Error,
    },
    /// The instance says no.
    #[error("{}", .error.trim_end())]
    Refused {
        /// What kind of failure.
        reason: Refusal,
        /// Its words.
        error: String,
    },
}

/// The kernel's words without the number.
fn cause(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "the socket does not exist",
        io::ErrorKind::ConnectionRefused => "nobody listens there",
        io::ErrorKind::InvalidInput => "the path is too long for a socket",
        _ => "cannot connect",
    }
}

impl ClientError {
    /// The code the program ends with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Unreachable { .. } | Self::Silent { .. } | Self::Protocol { .. } => {
                Exit::Instance
            }
            Self::Forbidden(_) => Exit::Unable,
            Self::Refused { reason, .. } => match reason {
                Refusal::Configuration => Exit::Configuration,
                Refusal::Request | Refusal::Failed => Exit::Failed,
            },
        }
    }
}

/// A connection to the running instance.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connect.
    ///
    /// # Errors
    /// When nobody answers there.
    pub fn connect(socket: &Path) -> Result<Self, ClientError> {
        let connected = UnixStream::connect(socket).and_then(|stream| {
            stream.set_read_timeout(Some(ANSWER_LIMIT))?;
            stream.set_write_timeout(Some(ANSWER_LIMIT))?;
            Ok(stream)
        });
        let socket = socket.to_owned();
        match connected {
            Ok(stream) => Ok(Self {
                socket,
                stream: BufReader::new(stream),
            }),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(ClientError::Forbidden(socket))
            }
            Err(error) => Err(ClientError::Unreachable { socket, error }),
        }
    }

    /// Ask, and wait for the answer's data.
    ///
    /// # Errors
    /// When there is none, or the instance refuses.
    pub fn ask(&mut self, command: Command) -> Result<Value, ClientError> {
        let line = self
            .exchange(command)
            .map_err(|error| ClientError::Silent {
                socket: self.socket.clone(),
                error: self.in_words(error),
            })?;
        let answer: Answer = serde_json::from_str(&line).map_err(|error| self.protocol(error))?;
        if answer.ok {
            return Ok(answer.data);
        }
        Err(ClientError::Refused {
            reason: answer.reason.unwrap_or(Refusal::Failed),
            error: answer
                .error
                .unwrap_or_else(|| "refused without a reason".to_owned()),
        })
    }

    /// Ask, and read the answer's data as `T`.
    ///
    /// # Errors
    /// As for [`Client::ask`].
    pub fn ask_for<T: DeserializeOwned>(&mut self, command: Command) -> Result<T, ClientError> {
        let data = self.ask(command)?;
        self.read(data)
    }

    /// Read an answer's data as `T`.
    ///
    /// # Errors
    /// When it is something else.
    pub fn read<T: DeserializeOwned>(&self, data: Value) -> Result<T, ClientError> {
        serde_json::from_value(data).map_err(|error| self.protocol(error))
    }

    fn exchange(&mut self, command: Command) -> io::Result<String> {
        let request = Request {
            version: VERSION,
            command,
        };
        let mut line = serde_json::to_string(&request)?;
        line.push('\n');
        self.stream.get_mut().write_all(line.as_bytes())?;
        let mut reply = String::new();
        if self.stream.read_line(&mut reply)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(reply)
    }

    /// A time limit reads as "would block" on a socket; say what it is.
    fn in_words(&self, error: io::Error) -> io::Error {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => io::Error::new(
                io::ErrorKind::TimedOut,
                format!("nothing for {} seconds", ANSWER_LIMIT.as_secs()),
            ),
            io::ErrorKind::UnexpectedEof => {
                io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection")
            }
            _ => error,
        }
    }

    fn protocol(&self, error: serde_json::Error) -> ClientError {
        ClientError::Protocol {
            socket: self.socket.clone(),
            error,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;
    use crate::admin::protocol::Subject;

    /// An instance that reads one line and says `reply`.
    fn instance(socket: &Path, reply: &'static str) -> thread::JoinHandle<String> {
        let listener = UnixListener::bind(socket).unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut question = String::new();
            BufReader::new(stream.try_clone().unwrap())
                .read_line(&mut question)
                .unwrap();
            stream.write_all(reply.as_bytes()).unwrap();
            question
        })
    }

    fn ask(reply: &'static str) -> (Result<Vec<u32>, ClientError>, String) {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let instance = instance(&socket, reply);
        let command = Command::Show {
            subject: Subject::Npt66,
        };
        let answer = Client::connect(&socket).unwrap().ask_for(command);
        (answer, instance.join().unwrap())
    }

    #[test]
    fn answer_is_read() {
        let (answer, question) = ask("{\"ok\":true,\"data\":[1,2]}\n");
        assert_eq!(answer.unwrap(), [1, 2]);
        assert_eq!(
            question,
            "{\"version\":1,\"command\":\"show\",\"subject\":\"npt66\"}\n"
        );
    }

    #[test]
    fn refusals_keep_their_words_and_their_exit_code() {
        let refused =
            "{\"ok\":false,\"error\":\"f.toml:1:2: no\\n\",\"reason\":\"configuration\"}\n";
        let error = ask(refused).0.unwrap_err();
        assert_eq!(error.to_string(), "f.toml:1:2: no");
        assert_eq!(error.exit(), Exit::Configuration);
        let error = ask("{\"ok\":false,\"error\":\"no\"}\n").0.unwrap_err();
        assert_eq!(error.exit(), Exit::Failed);
    }

    #[test]
    fn closed_connection_and_foreign_protocols_are_told_apart() {
        let error = ask("").0.unwrap_err();
        assert!(
            error.to_string().ends_with("it closed the connection"),
            "{error}"
        );
        assert_eq!(error.exit(), Exit::Instance);
        let error = ask("220 mail ready\n").0.unwrap_err();
        assert!(
            error
                .to_string()
                .contains("does not speak this program's protocol")
        );
    }

    #[test]
    fn nobody_there_is_one_sentence_and_its_own_exit_code() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let error = Client::connect(&socket).unwrap_err();
        assert!(
            error.to_string().contains("the socket does not exist"),
            "{error}"
        );
        assert_eq!(error.exit(), Exit::Instance);
        drop(UnixListener::bind(&socket).unwrap());
        let error = Client::connect(&socket).unwrap_err();
        assert!(
            error.to_string().contains("nobody listens there"),
            "{error}"
        );
    }
}
