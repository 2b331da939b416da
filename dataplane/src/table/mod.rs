//! Tables: how they are published and looked up.

mod atomics;
pub mod exact;
#[expect(
    unsafe_code,
    reason = "nodes in memory of our own, changed beside readers, compared by vector instructions"
)]
pub mod lpm;
pub mod maglev;
#[expect(
    unsafe_code,
    reason = "values shared between threads and freed once all readers passed"
)]
pub mod publish;
#[expect(
    unsafe_code,
    reason = "address space of our own, read as the atomics it is made of"
)]
pub mod region;
#[expect(unsafe_code, reason = "eight atomics compared by vector instructions")]
pub mod slots;
