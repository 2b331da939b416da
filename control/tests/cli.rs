//! The command line of the real binary: help everywhere, exit codes, what goes where. Nothing here starts an instance.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use clap::CommandFactory as _;
use control::cli::Cli;

fn sextant(arguments: &[&str]) -> Output {
    sextant_in(Path::new("."), arguments)
}

fn sextant_in(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sextant"))
        .args(arguments)
        .current_dir(folder)
        .env_remove("SEXTANT_SOCKET")
        .env_remove("SEXTANT_LOG")
        .output()
        .expect("sextant can be run")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

fn broken() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken")
}

/// Every command of the tree, as the words that lead to it.
fn leaves(command: &clap::Command, path: &[String], found: &mut Vec<Vec<String>>) {
    let subcommands: Vec<_> = command
        .get_subcommands()
        .filter(|sub| sub.get_name() != "help")
        .collect();
    found.push(path.to_vec());
    for sub in subcommands {
        let mut path = path.to_vec();
        path.push(sub.get_name().to_owned());
        leaves(sub, &path, found);
    }
}

#[test]
fn every_command_has_help_that_says_something() {
    let mut all = Vec::new();
    leaves(&Cli::command(), &[], &mut all);
    assert!(all.len() >= 20, "{all:?}");
    for path in all {
        let mut arguments: Vec<&str> = path.iter().map(String::as_str).collect();
        arguments.push("--help");
        let output = sextant(&arguments);
        assert!(output.status.success(), "{arguments:?}");
        assert!(output.stderr.is_empty(), "{arguments:?}");
        let text = stdout(&output);
        assert!(text.contains("Usage: sextant"), "{arguments:?}: {text}");
        let first = text.lines().next().unwrap_or_default();
        assert!(
            first.len() > 10 && !first.starts_with("Usage"),
            "{arguments:?}: {text}"
        );
    }
}

#[test]
fn every_show_has_json_and_watch_and_every_client_command_a_socket() {
    let command = Cli::command();
    let arguments = |command: &clap::Command| -> Vec<String> {
        let arguments = command.get_arguments();
        arguments
            .filter_map(|argument| argument.get_long().map(str::to_owned))
            .collect()
    };
    let show = command
        .find_subcommand("show")
        .expect("there is a show command");
    for subject in show.get_subcommands() {
        let known = arguments(subject);
        for wanted in ["json", "watch", "socket"] {
            assert!(
                known.iter().any(|name| name == wanted),
                "{} --{wanted}",
                subject.get_name()
            );
        }
    }
    for name in ["reload", "trace"] {
        let command = command.find_subcommand(name).expect("a client command");
        assert!(
            arguments(command).iter().any(|name| name == "socket"),
            "{name}"
        );
    }
}

