//! The engine through its real binary: every test has a root and a run folder of its own and leaves nothing on the host.
#![expect(
    missing_docs,
    clippy::missing_panics_doc,
    reason = "tests are named by what they show and fail by panicking"
)]

mod executor;
mod image;
mod support;
mod tidy;
