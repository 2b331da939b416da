//! Tests of the prefix tables.
