//! The demo image: its bytes, its records, and what its programs do.
