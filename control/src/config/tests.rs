//! Whole texts in, whole models out.
