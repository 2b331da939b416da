//! Tables: how they are published and looked up.

mod atomics;
pub mod exact;
pub mod lpm;
#[expect(
    unsafe_code,
    reason = "values shared between threads and freed once all readers passed"
)]
pub mod publish;
