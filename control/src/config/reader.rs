//! Reads tables of a parsed TOML tree key by key, and goes on after an error, so that all errors of a file are found.
//!
//! serde stops at the first error and forgets where values stood; this does neither. What a single value must look
//! like is in [`scalar`](super::scalar), which keys a table has in [`file`](super::file).

use std::ops::{Range, RangeInclusive};

use toml::de::{DeTable, DeValue};

use super::error::{Place, Sink};
use super::problem::Problem;

/// What a file says about one key.
#[derive(Debug, Clone)]
pub(super) enum Field<T> {
    /// Nothing.
    Absent,
    /// Something wrong, which has been reported.
    Invalid,
    /// This, here.
    Given(T, Place),
}

impl<T> Field<T> {
    pub(super) fn given(&self) -> Option<(&T, &Place)> {
        match self {
            Self::Given(value, place) => Some((value, place)),
            Self::Absent | Self::Invalid => None,
        }
    }

    pub(super) fn value(&self) -> Option<&T> {
        self.given().map(|(value, _)| value)
    }

    pub(super) fn is_invalid(&self) -> bool {
        matches!(self, Self::Invalid)
    }

    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// The value, or this. What stands in for an invalid value is never seen: the error that was reported throws the
    /// whole configuration away.
    pub(super) fn or(self, default: T) -> T {
        match self {
            Self::Given(value, _) => value,
            Self::Absent | Self::Invalid => default,
        }
    }

    pub(super) fn or_default(self) -> T
    where
        T: Default,
    {
        self.or(T::default())
    }

    pub(super) fn optional(self) -> Option<T> {
        match self {
            Self::Given(value, _) => Some(value),
            Self::Absent | Self::Invalid => None,
        }
    }
}

/// A value of the tree and its place.
pub(super) struct Value<'a> {
    pub(super) node: &'a DeValue<'a>,
    pub(super) place: Place,
}

impl<'a> Value<'a> {
    pub(super) fn wrong_type<T>(&self, expected: &str, sink: &mut Sink<'_>) -> Option<T> {
        let problem = Problem::WrongType {
            found: describe(self.node),
            expected: expected.to_owned(),
        };
        sink.push(&self.place, problem);
        None
    }

    /// Elements of an array, each with its place.
    pub(super) fn elements(&self, expected: &str, sink: &mut Sink<'_>) -> Option<Vec<Value<'a>>> {
        let DeValue::Array(array) = self.node else {
            return self.wrong_type(expected, sink);
        };
        let values = array.iter().enumerate().map(|(position, element)| Value {
            node: element.get_ref(),
            place: Place {
                span: element.span(),
                key: format!("{}[{position}]", self.place.key),
            },
        });
        Some(values.collect())
    }

    /// The value as a table.
    pub(super) fn table(self, expected: &'static str, sink: &mut Sink<'_>) -> Option<Table<'a>> {
        match self.node {
            DeValue::Table(entries) => Some(Table::new(entries, self.place)),
            _ => self.wrong_type(expected, sink),
        }
    }
}

/// A table being read. Keys that nothing asked for are errors in the end.
pub(super) struct Table<'a> {
    entries: &'a DeTable<'a>,
    /// Its header, or the whole of an inline table.
    pub(super) place: Place,
    asked: Vec<&'static str>,
}

impl<'a> Table<'a> {
    pub(super) fn new(entries: &'a DeTable<'a>, place: Place) -> Self {
        Self {
            entries,
            place,
            asked: Vec::new(),
        }
    }

