//! Umiak.
pub mod config;
pub mod model;
pub mod reference;
pub mod registry;
