//! Code points as constants for comparing bytes and as an enum for showing them; each number is written once.

macro_rules! code_points {
    (
        $(#[$doc:meta])* $enum:ident, $(#[$mod_doc:meta])* $module:ident {
            $($variant:ident, $constant:ident = $value:literal, $text:literal;)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $enum {
            $(#[doc = $text] $variant,)*
            /// Any other number.
            Unknown(u8),
        }

        $(#[$mod_doc])*
        pub mod $module {
            $(#[doc = $text] pub const $constant: u8 = $value;)*
        }

        impl From<u8> for $enum {
            fn from(value: u8) -> Self {
                match value {
                    $($value => Self::$variant,)*
                    other => Self::Unknown(other),
                }
            }
        }

        impl From<$enum> for u8 {
            fn from(value: $enum) -> Self {
                match value {
                    $($enum::$variant => $value,)*
                    $enum::Unknown(other) => other,
                }
            }
        }

        impl std::fmt::Display for $enum {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self {
                    $(Self::$variant => f.write_str($text),)*
                    Self::Unknown(other) => write!(f, "type {other}"),
                }
            }
        }
    };
}

pub(crate) use code_points;
