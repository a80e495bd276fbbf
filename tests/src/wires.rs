//! The connections between a Tandem and its servers.

use std::time::Duration;

use tandem_local::test::Proxy;

/// A proxy on each way.
pub struct Wires {
    database: Proxy,
    nats: Proxy,
    stripe: Proxy,
}

/// Which way.
#[derive(Clone, Copy, Debug)]
pub enum Wire {
    /// To PostgreSQL.
    Database,
    /// To nats-server.
    Nats,
    /// To the first gateway's Stripe.
    Stripe,
}

impl Wires {
    /// Cuts all its connections, with what is on its way, and lets none be made for so long.
    pub fn cut_for(&self, wire: Wire, time: Duration) {
        match wire {
            Wire::Database => self.database.cut_for(time),
            Wire::Nats => self.nats.cut_for(time),
            Wire::Stripe => self.stripe.cut_for(time),
        }
    }

    /// Returns when connections can be made again everywhere.
    pub async fn healed(&self) {
        for proxy in [&self.database, &self.nats, &self.stripe] {
            proxy.healed().await;
        }
    }

    /// Puts itself between.
    pub(crate) async fn of(env: &mut [(String, String)]) -> Self {
        Self {
            database: before("TANDEM_DATABASE__URL", env).await,
            nats: before("TANDEM_NATS__URL", env).await,
            stripe: before("TANDEM_STRIPE__API_BASE", env).await,
        }
    }
}

async fn before(name: &str, env: &mut [(String, String)]) -> Proxy {
    let (_, url) = env.iter_mut().find(|(known, _)| known == name).expect("a server is always set");
    let proxy = Proxy::before(url).await;
    proxy.url().clone_into(url);
    proxy
}
