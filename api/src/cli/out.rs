//! Where commands print.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Write};

/// Standard output. Once nobody reads on (`tandem plan show 3 | head`), what is printed goes nowhere, and the command
/// ends as it would have. What is printed may hold anybody's text: no control character of it reaches a terminal, but for
/// line ends and tabs.
#[derive(Debug, Default)]
pub(super) struct Out {
    unread: bool,
}

impl Out {
    /// Nobody reads on: nothing more needs to be printed.
    pub(super) fn is_unread(&self) -> bool {
        self.unread
    }

    fn unless_unread<T>(&mut self, done: io::Result<T>, else_: T) -> io::Result<T> {
        match done {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.unread = true;
                Ok(else_)
            }
            done => done,
        }
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let written = io::stdout().write_all(escaped(&text, &['\n', '\t']).as_bytes());
        self.unless_unread(written.map(|()| bytes.len()), bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.unless_unread(io::stdout().flush(), ())
    }
}

/// A text in a line for people: whatever is in it, it stays in its line, and moves no cursor.
pub(super) fn in_line(text: &str) -> String {
    escaped(text, &[])
}

/// Some lines for people.
pub(super) fn in_lines(text: &str) -> String {
    escaped(text, &['\n'])
}

/// Without control characters, and without those that turn the direction of what is read. Escaped as in JSON, which stays
/// JSON by that.
fn escaped(text: &str, but: &[char]) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if !but.contains(&c) && (c.is_control() || turns(c)) {
            // A String takes whatever is written to it.
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

fn turns(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2028}' | '\u{2029}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_move_a_cursor_is_written_out() {
        assert_eq!(in_line("cus_\u{1b}[2J\u{7f}\u{9b}31m"), "cus_\\u001b[2J\\u007f\\u009b31m");
        assert_eq!(in_line("a\r\nb\tc\u{202e}"), "a\\u000d\\u000ab\\u0009c\\u202e");
        assert_eq!(in_lines("a\r\nb"), "a\\u000d\nb");
        assert_eq!(in_line("Zoë 🦀 =1"), "Zoë 🦀 =1");
        let json = serde_json::json!({ "id": "a\u{9b}\u{7f}\u{1b}\u{202e}" });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&in_lines(&format!("{json:#}"))).unwrap(), json);
    }
}
