//! Standard streams where files cannot be polled: wasmtime-wasi's own, reading on tokio's blocking threads.

use std::fs::File;
use std::sync::{Arc, OnceLock};

use tokio::io::{AsyncRead, AsyncWrite};
use wasmtime_wasi::cli::{AsyncStdinStream, IsTerminal, OutputFile, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream};

use super::{Broken, shown_as_terminal};

/// How many bytes a read would give now: nobody tells.
pub(crate) fn readable(_: &File) -> Option<u64> {
    None
}

/// One stream; clones share the file and its reader.
#[derive(Clone)]
pub(crate) struct Stdio {
    file: Arc<File>,
    terminal: bool,
    /// Made inside the guest's runtime, where its reader thread belongs; every view of stdin shares it.
    reader: Arc<OnceLock<Option<AsyncStdinStream>>>,
}

impl Stdio {
    pub(crate) fn new(file: Arc<File>, terminal: bool, _broken: Broken) -> Self {
        let terminal = shown_as_terminal(&file, terminal);
        Self { file, terminal, reader: Arc::default() }
    }

    fn reader(&self) -> Option<&AsyncStdinStream> {
        let make =
            || self.file.try_clone().ok().map(|file| AsyncStdinStream::new(tokio::fs::File::from_std(file)));
        self.reader.get_or_init(make).as_ref()
    }
}

impl IsTerminal for Stdio {
    fn is_terminal(&self) -> bool {
        self.terminal
    }
}

impl StdinStream for Stdio {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        self.reader().map_or_else(|| Box::new(tokio::io::empty()) as Box<_>, StdinStream::async_stream)
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        self.reader().map_or_else(|| StdinStream::p2_stream(&tokio::io::empty()), StdinStream::p2_stream)
    }
}

impl StdoutStream for Stdio {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        match self.file.try_clone() {
            Ok(file) => OutputFile::new(file).async_stream(),
            Err(_) => Box::new(tokio::io::empty()),
        }
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        match self.file.try_clone() {
            Ok(file) => OutputFile::new(file).p2_stream(),
            Err(_) => StdoutStream::p2_stream(&tokio::io::empty()),
        }
    }
}
