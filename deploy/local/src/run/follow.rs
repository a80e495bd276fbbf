//! Tandem's own warnings and errors, as they come, from its log to the terminal.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::Path;
use std::thread;
use std::time::Duration;

/// Follows the log from its present end. Tandem writes to the file itself: a terminal that stands still must not hold it up.
pub fn warnings(log: &Path) -> anyhow::Result<()> {
    let mut file = File::open(log)?;
    file.seek(SeekFrom::End(0))?;
    let mut reader = BufReader::new(file);
    thread::spawn(move || {
        let mut line = Vec::new();
        loop {
            match reader.read_until(b'\n', &mut line) {
                Ok(_) if line.ends_with(b"\n") => {
                    let text = String::from_utf8_lossy(&line);
                    if matters(&text) {
                        eprint!("tandem: {text}");
                    }
                    line.clear();
                }
                // Its end for now, perhaps in the middle of a line.
                Ok(_) => thread::sleep(Duration::from_millis(100)),
                Err(_) => return,
            }
        }
    });
    Ok(())
}

fn matters(line: &str) -> bool {
    let start: String = line.chars().take(80).collect();
    [" WARN ", " ERROR ", r#""level":"WARN""#, r#""level":"ERROR""#, "panicked at"]
        .iter()
        .any(|mark| start.contains(mark))
}
