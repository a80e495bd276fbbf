//! Ports on the loopback that nobody listens on.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::Error;
use crate::error::io;

/// Below the range that Linux and macOS give to outgoing connections: a client that dials a port of that range while its
/// server is down may take it, or even meet itself there, and the server can't come back.
const RANGE: Range<u16> = 20_000..32_000;

/// How many ports a process takes hold of at once: one that it listens on itself, and those that it hands out.
const BLOCK: u16 = 60;

/// The ports that this process may hand out.
struct Block {
    /// Shows other processes whose these are.
    _held: TcpListener,
    ports: Range<u16>,
}

/// Each port is handed out once in a process, so there is one of these.
static BLOCKS: Mutex<Vec<Block>> = Mutex::new(vec![]);

/// A free port that this function hands out once, and in no other process while this one lives: whoever gets it may take its
/// time to listen there, and leave it for a while.
///
/// # Errors
/// When the loopback has no port left.
pub fn free() -> Result<u16, Error> {
    let mut blocks = BLOCKS.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if let Some(port) = blocks.last_mut().and_then(|block| block.ports.find(|&port| is_free(port))) {
            return Ok(port);
        }
        let blocks_in_range = (RANGE.end - RANGE.start) / BLOCK;
        let taken = (0..200).find_map(|_| take(RANGE.start + rand::random_range(0..blocks_in_range) * BLOCK));
        match taken {
            Some(block) => blocks.push(block),
            None => return any(),
        }
    }
}

fn take(first: u16) -> Option<Block> {
    let held = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).ok()?;
    Some(Block { _held: held, ports: first + 1..first + BLOCK })
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::free;

    /// Fails if a port that nobody listens on yet, or for a moment, is given to somebody else.
    #[test]
    fn no_port_is_handed_out_twice() {
        let ports: Vec<u16> = (0..200).map(|_| free().unwrap()).collect();
        assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), ports.len());
    }
}
