//! Values of options: from text to values, by docker's rules.
//!
//! Invariant: nothing here knows the engine, a store or a container; the one thing read is a file that an option names, and
//! the host's variables come in as a function. So each rule is a plain table test. Which text docker accepts and what it says
//! of the rest was seen of docker 28; where we are stricter, the module says so and why.

pub mod device;
pub mod env;
pub mod file;
pub mod hostname;
pub mod label;
pub mod limits;
pub mod mode;
pub mod moment;
pub mod mount;
pub mod name;
pub mod network;
pub use crate::model::signal;
pub mod number;
pub mod port;
pub mod refused;
pub mod security;
pub mod supervise;
