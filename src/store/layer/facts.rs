//! What an archive says of a thing: the same on every system, whoever looks.

/// What a thing in a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(target_os = "linux"),
    expect(dead_code, reason = "files, directories and links are all that is told apart")
)]
pub(in crate::store) enum Form {
    File,
    Directory,
    Link,
    Character,
    Block,
    Pipe,
    Socket,
}

/// What an archive says of a file, and what tells whether it changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct Facts {
    pub(in crate::store) form: Form,
    pub(in crate::store) mode: u32,
    pub(in crate::store) uid: u32,
    pub(in crate::store) gid: u32,
    pub(in crate::store) seconds: i64,
    pub(in crate::store) nanoseconds: u32,
    pub(in crate::store) size: u64,
    pub(in crate::store) device: (u32, u32),
    /// What tells the names of one file, if it has several; only on Linux.
    pub(in crate::store) shared: Option<(u64, u64)>,
}

impl Facts {
    /// Those of an empty file of root's.
    pub(in crate::store) fn empty() -> Self {
        Self {
            form: Form::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            seconds: 0,
            nanoseconds: 0,
            size: 0,
            device: (0, 0),
            shared: None,
        }
    }
}

/// What sort of node to make.
#[derive(Debug, Clone, Copy)]
pub(super) enum Node {
    /// A character device.
    Character,
    /// A block device.
    Block,
    /// A named pipe.
    Pipe,
}
