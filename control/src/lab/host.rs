//! Hosts in namespaces, and the appliance between them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::folder::Folder;
use super::process::{Finished, LabError, Process, run, run_for, wait_until};

/// How long the appliance may take from its start to an answer on its socket.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long it may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(10);
const CONFIG_FILE: &str = "sextant.toml";

/// A network namespace; deleted when dropped.
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Make it, with its loopback up. A leftover of the same name is replaced.
    ///
    /// # Errors
    /// When `ip netns` does not work, for instance without root.
    pub fn new(name: &str) -> Result<Self, LabError> {
        // Fails when there is no leftover, which is the usual case.
        let _ = run(&["ip", "netns", "del", name]);
        run(&["ip", "netns", "add", name])?;
        let namespace = Self {
            name: name.to_owned(),
        };
        namespace.run(&["ip", "link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Run a command in it; see [`run`].
    ///
    /// # Errors
    /// As [`run`].
    pub fn run(&self, words: &[&str]) -> Result<String, LabError> {
        run(&self.inside(words))
    }

    /// Run a command in it; see [`run_for`].
    ///
    /// # Errors
    /// As [`run_for`].
    pub fn run_for(&self, words: &[&str], limit: Duration) -> Result<Finished, LabError> {
        run_for(&self.inside(words), limit)
    }

    /// Start a command in it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, words: &[&str]) -> Result<Process, LabError> {
        Process::spawn(&self.inside(words))
    }

    /// Bring `link` up with these addresses (with prefix length) and, if given, a default route, all of either family.
    /// Neither duplicate address detection nor router solicitations delay the start.
    ///
    /// # Errors
    /// When the link is not here, or an address is refused.
    pub fn configure(
        &self,
        link: &str,
        addresses: &[&str],
        gateway: Option<&str>,
    ) -> Result<(), LabError> {
        // A kernel that forwards asks for no neighbour before its link-local address is known to be unique.
        self.run(&[
            "sysctl",
            "-qw",
            &format!("net.ipv6.conf.{link}.accept_ra=0"),
            &format!("net.ipv6.conf.{link}.dad_transmits=0"),
        ])?;
        self.run(&["ip", "link", "set", link, "up"])?;
        for address in addresses {
            // IPv4 has no detection to be left out.
            let nodad: &[&str] = if is_ipv6(address) { &["nodad"] } else { &[] };
            self.run(&[&["ip", "addr", "add", address, "dev", link], nodad].concat())?;
        }
        if let Some(gateway) = gateway {
            let family = if is_ipv6(gateway) { "-6" } else { "-4" };
            self.run(&[
                "ip", family, "route", "add", "default", "via", gateway, "dev", link,
            ])?;
        }
        Ok(())
    }

    fn inside<'a>(&'a self, words: &[&'a str]) -> Vec<&'a str> {
        [&["ip", "netns", "exec", self.name.as_str()], words].concat()
    }
}

/// Which family a textual address is of.
fn is_ipv6(address: &str) -> bool {
    address.contains(':')
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Also when a signal came: this command is short and not looked at for interruption.
        let _ = std::process::Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
    }
}

/// A running `sextant run` in a namespace of its own, its files in a folder of its own.
pub struct Appliance {
    process: Option<Process>,
    namespace: Namespace,
    program: PathBuf,
    folder: Folder,
}

impl Appliance {
    /// Write `config` (without `admin_socket`, which is added), start `program` with it in namespace `name`, and wait
    /// until it answers.
    ///
    /// # Errors
    /// When it does not come up; what it printed is in the error.
    pub fn start(program: &Path, name: &str, config: &str) -> Result<Self, LabError> {
        let folder = Folder::new(name)?;
        let namespace = Namespace::new(name)?;
        let mut appliance = Self {
            process: None,
            namespace,
            program: program.to_owned(),
            folder,
        };
        appliance.write_config(config)?;
        appliance.launch()?;
        Ok(appliance)
    }

    /// Replace its configuration file; nothing is told to the running process.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_config(&self, config: &str) -> Result<(), LabError> {
        let socket = self.socket();
        let text = format!(
            "[system]\nadmin_socket = \"{}\"\n\n{config}",
            socket.display()
        );
        self.folder.write(CONFIG_FILE, &text).map(drop)
    }

    /// Start the process (again) and wait until it answers.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn launch(&mut self) -> Result<(), LabError> {
        let log_path = self.folder.path().join("log");
        let log = File::options().create(true).append(true).open(&log_path);
        let log = log.map_err(|source| LabError::Write {
            path: log_path.display().to_string(),
            source,
        })?;
        let (program, config) = (
            self.program.display().to_string(),
            self.config_path().display().to_string(),
        );
        let words = [
            "ip",
            "netns",
            "exec",
            self.namespace.name(),
            &program,
            "run",
            "-c",
            &config,
        ];
        let process = Process::spawn_with(&words, |command| {
            let twin = log.try_clone().map_or_else(|_| Stdio::null(), Stdio::from);
            command.stdout(twin).stderr(log);
        })?;
        self.process = Some(process);
        let answers = |this: &mut Self| this.show("ports").is_ok();
        let waited = wait_until("the appliance to answer", START_LIMIT, || {
            answers(self) || !self.is_running()
        });
        if waited.is_ok() && self.is_running() {
            return Ok(());
        }
        Err(LabError::Answer {
            from: "the appliance".to_owned(),
            text: self.log(),
        })
    }

    /// Whether the process runs.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::is_running)
    }

    /// The process.
    #[must_use]
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// What it printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its admin socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("admin.sock")
    }

    /// Its configuration file.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.folder.path().join(CONFIG_FILE)
    }

    /// Give a tap of it to a host.
    ///
    /// # Errors
    /// When the tap is not there.
    pub fn hand_over(&self, tap: &str, host: &Namespace) -> Result<(), LabError> {
        self.namespace
            .run(&["ip", "link", "set", tap, "netns", host.name()])
            .map(drop)
    }

    /// `sextant show SUBJECT --json`.
    ///
    /// # Errors
    /// When it does not answer, or not in JSON.
    pub fn show(&self, subject: &str) -> Result<serde_json::Value, LabError> {
        let text = self.command(&["show", subject, "--json"])?;
        serde_json::from_str(&text).map_err(|_| LabError::Answer {
            from: format!("show {subject}"),
            text,
        })
    }

    /// Any command of the client, on this appliance's socket; a failure is an error.
    ///
    /// # Errors
    /// As [`run`].
    pub fn command(&self, words: &[&str]) -> Result<String, LabError> {
        let (program, socket) = (
            self.program.display().to_string(),
            self.socket().display().to_string(),
        );
        run(&[&[program.as_str()], words, &["--socket", &socket]].concat())
    }

    /// Stop it with SIGTERM; how it ended.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop(&mut self) -> Result<Option<i32>, LabError> {
        let Some(process) = self.process.take() else {
            return Ok(None);
        };
        process.signal(rustix::process::Signal::TERM);
        process.wait(STOP_LIMIT).map(|finished| finished.code)
    }

    /// Kill it with SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal(rustix::process::Signal::TERM);
            let deadline = std::time::Instant::now() + STOP_LIMIT;
            while process.is_running() && std::time::Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}
