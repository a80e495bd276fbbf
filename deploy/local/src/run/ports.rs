//! Which ports this run takes: those of the last run in this folder, else the usual ones, else free ones.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;
use tandem_local::port;

const FILE: &str = "ports";
const HTTP: (&str, u16) = ("http", 8080);
const STRIPE: (&str, u16) = ("stripe", 12_111);
const NATS: (&str, u16) = ("nats", 14_222);
const POSTGRES: (&str, u16) = ("postgres", 15_432);

/// The ports of one run, all on the loopback unless `TANDEM_HTTP__BIND` says otherwise for Tandem itself.
pub struct Ports {
    /// What `tandem serve` binds.
    pub bind: String,
    pub http: u16,
    pub stripe: u16,
    pub nats: u16,
    pub postgres: u16,
    /// What the user should hear: a usual port that was taken.
    pub moved: Vec<String>,
    host: String,
}

impl Ports {
    /// Looks for ports. `bind` is the user's own choice for Tandem's address.
    pub fn choose(folder: &Path, bind: Option<String>, local_stripe: bool) -> anyhow::Result<Self> {
        let last = std::fs::read_to_string(folder.join(FILE)).unwrap_or_default();
        let last = parse(&last);
        let mut chosen = Chosen { last, taken: vec![], moved: vec![] };
        let (bind, host, http) = match bind.filter(|bind| !bind.is_empty()) {
            Some(bind) => {
                let address: SocketAddr = bind
                    .parse()
                    .with_context(|| format!("TANDEM_HTTP__BIND is {bind}, not an address such as 127.0.0.1:8080"))?;
                let ip = address.ip();
                let host = if ip.is_unspecified() { "127.0.0.1".to_owned() } else { ip.to_string() };
                let host = if host.contains(':') { format!("[{host}]") } else { host };
                (bind, host, address.port())
            }
            None => {
                let http = chosen.next(HTTP)?;
                (format!("127.0.0.1:{http}"), "127.0.0.1".to_owned(), http)
            }
        };
        let stripe =
            if local_stripe { chosen.next(STRIPE)? } else { chosen.last.get(STRIPE.0).copied().unwrap_or(STRIPE.1) };
        let nats = chosen.next(NATS)?;
        let postgres = chosen.next(POSTGRES)?;
        Ok(Self { bind, http, stripe, nats, postgres, moved: chosen.moved, host })
    }

    /// Where Tandem answers.
    pub fn tandem_url(&self) -> String {
        format!("http://{}:{}", self.host, self.http)
    }

    /// Keeps them for the next run.
    pub fn remember(&self, folder: &Path) -> anyhow::Result<()> {
        let Self { http, stripe, nats, postgres, .. } = self;
        let text = [(HTTP.0, http), (STRIPE.0, stripe), (NATS.0, nats), (POSTGRES.0, postgres)]
            .map(|(name, port)| format!("{name}={port}\n"))
            .concat();
        std::fs::write(folder.join(FILE), text).context("could not remember the ports")
    }
}

struct Chosen {
    last: HashMap<String, u16>,
    taken: Vec<u16>,
    moved: Vec<String>,
}

impl Chosen {
    fn next(&mut self, (name, usual): (&'static str, u16)) -> anyhow::Result<u16> {
        let candidates = self.last.get(name).copied().into_iter().chain([usual]);
        let free = candidates.into_iter().find(|port| !self.taken.contains(port) && port::is_free(*port));
        let port = match free {
            Some(port) => port,
            None => loop {
                let port = port::free()?;
                if !self.taken.contains(&port) {
                    break port;
                }
            },
        };
        if port != usual {
            let why = if port::is_free(usual) { "as last time here" } else { "the usual one is taken" };
            self.moved.push(format!("{name} is on port {port} instead of {usual} ({why})"));
        }
        self.taken.push(port);
        Ok(port)
    }
}

fn parse(text: &str) -> HashMap<String, u16> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.filter_map(|(name, port)| Some((name.to_owned(), port.trim().parse().ok()?))).collect()
}
