//! Archives on standard output: the printer as a writer, with blocks large enough not to be felt.

use std::io::{self, Write};

use super::Printer;
use crate::cli::fault::Fault;

/// Standard output as a stream of bytes.
pub(in crate::cli) struct Stream<'p> {
    printer: &'p Printer,
    /// The first failure, as the printer has it: a closed pipe is not a full disk.
    failure: Option<super::OutputError>,
}

impl<'p> Stream<'p> {
    /// Refused where standard output is a terminal.
    pub(in crate::cli) fn new(printer: &'p Printer, refusal: &'static str) -> Result<Self, Fault> {
        if printer.out_is_terminal() {
            return Err(Fault::Conflict(refusal));
        }
        Ok(Self { printer, failure: None })
    }

    /// Writes something in blocks, and tells a failure of the output from one of the writer.
    pub(in crate::cli) fn run<T, E: Into<Fault>>(
        mut self,
        write: impl FnOnce(&mut dyn Write) -> Result<T, E>,
    ) -> Result<T, Fault> {
        let mut buffered = io::BufWriter::with_capacity(256 << 10, &mut self);
        let outcome = write(&mut buffered).map_err(Into::into);
        let flushed = buffered.flush();
        drop(buffered);
        match (self.failure, outcome, flushed) {
            (Some(failure), _, _) => Err(failure.into()),
            (None, Ok(_), Err(source)) => Err(Fault::System { action: "writing to standard output", source }),
            (None, outcome, _) => outcome,
        }
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.printer.write(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                self.failure.get_or_insert(error);
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
