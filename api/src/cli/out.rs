//! Where commands print.

use std::io::{self, ErrorKind, Write};

/// Standard output. Once nobody reads on (`tandem plan show 3 | head`), what is printed goes nowhere, and the command
/// ends as it would have.
#[derive(Debug, Default)]
pub(super) struct Out {
    unread: bool,
}

impl Out {
    /// Nobody reads on: nothing more needs to be printed.
    pub(super) fn is_unread(&self) -> bool {
        self.unread
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match io::stdout().write(bytes) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.unread = true;
                Ok(bytes.len())
            }
            written => written,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match io::stdout().flush() {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.unread = true;
                Ok(())
            }
            flushed => flushed,
        }
    }
}
