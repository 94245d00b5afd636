//! Ports of the host where containers have no networks: none is ever held.

use crate::model::PublishedPort;

/// A port of the host that is held.
#[derive(Debug)]
pub struct Held {
    /// The port.
    pub port: PublishedPort,
    /// What holds it.
    pub socket: Socket,
}

/// There is none.
#[derive(Debug)]
pub enum Socket {}
