//! Exit codes of `sextant`, for scripts: the one place where they are decided, and the text that `--help` shows.

use std::process::ExitCode;

/// Why the program ended. The numbers never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Success = 0,
    /// Something failed while it ran.
    Failed = 1,
    /// The command line is wrong (said by the argument parser).
    Usage = 2,
    /// The configuration was refused; nothing was started or changed.
    Configuration = 3,
    /// An instance is running already, or the running one cannot be reached.
    Instance = 4,
    /// This machine or user cannot do it: a privilege, a device or memory for packets is missing.
    Unable = 5,
}

/// What `--help` and the manual say about exit codes; a test compares it with [`Exit`].
pub const HELP: &str = "\
Exit codes:
  0  done
  1  something failed while it ran
  2  the command line is wrong
  3  the configuration was refused; nothing was started or changed
  4  an instance is running already, or the running one cannot be reached
  5  a privilege, a device or memory for packets (huge pages) is missing";

impl Exit {
    /// Every code, in order.
    pub const ALL: [Self; 6] = [
        Self::Success,
        Self::Failed,
        Self::Usage,
        Self::Configuration,
        Self::Instance,
        Self::Unable,
    ];

    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8 // `as`: a fieldless repr(u8) enum
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_lists_every_code() {
        let numbers: Vec<u8> = HELP
            .lines()
            .skip(1)
            .map(|line| {
                let number = line.split_whitespace().next().expect("a line has words");
                number.parse().expect("a line starts with its code")
            })
            .collect();
        assert_eq!(numbers, Exit::ALL.map(Exit::code));
    }
}
