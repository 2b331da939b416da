//! One question of the ITR, and what follows from what happens to it: the values behind `itr` (RFC 9301 5.3).
//!
//! ```text
//!             wanted, solicited      due: try 2 to 10, 1 s apart
//!    (none) -------------------> Asking ------------------------+
//!      ^                         |  |  ^                        |
//!      |                         |  |  +------------------------+
//!      |      answered: until 1 s|  | due after try 10: for 30 s
//!      |      after the last try v  v
//!      +------------------------ Resting
//!               due
//! ```
//!
//! While one rests, nothing is asked for the same prefix, so that there is one Map-Request a second at most, and a pause
//! where nobody answers (C-10). But what a solicitation wants is an answer to a question that was asked after it: where one
//! is on its way or rests, it is asked once more (`again`), a second after the last Map-Request.

/// Map-Requests without an answer (RFC 9301 5.3).
pub(super) const TRIES: u8 = 10;

/// How a question stands. None: nothing was asked lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// An answer is waited for, after so many Map-Requests.
    Asking { tries: u8, again: bool },
    /// Nothing is asked.
    Resting { again: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occurrence {
    /// Somebody wants to know.
    Wanted,
    /// What is known, or on its way, may be old.
    Solicited,
    /// The time has come.
    Due,
    /// An answer was believed.
    Answered,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing.
    None,
    /// A Map-Request with a new nonce.
    Ask { is_solicited: bool },
    /// The same Map-Request once more.
    Retry,
    /// No answer is waited for; nothing is asked until a second after the last Map-Request.
    Rest,
    /// No answer is waited for; nothing is asked for a long while.
    GiveUp,
    /// What rests does so until a second after the last Map-Request, even if nobody answered: whoever solicits is there.
    Hasten,
    /// All about it is forgotten.
    Forget,
}

/// One transition of the diagram above.
pub(super) fn step(state: Option<State>, occurrence: Occurrence) -> (Option<State>, Action) {
    use Occurrence::{Answered, Due, Solicited, Wanted};
    use State::{Asking, Resting};
    let asked = Some(Asking {
        tries: 1,
        again: false,
    });
    let is_solicited = true;
    match (state, occurrence) {
        (None, Wanted) => (
            asked,
            Action::Ask {
                is_solicited: false,
            },
        ),
        (None, Solicited) | (Some(Resting { again: true }), Due) => {
            (asked, Action::Ask { is_solicited })
        }
        (Some(Asking { tries, again }), Due) if tries < TRIES => {
            let tries = tries + 1;
            (Some(Asking { tries, again }), Action::Retry)
        }
        (Some(Asking { again, .. }), Due) => (Some(Resting { again }), Action::GiveUp),
        (Some(Asking { again, .. }), Answered) => (Some(Resting { again }), Action::Rest),
        (Some(Asking { tries, .. }), Solicited) => {
            (Some(Asking { tries, again: true }), Action::None)
        }
        (Some(Resting { .. }), Solicited) => (Some(Resting { again: true }), Action::Hasten),
        (Some(Resting { again: false }), Due) => (None, Action::Forget),
        (None, Due | Answered)
        | (Some(Asking { .. }), Wanted)
        | (Some(Resting { .. }), Wanted | Answered) => (state, Action::None),
    }
}