    /// What is under a key, judged by `read`, which reports what is wrong and then returns `None`.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        sink: &mut Sink<'_>,
        read: impl FnOnce(Value<'a>, &mut Sink<'_>) -> Option<T>,
    ) -> Field<T> {
        self.asked.push(key);
        let Some(node) = self.entries.get(key) else {
            return Field::Absent;
        };
        let place = Place {
            span: node.span(),
            key: self.path(key),
        };
        match read(
            Value {
                node: node.get_ref(),
                place: place.clone(),
            },
            sink,
        ) {
            Some(value) => Field::Given(value, place),
            None => Field::Invalid,
        }
    }

    /// The same for a key that must be there; `expected` says what it is for.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        expected: &'static str,
        sink: &mut Sink<'_>,
        read: impl FnOnce(Value<'a>, &mut Sink<'_>) -> Option<T>,
    ) -> Field<T> {
        match self.optional(key, sink, read) {
            // Where lines were set aside, the key may have stood on one of them.
            Field::Absent if sink.has_gaps() => Field::Invalid,
            Field::Absent => {
                sink.push(&self.place_of(key), Problem::Missing { expected });
                Field::Invalid
            }
            field => field,
        }
    }

    /// Where to point for a key that is not there: the table, with the key's path.
    pub(super) fn place_of(&self, key: &str) -> Place {
        Place {
            span: self.place.span.clone(),
            key: self.path(key),
        }
    }

    /// Tables of `[[key]]`.
    pub(super) fn tables<T>(
        &mut self,
        key: &'static str,
        sink: &mut Sink<'_>,
        mut read: impl FnMut(Table<'a>, &mut Sink<'_>) -> T,
    ) -> Field<Vec<T>> {
        self.optional(key, sink, |value, sink| {
            let elements =
                value.elements(&format!("an array of tables, written [[{key}]]"), sink)?;
            let mut tables = Vec::with_capacity(elements.len());
            for element in elements {
                if let Some(table) = element.table("a table", sink) {
                    tables.push(read(table, sink));
                }
            }
            Some(tables)
        })
    }

    /// The table under `[key]`; an empty one when it is absent or not a table.
    pub(super) fn section(
        &mut self,
        key: &'static str,
        empty: &'a DeTable<'a>,
        sink: &mut Sink<'_>,
    ) -> Table<'a> {
        let field = self.optional(key, sink, |value, sink| value.table("a table", sink));
        let place = self.place_of(key);
        field.or(Table::new(empty, place))
    }

    /// Report the keys that nothing asked for.
    pub(super) fn finish(self, sink: &mut Sink<'_>) {
        for (key, _) in self.entries.iter() {
            let found: &str = key.get_ref();
            if !self.asked.contains(&found) {
                let place = Place {
                    span: key.span(),
                    key: self.path(found),
                };
                let expected = self.asked.iter().map(|name| (*name).to_owned()).collect();
                sink.push(
                    &place,
                    Problem::UnknownKey {
                        found: found.to_owned(),
                        expected,
                    },
                );
            }
        }
    }

    fn path(&self, key: &str) -> String {
        let is_bare = !key.is_empty()
            && key
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        let key = if is_bare {
            key.to_owned()
        } else {
            format!("{key:?}")
        };
        if self.place.key.is_empty() {
            key
        } else {
            format!("{}.{key}", self.place.key)
        }
    }
}

/// The right elements of an array.
#[derive(Debug, Clone)]
pub(super) struct List<T> {
    pub(super) items: Vec<(T, Place)>,
    /// Whether there were no others.
    pub(super) is_complete: bool,
}

/// An array of `count` values, each judged by `read`.
pub(super) fn list<'a, T>(
    value: Value<'a>,
    expected: &'static str,
    count: RangeInclusive<usize>,
    what: &'static str,
    read: impl Fn(Value<'a>, &mut Sink<'_>) -> Option<T>,
    sink: &mut Sink<'_>,
) -> Option<List<T>> {
    let elements = value.elements(expected, sink)?;
    let found = elements.len();
    if found < *count.start() {
        sink.push(&value.place, Problem::Empty { what });
        return None;
    }
    if found > *count.end() {
        sink.push(
            &value.place,
            Problem::TooMany {
                found,
                what,
                maximum: *count.end(),
            },
        );
        return None;
    }
    let mut items = Vec::with_capacity(found);
    for element in elements {
        let place = element.place.clone();
        items.extend(read(element, sink).map(|item| (item, place)));
    }
    let is_complete = items.len() == found;
    Some(List { items, is_complete })
}

/// Where to point for a section that is not there: the end of the file, wherever that is.
pub(super) fn end_of_file(key: &str) -> Place {
    Place {
        span: usize::MAX..usize::MAX,
        key: key.to_owned(),
    }
}

/// The root table; nothing is reported at its place.
pub(super) fn root_place() -> Place {
    Place {
        span: Range { start: 0, end: 0 },
        key: String::new(),
    }
}

/// Type and value, as far as the value is short.
fn describe(node: &DeValue<'_>) -> String {
    match node {
        DeValue::String(text) if text.chars().count() <= 40 => {
            format!("the string {:?}", text.as_ref())
        }
        DeValue::String(_) => "a string".to_owned(),
        DeValue::Integer(number) => format!("the integer {number}"),
        DeValue::Float(number) => format!("the number {}", number.as_str()),
        DeValue::Boolean(value) => format!("{value}"),
        DeValue::Datetime(time) => format!("the time {time}"),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
