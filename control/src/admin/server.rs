//! Accepts connections on the admin socket and carries questions to the reactor and answers back.
//!
//! Runs as tasks on the reactor's own thread. Only the reactor looks at the appliance: a task that waits for a slow
//! client holds nothing but its connection.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::protocol::{self, Answer, Command, REQUEST_MAX, Refusal};

/// Connections at once; more wait in the socket's queue.
const CONNECTIONS_MAX: usize = 64;
/// How long a client may take to read an answer.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// How long accepting pauses after it failed (out of file descriptors, for one).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A question on its way to the reactor.
#[derive(Debug)]
pub struct Question {
    /// What is asked.
    pub command: Command,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Answer>,
}

/// Accept connections for ever, each in a task of its own.
pub async fn serve(listener: UnixListener, questions: mpsc::Sender<Question>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let questions = questions.clone();
                tokio::spawn(async move {
                    // A client that goes away in the middle is its own business.
                    let _ = converse(stream, &questions).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!("cannot accept a connection on the admin socket: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answer one client's questions, in order, until it closes.
async fn converse(
    stream: UnixStream,
    questions: &mpsc::Sender<Question>,
) -> Result<(), std::io::Error> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = REQUEST_MAX as u64; // `as`: a constant
        (&mut reader)
            .take(limit)
            .read_until(b'\n', &mut line)
            .await?;
        if line.is_empty() {
            return Ok(());
        }
        let is_too_long = line.len() >= REQUEST_MAX && line.last() != Some(&b'\n');
        let answer = if is_too_long {
            Answer::refused(
                Refusal::Request,
                format_args!("a question has at most {REQUEST_MAX} bytes"),
            )
        } else {
            answer(&line, questions).await
        };
        let reply = answer.to_line();
        match tokio::time::timeout(WRITE_LIMIT, writer.write_all(reply.as_bytes())).await {
            Ok(written) => written?,
            Err(_) => return Ok(()),
        }
        if is_too_long {
            return Ok(());
        }
    }
}

async fn answer(line: &[u8], questions: &mpsc::Sender<Question>) -> Answer {
    let command = match protocol::parse_request(line) {
        Ok(command) => command,
        Err(answer) => return answer,
    };
    let (sender, receiver) = oneshot::channel();
    let question = Question {
        command,
        answer: sender,
    };
    if questions.send(question).await.is_err() {
        return stopping();
    }
    receiver.await.unwrap_or_else(|_| stopping())
}

fn stopping() -> Answer {
    Answer::refused(Refusal::Failed, "the instance is stopping")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::admin::protocol::Subject;

    /// A server whose reactor answers every question with its name, and closes with the channel.
    fn start(path: &Path) -> tokio::task::JoinHandle<()> {
        let listener = UnixListener::bind(path).unwrap();
        let (sender, mut receiver) = mpsc::channel::<Question>(1);
        tokio::spawn(serve(listener, sender));
        tokio::spawn(async move {
            while let Some(question) = receiver.recv().await {
                let _ = question
                    .answer
                    .send(Answer::done(format!("{:?}", question.command)));
            }
        })
    }

    async fn ask(stream: &mut BufReader<UnixStream>, line: &str) -> Answer {
        stream.get_mut().write_all(line.as_bytes()).await.unwrap();
        let mut reply = String::new();
        stream.read_line(&mut reply).await.unwrap();
        serde_json::from_str(&reply).unwrap()
    }

    #[tokio::test]
    async fn one_connection_asks_several_questions_and_survives_nonsense() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        start(&path);
        let mut stream = BufReader::new(UnixStream::connect(&path).await.unwrap());
        let ports = "{\"version\":1,\"command\":\"show\",\"subject\":\"ports\"}\n";
        let expected = Command::Show {
            subject: Subject::Ports,
        };
        let answer = ask(&mut stream, ports).await;
        assert_eq!(answer, Answer::done(format!("{expected:?}")));
        let answer = ask(&mut stream, "nonsense\n").await;
        assert_eq!(answer.reason, Some(Refusal::Request));
        assert!(ask(&mut stream, ports).await.ok);
    }

    #[tokio::test]
    async fn too_long_a_question_is_answered_and_ends_the_connection() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        start(&path);
        let mut stream = BufReader::new(UnixStream::connect(&path).await.unwrap());
        let answer = ask(&mut stream, &"x".repeat(REQUEST_MAX)).await;
        assert_eq!(
            answer.error.as_deref(),
            Some("a question has at most 1048576 bytes")
        );
        let mut rest = String::new();
        assert_eq!(stream.read_line(&mut rest).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn slow_clients_do_not_keep_others_from_an_answer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        start(&path);
        let mut slow = Vec::new();
        for _ in 0..CONNECTIONS_MAX - 1 {
            let mut stream = UnixStream::connect(&path).await.unwrap();
            stream.write_all(b"{\"version\":1,").await.unwrap();
            slow.push(stream);
        }
        let mut stream = BufReader::new(UnixStream::connect(&path).await.unwrap());
        let answer = ask(&mut stream, "{\"version\":1,\"command\":\"ping\"}\n").await;
        assert!(answer.ok);
    }

    #[tokio::test]
    async fn question_to_a_stopping_instance_gets_a_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let reactor = start(&path);
        let mut stream = BufReader::new(UnixStream::connect(&path).await.unwrap());
        let ping = "{\"version\":1,\"command\":\"ping\"}\n";
        assert!(ask(&mut stream, ping).await.ok);
        reactor.abort();
        let _ = reactor.await;
        let answer = ask(&mut stream, ping).await;
        assert_eq!(answer.error.as_deref(), Some("the instance is stopping"));
    }
}
