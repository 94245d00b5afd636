//! Umiak.
pub mod cli;
pub mod model;
