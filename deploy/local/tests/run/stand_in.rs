//! Stands in for `tandem` and `stripe-sim` where only their supervision is tested: answers every request with its process
//! id, on the port of `--port` or `TANDEM_HTTP__BIND`.

use std::io::{Read, Write};
use std::net::TcpListener;

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let port = arguments.iter().position(|argument| argument == "--port").map(|at| arguments[at + 1].clone());
    let address = match port {
        Some(port) => format!("127.0.0.1:{port}"),
        None => std::env::var("TANDEM_HTTP__BIND").map_err(std::io::Error::other)?,
    };
    println!("started: {}", arguments[1..].join(" "));
    println!("calls Stripe at {}", std::env::var("TANDEM_STRIPE__API_BASE").unwrap_or_default());
    println!("2026-01-01T00:00:00Z  WARN stand_in: this one is for the terminal");
    for stream in TcpListener::bind(address)?.incoming() {
        let mut stream = stream?;
        // Whoever asks may go away in the middle.
        let _ = stream.read(&mut [0; 1024]);
        let body = std::process::id().to_string();
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    }
    Ok(())
}
