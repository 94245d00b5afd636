//! Umiak.
pub mod model;
pub mod state;
pub mod store;
