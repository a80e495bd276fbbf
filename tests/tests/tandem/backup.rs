//! A backup of PostgreSQL is restored that is older than the stream and older than Stripe: noticed, said, mended, and what
//! Stripe knows comes back from there.

use std::path::{Path, PathBuf};

use async_nats::jetstream;
use serde_json::json;
use tandem_local::test::{Own, own_postgres};
use tandem_local::{Postgres, process};
use tandem_tests::{Customer, Setup, Tandem};

/// A Tandem on a PostgreSQL of its own, with two customers in step, as the backup knows them.
struct World {
    tandem: Tandem,
    postgres: Own<Postgres>,
    backup: PathBuf,
    ada: Customer,
    eve: Customer,
}

impl World {
    async fn backed_up() -> Self {
        let mut postgres = own_postgres().await;
        let env = vec![("TANDEM_STRIPE__SWEEP_INTERVAL_MS", "500".to_owned())];
        let setup = Setup { env, database_url: Some(postgres.url("postgres")), ..Setup::default() };
        let mut tandem = Tandem::start_with(setup).await;
        let ada = tandem.create("Ada", "ada@old.example").await;
        let eve = tandem.create("Eve", "eve@old.example").await;
        tandem.settled().await;
        tandem.stop();
        let backup = postgres.data_dir().with_extension("backup");
        tokio::task::block_in_place(|| {
            postgres.stop();
            copy(postgres.data_dir(), &backup);
            postgres.restart().unwrap();
        });
        tandem.start_again().await;
        Self { tandem, postgres, backup, ada, eve }
    }

    /// What happens after the backup: all of it reaches Stripe.
    async fn more_happens(&self) {
        let Self { tandem, ada, eve, .. } = self;
        tandem.patch(&ada.id, json!({"name": "Countess"})).await;
        tandem.create("Bob", "bob@new.example").await;
        tandem.stripe.create(&[("name", "Grace")]).await.unwrap();
        tandem.delete(&eve.id).await;
        tandem.until("Grace is imported", || async { tandem.customers().await.len() == 3 }).await;
        tandem.settled().await;
        let remote = tandem.remote_id(&ada.id).await;
        tandem.stripe.edit(&remote, &[("phone", "+44 20 7946 0958")]).await.unwrap();
        tandem.until("her phone", || async { tandem.get(&ada.id).await.phone.is_some() }).await;
        tandem.settled().await;
    }

    /// After the backup.
    async fn erase_eve(&self) {
        let Self { tandem, eve, .. } = self;
        tandem.delete(&eve.id).await;
        tandem.settled().await;
        tandem.ran_well(&["erase", &eve.id, "--yes"]).await;
        tandem.settled().await;
    }

    /// The old files in place of the new.
    fn restore(&mut self) {
        tokio::task::block_in_place(|| {
            self.postgres.stop();
            let data = self.postgres.data_dir().to_owned();
            std::fs::remove_dir_all(&data).unwrap();
            copy(&self.backup, &data);
            self.postgres.restart().unwrap();
        });
    }

    /// Waits until the running process says that the stream is not the database's.
    async fn noticed(&self) -> String {
        let tandem = &self.tandem;
        tandem
            .find("it notices", || async {
                let ready = tandem.http().get(tandem.at("/readyz")).send().await.ok()?;
                let body: serde_json::Value = ready.json().await.ok()?;
                body["relay"]["problem"]
                    .as_str()
                    .filter(|problem| problem.contains("stream rebuild"))
                    .map(str::to_owned)
            })
            .await
    }

    async fn stream_last(&self) -> u64 {
        let nats = async_nats::connect(&self.tandem.nats_url).await.unwrap();
        let stream = jetstream::new(nats).get_stream(&self.tandem.stream).await.unwrap();
        stream.cached_info().state.last_sequence
    }

    /// All that Stripe knows is here again, and the feed is dense and equal.
    async fn assert_whole(&self) {
        let Self { tandem, ada, eve, .. } = self;
        tandem.until("what Stripe knows comes back", || async { tandem.customers().await.len() == 3 }).await;
        tandem.until("Eve stays deleted", || async { tandem.status_of(&eve.id).await == 410 }).await;
        tandem
            .until("Ada's edits come back", || async {
                let ada = tandem.get(&ada.id).await;
                ada.name.as_deref() == Some("Countess") && ada.phone.is_some()
            })
            .await;
        tandem.settled().await;
        let mut names = vec![];
        for customer in tandem.customers().await {
            tandem.assert_equal(&customer.id).await;
            names.push(customer.name.unwrap_or_default());
        }
        names.sort();
        assert_eq!(names, ["Bob", "Countess", "Grace"]);
        let living = tandem.stripe.customers().await.unwrap().into_iter().filter(|one| !one.deleted).count();
        assert_eq!(living, 3, "nothing doubled");
        assert_eq!(tandem.parked().await, [] as [serde_json::Value; 0]);
        let (code, said) = tandem.command(&["stream", "check"]).await;
        assert_eq!(code, Some(0), "{said}");
    }
}

fn copy(from: &Path, to: &Path) {
    let copied = process::command(Path::new("cp"), &[]).arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn restored_while_it_is_stopped_it_does_not_start_until_the_stream_is_rebuilt() {
    let mut world = World::backed_up().await;
    world.more_happens().await;
    let last = world.stream_last().await;
    world.tandem.stop();
    world.restore();

    let (code, said) = world.tandem.command(&["serve"]).await;

    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("ahead of the database") && said.contains("`tandem stream rebuild`"), "{said}");
    let (code, said) = world.tandem.command(&["status"]).await;
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("AHEAD of the database"), "{said}");
    // It asks first, and nobody answers.
    let (code, said) = world.tandem.command(&["stream", "rebuild"]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("nothing was changed"), "{said}");
    assert_eq!(world.stream_last().await, last, "nothing is published over it, and nothing is deleted");

    let (code, said) = world.tandem.command(&["stream", "rebuild", "--yes"]).await;
    assert_eq!(code, Some(0), "{said}");
    world.tandem.start_again().await;

    world.assert_whole().await;
}

