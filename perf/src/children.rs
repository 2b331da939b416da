//! Child processes that never outlive their owner.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::process::Pid;

use crate::interrupt;

/// How long a line is waited for before looking for a signal again.
const STEP: Duration = Duration::from_millis(50);
/// Lines of a failed child's output that are shown.
const SHOWN_LINES: usize = 15;

/// A running child: killed and reaped when dropped.
pub struct Running {
    name: String,
    child: Child,
}

impl Running {
    /// Start `command`.
    pub fn start(name: &str, command: &mut Command) -> Result<Self> {
        let child = command.spawn().with_context(|| {
            format!("cannot start {name} ({})", command.get_program().display())
        })?;
        Ok(Self {
            name: name.to_owned(),
            child,
        })
    }

    /// Its process.
    #[must_use]
    pub fn process(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// An error when the child has ended by itself; `log` is where its output went.
    pub fn check(&mut self, log: &Path) -> Result<()> {
        let status = self
            .child
            .try_wait()
            .context("cannot ask for a child's state")?;
        if let Some(status) = status {
            let text = std::fs::read_to_string(log).unwrap_or_default();
            bail!(
                "{} ended early ({status}):\n{}",
                self.name,
                tail(text.lines())
            );
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when the child is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A child that is talked to: lines in, lines out (its errors among them).
pub struct Dialogue {
    running: Running,
    lines: Receiver<String>,
    heard: Vec<String>,
}

impl Dialogue {
    /// Start `command` with its input and output connected to us.
    pub fn start(name: &str, command: &mut Command) -> Result<Self> {
        let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
        command
            .stdin(Stdio::piped())
            .stdout(writer.try_clone().context("cannot share a pipe")?)
            .stderr(writer);
        let running = Running::start(name, command)?;
        // The command keeps its copies of the pipe's writing end; without them the reader sees the child's end.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            running,
            lines,
            heard: Vec::new(),
        })
    }

    /// Its process.
    #[must_use]
    pub fn process(&self) -> Pid {
        self.running.process()
    }

    /// Say one line.
    pub fn say(&mut self, line: &str) -> Result<()> {
        let written = match self.running.child.stdin.as_mut() {
            Some(input) => writeln!(input, "{line}").and_then(|()| input.flush()),
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        };
        written.map_err(|_| self.ended())
    }

    /// What to say of a child that has closed its end: how it ended and its last words.
    fn ended(&mut self) -> anyhow::Error {
        // It may be about to.
        std::thread::sleep(STEP);
        self.heard.extend(self.lines.try_iter());
        let status = match self.running.child.try_wait() {
            Ok(Some(status)) => status.to_string(),
            _ => "still running".to_owned(),
        };
        let said = tail(self.heard.iter().map(String::as_str));
        anyhow!("{} ended early ({status}):\n{said}", self.running.name)
    }

    /// Listen until a line makes `wanted` return something.
    pub fn listen<T>(
        &mut self,
        limit: Duration,
        mut wanted: impl FnMut(&str) -> Option<T>,
    ) -> Result<T> {
        let end = Instant::now() + limit;
        loop {
            interrupt::check()?;
            match self.lines.recv_timeout(STEP) {
                Ok(line) => {
                    let found = wanted(&line);
                    self.heard.push(line);
                    if let Some(found) = found {
                        return Ok(found);
                    }
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() < end => {}
                Err(RecvTimeoutError::Timeout) => bail!(
                    "{} did not say what was expected within {limit:?}:\n{}",
                    self.running.name,
                    tail(self.heard.iter().map(String::as_str))
                ),
                Err(RecvTimeoutError::Disconnected) => return Err(self.ended()),
            }
        }
    }
}

fn tail<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let lines: Vec<&str> = lines.filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dialogue_hears_answers_and_says_who_ended_early() {
        let mut cat = Dialogue::start("cat", &mut Command::new("cat")).expect("cat is everywhere");
        cat.say("TX-packets: 12").expect("cat listens");
        let packets = cat
            .listen(Duration::from_secs(5), |line| {
                line.strip_prefix("TX-packets: ")?.parse::<u64>().ok()
            })
            .expect("cat answers");
        assert_eq!(packets, 12);
        let mut brief = Dialogue::start(
            "sh",
            Command::new("sh").args(["-c", "echo no device; exit 3"]),
        )
        .expect("sh");
        let error = brief
            .listen(Duration::from_secs(5), |line| {
                (line == "ready").then_some(())
            })
            .expect_err("it ended");
        assert!(
            error.to_string().contains("sh ended early") && error.to_string().contains("no device"),
            "{error}"
        );
    }

    #[test]
    fn a_dropped_child_is_gone() {
        let running =
            Running::start("sleep", Command::new("sleep").arg("600")).expect("sleep is everywhere");
        let process = format!("/proc/{}", running.child.id());
        assert!(Path::new(&process).exists());
        drop(running);
        assert!(!Path::new(&process).exists());
    }
}
