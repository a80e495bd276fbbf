//! A TCP proxy that holds back what goes through it.

use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub struct Proxy {
    address: SocketAddr,
    held: watch::Sender<Held>,
}

/// Which direction waits.
#[derive(Clone, Copy, Default)]
struct Held {
    to_server: bool,
    to_client: bool,
}

impl Proxy {
    /// Before a server given as `nats://host:port`.
    pub async fn before(server: &str) -> Self {
        let server = server.trim_start_matches("nats://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let held = watch::Sender::new(Held::default());
        let holding = held.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = TcpStream::connect(&server).await.unwrap().into_split();
                tokio::spawn(pass(from_client, to_server, holding.subscribe(), |held| held.to_server));
                tokio::spawn(pass(from_server, to_client, holding.subscribe(), |held| held.to_client));
            }
        });
        Self { address, held }
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// The client's words wait on their way.
    pub fn hold_requests(&self) {
        self.held.send_modify(|held| held.to_server = true);
    }

    /// The server's answers wait on their way.
    pub fn hold_answers(&self) {
        self.held.send_modify(|held| held.to_client = true);
    }

    pub fn release(&self) {
        self.held.send_replace(Held::default());
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut held: watch::Receiver<Held>,
    waits: fn(&Held) -> bool,
) {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let Ok(length @ 1..) = from.read(&mut bytes).await else { return };
        if held.wait_for(|held| !waits(held)).await.is_err() || to.write_all(&bytes[..length]).await.is_err() {
            return;
        }
    }
}