#[test]
fn wrong_command_lines_end_with_2() {
    for arguments in [
        &["dance"][..],
        &[],
        &["run"],
        &["show", "prots"],
        &["show", "ports", "--watch", "0"],
        &["trace", "0"],
        &["trace", "1001"],
        &["completions", "dos"],
    ] {
        let output = sextant(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn right_files_are_one_line_and_0() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let files = std::fs::read_dir(examples).expect("the folder of examples");
    let mut count = 0;
    for file in files {
        let path = file.expect("an entry").path();
        let path = path.to_str().expect("a text");
        let output = sextant(&["check", "-c", path]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let text = stdout(&output);
        assert!(text.starts_with(&format!("{path}: right: ")), "{text}");
        assert_eq!(text.lines().count(), 1);
        let output = sextant(&["check", "--json", "-c", path]);
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let is_right =
            value["system"]["admin_socket"].is_string() || value["mapserver"]["listen"].is_array();
        assert!(is_right, "{path}");
        count += 1;
    }
    assert!(count >= 1);
}

#[test]
fn broken_files_get_their_golden_errors_and_3_from_check_and_from_run() {
    let mut count = 0;
    for entry in std::fs::read_dir(broken()).expect("the folder of broken files") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .expect("a name");
        let golden = std::fs::read(path.with_extension("txt")).expect("a golden text");
        for command in ["check", "run"] {
            let output = sextant_in(&broken(), &[command, "-c", name]);
            assert_eq!(output.status.code(), Some(3), "{command} {name}");
            assert!(output.stdout.is_empty(), "{command} {name}");
            assert_eq!(
                String::from_utf8_lossy(&output.stderr),
                String::from_utf8_lossy(&golden),
                "{command} {name}: the errors and nothing else, so nothing was started"
            );
        }
        count += 1;
    }
    assert!(count >= 30, "{count} files");
}

#[test]
fn missing_configuration_file_is_named() {
    let output = sextant(&["check", "-c", "/nowhere/at/all.toml"]);
    assert_eq!(output.status.code(), Some(3));
    let text = stderr(&output);
    assert!(
        text.starts_with("/nowhere/at/all.toml: cannot be read: "),
        "{text}"
    );
}

#[test]
fn nobody_on_the_socket_is_one_sentence_and_4() {
    let socket = "/nowhere/sextant.sock";
    for arguments in [
        &["show", "ports", "--socket", socket][..],
        &["show", "counters", "--json", "-s", socket],
        &["show", "npt66", "--watch", "-s", socket],
        &["reload", "--socket", socket],
        &["trace", "1", "--socket", socket],
    ] {
        let output = sextant(arguments);
        assert_eq!(output.status.code(), Some(4), "{arguments:?}");
        assert!(output.stdout.is_empty());
        let text = stderr(&output);
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(
            text.starts_with("sextant: no instance of sextant answers on /nowhere/sextant.sock: "),
            "{text}"
        );
    }
}

#[test]
fn socket_may_come_from_the_environment() {
    let output = Command::new(env!("CARGO_BIN_EXE_sextant"))
        .args(["show", "ports"])
        .env("SEXTANT_SOCKET", "/elsewhere/s.sock")
        .output()
        .expect("sextant can be run");
    assert!(stderr(&output).contains("/elsewhere/s.sock"));
}

#[test]
fn manual_pages_cover_every_command_and_the_exit_codes() {
    let page = stdout(&sextant(&["man"]));
    assert!(page.contains(".TH sextant 1"), "{page}");
    assert!(page.contains("the configuration was refused"), "{page}");
    let folder = tempfile::tempdir().expect("a folder");
    let target = folder.path().join("man");
    let output = sextant(&["man", "--directory", target.to_str().expect("a text")]);
    assert!(output.status.success(), "{}", stderr(&output));
    let mut pages: Vec<String> = std::fs::read_dir(&target)
        .expect("the pages")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    pages.sort();
    for page in [
        "sextant.1",
        "sextant-run.1",
        "sextant-show-ports.1",
        "sextant-trace.1",
    ] {
        assert!(
            pages.iter().any(|found| found == page),
            "{page} of {pages:?}"
        );
    }
    assert!(
        !pages.iter().any(|page| page.contains("lab-peer")),
        "{pages:?}"
    );
}

#[test]
fn completions_know_the_subjects() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = stdout(&sextant(&["completions", shell]));
        assert!(script.contains("npt66"), "{shell}");
    }
}

#[test]
fn closed_pipe_is_no_failure() {
    let output = Command::new("sh")
        .arg("-c")
        .arg(format!(
            "{} man | head -c 10; true",
            env!("CARGO_BIN_EXE_sextant")
        ))
        .output()
        .expect("sh can be run");
    assert_eq!(output.stdout.len(), 10);
    assert!(output.stderr.is_empty(), "{}", stderr(&output));
}

#[test]
fn every_map_command_needs_an_instance_and_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("none.sock");
    let socket = socket.to_str().expect("text");
    let file = folder.path().join("changes");
    std::fs::write(&file, "").expect("the file can be written");
    let file = file.to_str().expect("text");
    for arguments in [
        &["add", "2001:db8::/32", "--action", "drop"][..],
        &["del", "2001:db8::/32"],
        &["rloc", "192.0.2.1", "down"],
        &["show"],
        &["load", file],
        &["dump"],
    ] {
        let arguments = [&["map"], arguments, &["--socket", socket]].concat();
        let output = sextant(&arguments);
        assert_eq!(output.status.code(), Some(4), "{arguments:?}");
        let error = stderr(&output);
        assert!(error.contains("the socket does not exist"), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn a_file_of_changes_that_is_not_there_is_named() {
    let output = sextant(&["map", "load", "/nowhere/changes"]);
    assert_eq!(output.status.code(), Some(1));
    let error = stderr(&output);
    assert!(
        error.starts_with("sextant: /nowhere/changes: cannot be read: "),
        "{error}"
    );
}

#[test]
fn examples_are_right() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let output = sextant_in(&folder, &["check", "--config", "lisp.toml"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("1 LISP instance, 3 LISP mappings"));
}
