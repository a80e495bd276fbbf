//! From an edit at the local Stripe, by its webhook, to the answer of a `GET` that shows it.

use std::collections::HashMap;

use anyhow::{Context, ensure};
use serde_json::Value;
use uuid::Uuid;

use crate::latency::Rate;
use crate::quantiles::now_us;
use crate::stages::{Stages, noted};
use crate::world::World;

/// The metadata key whose value tells the changes apart.
const KEY: &str = "in";

/// Edits at this rate, each of the customer that was edited longest ago.
///
/// Nothing is polled: `?min_version=` waits until the read model shows the version that the edit leads to.
pub async fn measure(world: &World, rate: Rate) -> anyhow::Result<Stages> {
    let versions: Vec<(String, i64)> =
        sqlx::query_as("SELECT aggregate_id, max(sequence) FROM events GROUP BY aggregate_id")
            .fetch_all(&world.database)
            .await?;
    let versions: HashMap<String, i64> = versions.into_iter().collect();
    let version = |id: &Uuid| versions.get(&id.to_string()).copied().unwrap_or_default();
    let edited = rate
        .drive(|n| {
            let size = world.born_there.len() / 2;
            let (round, index) = (n as usize / size, n as usize % size);
            let twin = &world.born_there[index];
            // Each edit is one event.
            let next = version(&twin.id) + 1 + i64::try_from(round).unwrap_or_default();
            edit(
                world,
                n,
                twin.remote_id.clone(),
                world.tandem.at(&format!("/customers/{}?min_version={next}", twin.id)),
            )
        })
        .await?;
    world.settled().await?;

    let noted = noted(&world.database, &world.nats_url, KEY).await?;
    let told: Vec<(Option<String>, i64)> = sqlx::query_as(
        "SELECT change -> 'profile' ->> ('metadata.' || $1), (extract(epoch FROM min(received_at)) * 1000000)::bigint
         FROM inbox GROUP BY 1",
    )
    .bind(KEY)
    .fetch_all(&world.database)
    .await?;
    let told: HashMap<String, i64> = told.into_iter().filter_map(|(value, at)| Some((value?, at))).collect();
    let moments = edited.iter().map(|(n, sent, seen)| {
        let value = n.to_string();
        let told = told.get(&value).context("an edit that was not told")?;
        let noted = noted.get(&value).context("an edit that made no event")?;
        Ok(vec![*sent, *told, noted.inserted, noted.published, *seen])
    });
    Stages::of(
        &moments.collect::<anyhow::Result<Vec<_>>>()?,
        &[
            "edited, webhook sent, verified and merged, inbox row inserted",
            "event inserted, mostly by the same statement",
            "committed, numbered, published",
            "delivered, projected, answered",
        ],
    )
}

/// Edits one customer there, and says when it was sent, and when the answer of `url` showed it.
pub fn edit(
    world: &World,
    n: u32,
    remote_id: String,
    url: String,
) -> impl Future<Output = anyhow::Result<(u32, i64, i64)>> + Send + use<> {
    let (stripe, http) = (world.stripe.clone(), world.http.clone());
    async move {
        let value = n.to_string();
        let param = format!("metadata[{KEY}]");
        let sent = now_us();
        let fields = [(param.as_str(), value.as_str())];
        let seen = async {
            let answer = http.get(&url).send().await?.error_for_status()?;
            let body: Value = answer.json().await?;
            anyhow::Ok((now_us(), body))
        };
        let edited = async { stripe.edit(&remote_id, &fields).await.map_err(anyhow::Error::from) };
        let ((seen, body), _) = tokio::try_join!(seen, edited)?;
        ensure!(body["metadata"][KEY] == value.as_str(), "the version of edit {n} shows another: {}", body["metadata"]);
        Ok((n, sent, seen))
    }
}
