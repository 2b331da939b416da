//! Tables: how they are published and looked up.
