//! Secrets of a checkout's own, kept in files for our eyes only.

use std::path::Path;

use crate::error::{Error, io};
use crate::postgres::write_secret;

/// The secret in that file: the one that it had, or a new one, which begins so.
///
/// # Errors
/// The file cannot be read, or written.
pub fn secret(file: &Path, prefix: &str) -> Result<String, Error> {
    if file.exists() {
        let secret = std::fs::read_to_string(file).map_err(io(format!("read {}", file.display())))?;
        // Whoever was killed while writing it has left none.
        if !secret.trim().is_empty() {
            return Ok(secret.trim().to_owned());
        }
    }
    let secret = format!("{prefix}{:032x}", rand::random::<u128>());
    write_secret(file, &secret)?;
    Ok(secret)
}
