//! Pipes as plain files, so that every system handles them alike.

use std::fs::File;
use std::io;

#[cfg(unix)]
use std::os::fd::OwnedFd as Owned;
#[cfg(windows)]
use std::os::windows::io::OwnedHandle as Owned;

/// A pipe: what is written to the second can be read from the first.
pub(super) fn pipe() -> io::Result<(File, File)> {
    let (reader, writer) = io::pipe()?;
    Ok((Owned::from(reader).into(), Owned::from(writer).into()))
}

/// The null device, for reading and writing.
pub(super) fn null() -> io::Result<File> {
    let path = if cfg!(windows) { "NUL" } else { "/dev/null" };
    File::options().read(true).write(true).open(path)
}

/// This process's standard input and output as files of their own.
pub(super) fn standard_streams() -> io::Result<(File, File)> {
    #[cfg(unix)]
    use std::os::fd::AsFd as AsOwned;
    #[cfg(windows)]
    use std::os::windows::io::AsHandle as AsOwned;
    fn owned(stream: &impl AsOwned) -> io::Result<File> {
        #[cfg(unix)]
        return Ok(stream.as_fd().try_clone_to_owned()?.into());
        #[cfg(windows)]
        return Ok(stream.as_handle().try_clone_to_owned()?.into());
    }
    Ok((owned(&io::stdin())?, owned(&io::stdout())?))
}
