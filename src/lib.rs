//! Umiak.
pub mod model;
