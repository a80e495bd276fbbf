//! A TCP proxy before a server: it holds back what goes through it, and cuts it.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use url::Url;

use super::or_panic;

/// Lives as long as the runtime that it was made on.
#[derive(Clone, Debug)]
pub struct Proxy {
    url: Url,
    state: watch::Sender<State>,
}

/// What does not get through.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    requests_wait: bool,
    answers_wait: bool,
    refuses: bool,
    /// How often all connections were cut.
    cuts: u64,
}

impl Proxy {
    /// Before the server of this URL, by its host and port.
    ///
    /// # Panics
    /// When the URL names none, or no port is free.
    pub async fn before(server: &str) -> Self {
        let mut url = or_panic(Url::parse(server));
        let host = or_panic(url.host_str().ok_or("a URL without a host")).to_owned();
        let port = or_panic(url.port_or_known_default().ok_or("a URL without a port"));
        let listener = or_panic(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await);
        or_panic(url.set_ip_host(Ipv4Addr::LOCALHOST.into()).map_err(|()| "a URL without a host"));
        or_panic(url.set_port(Some(or_panic(listener.local_addr()).port())).map_err(|()| "a URL without a port"));
        let state = watch::Sender::new(State::default());
        tokio::spawn(accept(listener, (host, port), state.clone()));
        Self { url, state }
    }

    /// The server's URL, by way of the proxy.
    #[must_use]
    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// The client's words wait on their way.
    pub fn hold_requests(&self) {
        self.state.send_modify(|state| state.requests_wait = true);
    }

    /// The server's answers wait on their way.
    pub fn hold_answers(&self) {
        self.state.send_modify(|state| state.answers_wait = true);
    }

    /// Nothing waits on its way any more.
    pub fn release(&self) {
        self.state.send_modify(|state| (state.requests_wait, state.answers_wait) = (false, false));
    }

    /// As if the server's host had vanished: nothing comes or goes, and nobody is told.
    pub fn freeze(&self) {
        self.state.send_modify(|state| (state.requests_wait, state.answers_wait) = (true, true));
    }

    /// The end of [`Proxy::freeze`]: what was on its way arrives.
    pub fn thaw(&self) {
        self.release();
    }

    /// Cuts every connection, with what is on its way, and lets none be made for so long.
    pub fn cut_for(&self, time: Duration) {
        self.state.send_modify(|state| (state.refuses, state.cuts) = (true, state.cuts + 1));
        let (state, cut) = (self.state.clone(), self.state.borrow().cuts);
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            // A later cut heals itself.
            state.send_modify(|state| state.refuses &= state.cuts != cut);
        });
    }

    /// Returns when connections can be made again.
    pub async fn healed(&self) {
        // It cannot be closed: this is its sender.
        let _ = self.state.subscribe().wait_for(|state| !state.refuses).await;
    }
}

async fn accept(listener: TcpListener, server: (String, u16), state: watch::Sender<State>) {
    while let Ok((client, _)) = listener.accept().await {
        let cuts = state.borrow().cuts;
        if state.borrow().refuses {
            continue;
        }
        let Ok(server) = TcpStream::connect((server.0.as_str(), server.1)).await else { continue };
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::spawn(pass(from_client, to_server, state.subscribe(), cuts, |state| state.requests_wait));
        tokio::spawn(pass(from_server, to_client, state.subscribe(), cuts, |state| state.answers_wait));
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<State>,
    cuts: u64,
    waits: fn(&State) -> bool,
) {
    let mut cut = state.clone();
    let passing = async {
        let mut bytes = vec![0; 64 * 1024];
        loop {
            let Ok(length @ 1..) = from.read(&mut bytes).await else { return };
            if state.wait_for(|state| !waits(state)).await.is_err() || to.write_all(&bytes[..length]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = passing => {}
        _ = cut.wait_for(|state| state.cuts != cuts) => {}
    }
}
