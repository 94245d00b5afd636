//! The command line: reading arguments, and showing results.
//!
//! Invariant: nothing here decides what the engine does. `args` turns text into values of `model`, [`output`] turns values
//! of `model` into text; both are free of the engine, so that every rule of theirs is a plain table test.

pub mod output;
