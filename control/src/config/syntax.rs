//! From text to a TOML tree, with every syntax error found once.
//!
//! The TOML parser recovers too, but an array that was never closed swallows the rest of the file and makes an error
//! of each line. So after a syntax error the file is looked at statement by statement: a statement that is no valid
//! TOML by itself is reported by its first error and set aside, together with what follows it when it is a table's
//! header; what is left is read as if those lines were blank.

use toml::de::DeTable;

use super::error::{Place, Sink};
use super::problem::Problem;

/// The text with statements that are no TOML blanked out, byte for byte, so that offsets stay right. Reports them.
pub(super) fn set_broken_statements_aside(text: &str, sink: &mut Sink<'_>) -> String {
    if DeTable::parse_recoverable(text).1.is_empty() {
        return text.to_owned();
    }
    let statements = statements(text);
    let mut kept = String::with_capacity(text.len());
    let mut is_under_broken_header = false;
    for statement in statements {
        if statement.is_header {
            is_under_broken_header = false;
        }
        let broken = DeTable::parse_recoverable(statement.text)
            .1
            .into_iter()
            .next();
        if let Some(error) = &broken {
            report(error, statement.offset, statement.text, sink);
            is_under_broken_header |= statement.is_header;
        }
        if broken.is_some() || is_under_broken_header {
            sink.note_gap();
            kept.extend(
                statement
                    .text
                    .bytes()
                    .map(|b| if b == b'\n' { '\n' } else { ' ' }),
            );
        } else {
            kept.push_str(statement.text);
        }
    }
    kept
}

/// Read the whole; what is wrong only between statements, such as a key that stands twice, is reported here.
pub(super) fn parse<'a>(text: &'a str, sink: &mut Sink<'_>) -> DeTable<'a> {
    let (tree, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        report(&error, 0, text, sink);
        sink.note_gap();
    }
    tree.into_inner()
}

fn report(error: &toml::de::Error, offset: usize, text: &str, sink: &mut Sink<'_>) {
    let span = error.span().unwrap_or(0..0);
    let found = text.get(span.clone()).unwrap_or_default();
    // Two of the parser's messages mislead; the others are good.
    let message = match error.message() {
        "duplicate key" => format!("{found:?} stands twice, expected each key once in a table"),
        message if found.is_empty() && message.starts_with("string values must be quoted") => {
            "key with no value, expected a value after `=`".to_owned()
        }
        message => message.to_owned(),
    };
    let place = Place {
        span: span.start + offset..span.end + offset,
        key: String::new(),
    };
    sink.push(&place, Problem::Syntax(message));
}

/// A table's header or a key with its value, which may go on over several lines, and the blank and comment lines
/// after it.
struct Statement<'a> {
    offset: usize,
    text: &'a str,
    is_header: bool,
}

fn statements(text: &str) -> Vec<Statement<'_>> {
    let mut starts = vec![(0, 0, false)];
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let content = line.trim_start();
        let indent = line.len() - content.len();
        let is_header = is_header(content);
        // A line further in than the statement's first one may belong to its value.
        let goes_on = starts.last().is_some_and(|(_, first, _)| indent > *first);
        if is_header || (!goes_on && is_assignment(content)) {
            starts.push((offset, indent, is_header));
        }
        offset += line.len();
    }
    let ends = starts
        .iter()
        .skip(1)
        .map(|(start, ..)| *start)
        .chain([text.len()]);
    let statements = starts
        .iter()
        .zip(ends)
        .filter(|((start, ..), end)| start < end);
    let statement = |((start, _, is_header), end): (&(usize, usize, bool), usize)| Statement {
        offset: *start,
        text: &text[*start..end],
        is_header: *is_header,
    };
    statements.map(statement).collect()
}

/// `[a.b]`, `[[a]]`, also when a bracket is missing; not an element of an array, such as `["a", 1],`.
fn is_header(line: &str) -> bool {
    let Some(name) = line.strip_prefix("[[").or_else(|| line.strip_prefix('[')) else {
        return false;
    };
    let name = name.trim_start();
    let rest =
        name.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || "_-. \"'".contains(c));
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic()) && rest.len() < name.len();
    is_name && (rest.is_empty() || rest.starts_with([']', '#', '\r', '\n']))
}

/// `key =`, `a.b =`, `"k" =`.
fn is_assignment(line: &str) -> bool {
    let Some((key, _)) = line.split_once('=') else {
        return false;
    };
    let key = key.trim_end();
    let is_key = |c: char| c.is_ascii_alphanumeric() || "_-. \"'".contains(c);
    !key.is_empty() && key.chars().all(is_key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> (String, Vec<(usize, usize)>) {
        let mut sink = Sink::new("test.toml", text);
        let kept = set_broken_statements_aside(text, &mut sink);
        parse(&kept, &mut sink);
        let errors = sink
            .finish(())
            .map_or_else(|errors| errors.as_slice().to_vec(), |()| Vec::new());
        (
            kept,
            errors
                .iter()
                .map(|error| (error.line(), error.column()))
                .collect(),
        )
    }

    #[test]
    fn right_text_is_untouched() {
        let text = "a = [\n  1, # one\n  2,\n]\n[t]\nb = \"\"\"\nx = \n\"\"\"\n";
        assert_eq!(found(text), (text.to_owned(), vec![]));
    }

    #[test]
    fn each_broken_line_is_one_error() {
        let text = "a = 1\nb = \nc = 2x\nd = \"open\ne = 5\n";
        let (kept, errors) = found(text);
        assert_eq!(kept, "a = 1\n    \n      \n         \ne = 5\n");
        assert_eq!(errors, [(2, 5), (3, 5), (4, 10)]);
    }

    #[test]
    fn an_open_array_does_not_swallow_the_file() {
        let (kept, errors) = found("[a]\nb = [1, 2\n[c]\nd = 1\ne = [\n  1,\n  2 3,\n]\nf = 1\n");
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert_eq!((errors[0].0, errors[1].0), (2, 7));
        assert_eq!(kept.replace(' ', ""), "[a]\n\n[c]\nd=1\n\n\n\n\nf=1\n");
    }

    #[test]
    fn keys_under_a_broken_header_are_set_aside_with_it() {
        let (kept, errors) = found("[[ports\nname = 1\n[c]\nd = 1\n");
        assert_eq!(errors, [(1, 8)]);
        assert_eq!(kept, "       \n        \n[c]\nd = 1\n");
    }

    #[test]
    fn a_key_given_twice_is_found_beside_other_errors() {
        let (_, errors) = found("a = 1\nb = \na = 2\n[t]\n[t]\n");
        assert_eq!(
            errors.iter().map(|(line, _)| *line).collect::<Vec<_>>(),
            [2, 3, 5]
        );
    }

    #[test]
    fn lengths_and_lines_are_kept_in_any_text() {
        let mut rng = fastrand::Rng::with_seed(7);
        let pieces = [
            "[", "]", "a", "=", "\"", "\n", "1", ",", "{", "}", "é", " ", "\r\n", "#", ".", "'",
            "\u{feff}",
        ];
        for _ in 0..3000 {
            let text: String = (0..rng.usize(0..40))
                .map(|_| pieces[rng.usize(0..pieces.len())])
                .collect();
            let (kept, errors) = found(&text);
            assert_eq!(kept.len(), text.len(), "{text:?}");
            assert_eq!(
                kept.matches('\n').count(),
                text.matches('\n').count(),
                "{text:?}"
            );
            let is_valid = DeTable::parse(&text).is_ok();
            assert_eq!(errors.is_empty(), is_valid, "{text:?}: {errors:?}");
        }
    }
}