/// Fails for a process that goes by what it remembers of before: positions, versions, customers.
#[tokio::test(flavor = "multi_thread")]
async fn restored_while_it_runs_it_publishes_nothing_until_the_stream_is_rebuilt() {
    let mut world = World::backed_up().await;
    world.more_happens().await;
    let last = world.stream_last().await;
    world.restore();

    let problem = world.noticed().await;
    assert!(problem.contains("ahead of the database"), "{problem}");
    assert_eq!(world.stream_last().await, last);
    // Writes are taken: they are in PostgreSQL, and built on what that holds.
    let ada = world.tandem.patch(&world.ada.id, json!({"metadata": {"plan": "pro"}})).await;
    let history = world.tandem.events(&world.ada.id).await;
    let versions: Vec<u64> = history.iter().map(|event| event["version"].as_u64().unwrap()).collect();
    // A sweep may have brought back more of what Stripe knows since she was patched.
    assert_eq!(versions, (1..=versions.len() as u64).collect::<Vec<_>>(), "no hole");
    assert!(versions.contains(&ada.version), "{versions:?}, without {}", ada.version);
    assert_eq!(world.stream_last().await, last, "nothing is published over it");

    let (code, said) = world.tandem.command(&["stream", "rebuild", "--yes"]).await;
    assert_eq!(code, Some(0), "{said}");
    world.tandem.ready().await;

    world.assert_whole().await;
    assert_eq!(world.tandem.get(&world.ada.id).await.metadata["plan"], "pro");
}

/// Fails where the old stream is thrown away unread.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_erased_after_the_backup_is_erased_again_before_the_stream_is_rebuilt() {
    let mut world = World::backed_up().await;
    let (ada, eve) = (world.ada.id.clone(), world.eve.id.clone());
    world.erase_eve().await;
    world.tandem.stop();
    world.restore();
    assert!(world.tandem.tables_with("eve@old.example").await.len() > 2, "the backup has her");

    let (code, said) = world.tandem.command(&["stream", "rebuild", "--yes"]).await;

    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("Erased again, after a restored backup had brought them back: 1."), "{said}");
    let tandem = &mut world.tandem;
    tandem.start_again().await;
    tandem.until("nothing is left of her", || async { tandem.tables_with("eve@old.example").await.is_empty() }).await;
    tandem.settled().await;
    assert_eq!(tandem.tables_with("eve@old.example").await, Vec::<String>::new());
    assert_eq!((tandem.status_of(&eve).await, tandem.status_of(&ada).await), (410, 200));
    assert_eq!(tandem.events(&eve).await.last().unwrap()["type"], "erased");
    let (code, said) = tandem.command(&["stream", "check"]).await;
    assert_eq!(code, Some(0), "{said}");
}

/// Fails where the old stream is read only beyond the database's last position.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_erased_after_the_backup_is_erased_again_whatever_was_written_since() {
    let mut world = World::backed_up().await;
    let (ada, eve) = (world.ada.id.clone(), world.eve.id.clone());
    world.erase_eve().await;
    let last = world.stream_last().await;
    world.restore();
    world.noticed().await;
    let tandem = &mut world.tandem;
    for round in 0..last {
        tandem.patch(&ada, json!({"metadata": {"round": round.to_string()}})).await;
    }
    let passed = "SELECT last_position > $1 FROM feed";
    tandem
        .until("the database is beyond the old stream's end", || async {
            sqlx::query_scalar(passed).bind(last as i64).fetch_one(&tandem.database).await.unwrap()
        })
        .await;

    let (code, said) = tandem.command(&["stream", "rebuild", "--yes"]).await;

    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("Erased again, after a restored backup had brought them back: 1."), "{said}");
    tandem.ready().await;
    tandem.until("nothing is left of her", || async { tandem.tables_with("eve@old.example").await.is_empty() }).await;
    tandem.settled().await;
    assert_eq!(tandem.tables_with("eve@old.example").await, Vec::<String>::new());
    assert_eq!((tandem.status_of(&eve).await, tandem.status_of(&ada).await), (410, 200));
}

/// Somebody has deleted what proves it. Fails where nothing is said of that.
#[tokio::test(flavor = "multi_thread")]
async fn that_the_stream_cannot_tell_who_was_erased_is_said() {
    let mut world = World::backed_up().await;
    world.erase_eve().await;
    world.tandem.stop();
    let nats = async_nats::connect(&world.tandem.nats_url).await.unwrap();
    let stream = jetstream::new(nats).get_stream(&world.tandem.stream).await.unwrap();
    let erased = format!("{}.customer.{}.erased", world.tandem.stream.to_lowercase(), world.eve.id);
    let erased = stream.get_last_raw_message_by_subject(&erased).await.unwrap();
    stream.delete_message(erased.sequence).await.unwrap();
    world.restore();

    let said = world.tandem.ran_well(&["stream", "rebuild", "--yes"]).await.stdout;

    assert!(said.contains("no longer in the stream: ") && said.contains("`tandem erasures import`"), "{said}");
    assert!(!said.contains("Erased again"), "{said}");
}
