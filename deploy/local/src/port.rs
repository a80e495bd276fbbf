//! Ports on the loopback that nobody listens on.

use std::net::{Ipv4Addr, TcpListener};

use crate::Error;
use crate::error::io;

/// Below the range that Linux and macOS give to outgoing connections: a client that dials a port of that range while its
/// server is down may take it, or even meet itself there, and the server can't come back.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// A free port, found by binding it. Another process may still take it before its user does: be ready to ask again.
///
/// # Errors
/// When the loopback has no port left.
pub fn free() -> Result<u16, Error> {
    (0..200).map(|_| rand::random_range(RANGE)).find(|&port| is_free(port)).map_or_else(any, Ok)
}

/// Whether nobody listens on this port of the loopback.
#[must_use]
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn any() -> Result<u16, Error> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(io("find a free port"))?;
    Ok(listener.local_addr().map_err(io("find a free port"))?.port())
}
