//! Errors with their place in the file, and how a person sees them.
//!
//! Every error is first one line, `file:line:column: key: what is wrong, expected …`, as compilers write it, so that
//! editors and `grep` understand it; then the lines it is about, marked.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::problem::Problem;

/// More errors than this are counted, not shown: a person mends the first ones and asks again.
const SHOWN_MAX: usize = 100;

/// Where something stands: bytes of the file, and the key as a path such as `ports[1].device`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) span: Range<usize>,
    pub(super) key: String,
}

impl Place {
    /// Where to point for a key of the table here that is not written.
    pub(super) fn child(&self, key: &str) -> Self {
        Self {
            span: self.span.clone(),
            key: format!("{}.{key}", self.key),
        }
    }
}

/// One error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    place: Option<Place>,
    problem: Problem,
    related: Option<(Range<usize>, &'static str)>,
    line: usize,
    column: usize,
}

impl ConfigError {
    /// The key as a path from the root, positions counted from 0: `interfaces[0].addresses[1]`. Empty where the file
    /// as a whole is wrong.
    #[must_use]
    pub fn key(&self) -> &str {
        self.place.as_ref().map_or("", |place| &place.key)
    }

    /// Line, counted from 1; 0 where the file could not be read.
    #[must_use]
    pub fn line(&self) -> usize {
        self.line
    }

    /// Column in characters, counted from 1; 0 where the file could not be read.
    #[must_use]
    pub fn column(&self) -> usize {
        self.column
    }

    /// What is wrong.
    #[must_use]
    pub fn problem(&self) -> &Problem {
        &self.problem
    }
}

/// Every error of one file, in the order of the file. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors {
    file: String,
    text: String,
    errors: Vec<ConfigError>,
    has_gaps: bool,
}

impl std::error::Error for Errors {}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl Errors {
    /// Of a file that could not be read.
    pub(super) fn of_file(file: &str, problem: Problem) -> Self {
        let error = ConfigError {
            place: None,
            problem,
            related: None,
            line: 0,
            column: 0,
        };
        Self {
            file: file.to_owned(),
            text: String::new(),
            errors: vec![error],
            has_gaps: false,
        }
    }

    /// The errors, in the order of the file.
    #[must_use]
    pub fn as_slice(&self) -> &[ConfigError] {
        &self.errors
    }

    /// All of them for a person, with the lines they are about; the last line counts them. Ends with a newline.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let mut text = String::new();
        for error in self.errors.iter().take(SHOWN_MAX) {
            text.push_str(&self.render_one(error, &renderer));
            text.push_str("\n\n");
        }
        let hidden = self.errors.len().saturating_sub(SHOWN_MAX);
        let count = match self.errors.len() {
            1 => "1 error".to_owned(),
            count => format!("{count} errors"),
        };
        text.push_str(&format!("{}: {count}", self.file));
        if hidden > 0 {
            text.push_str(&format!(", {hidden} of them not shown"));
        }
        if self.has_gaps {
            text.push_str("; how the rest fits together is checked once it can be read");
        }
        text.push('\n');
        text
    }

    fn render_one(&self, error: &ConfigError, renderer: &Renderer) -> String {
        let Some(place) = &error.place else {
            let title = Level::ERROR
                .no_name()
                .primary_title(format!("{}: {}", self.file, error.problem));
            return renderer.render(&[Group::with_title(title)]);
        };
        let key = if place.key.is_empty() {
            String::new()
        } else {
            format!("{}: ", place.key)
        };
        let title = format!(
            "{}:{}:{}: {key}{}",
            self.file, error.line, error.column, error.problem
        );
        let mut snippet = Snippet::source(&self.text)
            .annotation(AnnotationKind::Primary.span(place.span.clone()));
        if let Some((span, label)) = &error.related {
            snippet = snippet.annotation(AnnotationKind::Context.span(span.clone()).label(*label));
        }
        let mut group = Level::ERROR.no_name().primary_title(title).element(snippet);
        if let Some(help) = error.problem.help() {
            group = group.element(Level::HELP.message(help));
        }
        renderer.render(&[group])
    }
}

/// Collects errors while a file is read and judged.
pub(super) struct Sink<'a> {
    file: &'a str,
    text: &'a str,
    errors: Vec<ConfigError>,
    has_gaps: bool,
}

impl<'a> Sink<'a> {
    pub(super) fn new(file: &'a str, text: &'a str) -> Self {
        Self {
            file,
            text,
            errors: Vec::new(),
            has_gaps: false,
        }
    }

    pub(super) fn push(&mut self, place: &Place, problem: Problem) {
        self.add(place, problem, None);
    }

    /// With a second mark in the excerpt.
    pub(super) fn push_related(
        &mut self,
        place: &Place,
        problem: Problem,
        other: &Place,
        label: &'static str,
    ) {
        self.add(
            place,
            problem,
            Some((self.whole_characters(&other.span), label)),
        );
    }

    fn add(
        &mut self,
        place: &Place,
        problem: Problem,
        related: Option<(Range<usize>, &'static str)>,
    ) {
        let span = self.whole_characters(&place.span);
        let (line, column) = position(self.text, span.start);
        let place = Some(Place {
            span,
            key: place.key.clone(),
        });
        self.errors.push(ConfigError {
            place,
            problem,
            related,
            line,
            column,
        });
    }

    /// The renderer cuts the text at these offsets, so they must not fall inside a character; what is behind the end
    /// of the file is at the end of its last line.
    fn whole_characters(&self, span: &Range<usize>) -> Range<usize> {
        if span.start > self.text.len() {
            let end = self.text.trim_end().len();
            return end..end;
        }
        let start = self.text.floor_char_boundary(span.start);
        start..self.text.floor_char_boundary(span.end).max(start)
    }

    /// Parts of the file could not be read, so that what seems to be missing may be there.
    pub(super) fn note_gap(&mut self) {
        self.has_gaps = true;
    }

    pub(super) fn has_gaps(&self) -> bool {
        self.has_gaps
    }

    /// All errors, or `value` if there are none.
    pub(super) fn finish<T>(mut self, value: T) -> Result<T, Errors> {
        if self.errors.is_empty() {
            return Ok(value);
        }
        self.errors
            .sort_by_key(|error| error.place.as_ref().map(|place| place.span.start));
        Err(Errors {
            file: self.file.to_owned(),
            text: self.text.to_owned(),
            errors: self.errors,
            has_gaps: self.has_gaps,
        })
    }
}

/// Line and column of a byte offset, both counted from 1, columns in characters.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}
