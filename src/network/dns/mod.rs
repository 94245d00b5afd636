//! The name server of containers: data and answers, no sockets.
//!
//! ```text
//! query ─▶ message::Query ─▶ zone::Zone ─▶ answer
//!                              └ nothing known ─▶ forwarded as it is
//! ```
//! The sockets, and where the zone comes from, are the supervisor's.

pub mod message;
pub mod zone;
