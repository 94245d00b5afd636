//! Hostile input through the real binary: registries that misbehave, layers that try to leave their folder, and containers
//! that try to reach the host.
mod confinement;
mod escape;
mod pull;
mod runtime;
mod sources;
