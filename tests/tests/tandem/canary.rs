//! One distinctive text in every field of a person who is erased: afterwards it is in no file of PostgreSQL, of JetStream and of the
//! logs, and in no dump, whatever arrived late.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;
use stripe_sim::{Fault, Order};
use tandem_local::process::isolated;
use tandem_local::test::{Own, own_nats, own_postgres};
use tandem_local::{Nats, Postgres, tools};
use tandem_tests::{Setup, Tandem};

/// In every field of the person.
const CANARY: &str = "quetzalcoatlus";

/// Files under a folder that hold the text, in whatever case. PostgreSQL's write-ahead log is recycled in time, and does not count.
fn files_with(folder: &Path) -> Vec<String> {
    let mut grep = isolated(Path::new("grep"));
    grep.args(["-r", "-l", "-a", "-i", "--exclude-dir=pg_wal", "-e", CANARY]).arg(folder);
    let found = grep.stderr(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&found.stdout).lines().map(str::to_owned).collect()
}

fn dump(url: &str) -> String {
    let mut dump: Command = isolated(&tools().unwrap().postgres_bin.join("pg_dump"));
    let dumped = dump.arg(url).output().unwrap();
    assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
    String::from_utf8_lossy(&dumped.stdout).into_owned()
}

/// A Tandem on servers of its own, that logs all it has to say.
struct World {
    tandem: Tandem,
    postgres: Own<Postgres>,
    nats: Own<Nats>,
    url: String,
}

impl World {
    async fn start(setup: Setup) -> Self {
        let (postgres, nats) = (own_postgres().await, own_nats().await);
        let url = postgres.url("postgres");
        let mut setup = Setup { database_url: Some(url.clone()), nats_url: Some(nats.url()), ..setup };
        setup.env.push(("TANDEM_LOG", "debug".to_owned()));
        Self { tandem: Tandem::start_with(setup).await, postgres, nats, url }
    }

    /// The person in every field.
    async fn person(&self) -> String {
        let ada = self.tandem.create(CANARY, &format!("{CANARY}@x.example")).await.id;
        let fields = json!({"phone": format!("{CANARY} 1"), "metadata": {"note": CANARY}, "address": {"city": CANARY}});
        self.tandem.patch(&ada, fields).await;
        ada
    }

    async fn run(&self, statements: &[&'static str]) {
        for statement in statements {
            sqlx::query(statement).execute(&self.tandem.database).await.unwrap();
        }
    }

    async fn assert_there(&self) {
        self.run(&["ANALYZE", "CHECKPOINT"]).await;
        for folder in [self.postgres.data_dir(), self.nats.store_dir()] {
            assert!(!files_with(folder).is_empty(), "it is looked for rightly");
        }
    }

    async fn assert_gone(&self) {
        let Self { tandem, postgres, nats, url } = self;
        self.run(&["ANALYZE", "VACUUM FULL", "VACUUM FULL pg_statistic", "CHECKPOINT"]).await;
        assert_eq!(tandem.tables_with(CANARY).await, Vec::<String>::new());
        assert_eq!(files_with(postgres.data_dir()), Vec::<String>::new(), "PostgreSQL");
        assert_eq!(files_with(nats.store_dir()), Vec::<String>::new(), "JetStream");
        assert_eq!(files_with(&tandem.file("tandem.log")), Vec::<String>::new(), "the log");
        assert!(!dump(url).to_lowercase().contains(CANARY), "the dump");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_file_and_no_dump_has_an_erased_person_whatever_arrives_late() {
    let world = World::start(Setup::default()).await;
    let tandem = &world.tandem;
    let ada = world.person().await;
    tandem.settled().await;
    let there = tandem.remote_id(&ada).await;
    // A field that Stripe refuses, and two edits that cross.
    let no = Fault::status(400).code("parameter_invalid_string_blank").param("phone").on("POST", "/v1/customers/*");
    tandem.stripe.fault(no).await.unwrap();
    tandem.patch(&ada, json!({"phone": format!("{CANARY} 2")})).await;
    tandem.settled().await;
    tandem.stripe.hold().await.unwrap();
    tandem.stripe.edit(&there, &[("name", &format!("{CANARY} 3"))]).await.unwrap();
    tandem.patch(&ada, json!({"name": format!("{CANARY} 4")})).await;
    tandem.stripe.release(Order::Fifo).await.unwrap();
    tandem.settled().await;
    for command in ["plan", "verify"] {
        tandem.command(&[command, "stripe"]).await;
    }
    world.assert_there().await;
    // What Stripe tells of the last edit and of the deletion arrives after the erasure.
    tandem.stripe.hold().await.unwrap();
    tandem.stripe.edit(&there, &[("metadata[last]", CANARY)]).await.unwrap();
    tandem.delete(&ada).await;
    tandem.until("it can be erased", || async { tandem.command(&["erase", &ada, "--yes"]).await.0 == Some(0) }).await;
    tandem.stripe.release(Order::Reversed).await.unwrap();
    for event in tandem.stripe.events().await.unwrap() {
        tandem.stripe.deliver(&event.id).await.unwrap();
    }
    tandem.settled().await;
    for command in [["plan", "stripe"], ["verify", "stripe"], ["rebuild", "customers"]] {
        tandem.command(&command).await;
    }
    tandem.settled().await;
    world.assert_gone().await;
}

/// A plan's application was killed; then a call is out, nobody has told of the object's birth yet, and of one edit only a sweep will.
#[tokio::test(flavor = "multi_thread")]
async fn no_file_and_no_dump_has_an_erased_person_whatever_was_under_way() {
    let env = vec![("TANDEM_STRIPE__SWEEP_INTERVAL_MS", "86400000".to_owned())];
    let mut world = World::start(Setup { env, without_gateway: true, ..Setup::default() }).await;
    let ada = world.person().await;
    let tandem = &mut world.tandem;
    tandem.settled().await;
    tandem.stripe.hold().await.unwrap();
    let email = format!("{CANARY}@x.example");
    let there =
        tandem.stripe.create(&[("name", CANARY), ("email", &email), ("metadata[there]", CANARY)]).await.unwrap().id;
    tandem.ran_well(&["plan", "stripe"]).await;
    let out = tandem.stripe.fault(Fault::HangReply.on("GET", "/v1/customers/*")).await.unwrap();
    let applying = tandem.begin(&["apply", "1", "--fields-from", "catalog"]);
    tandem.stripe.fault_reached(out, 1).await.unwrap();
    drop(applying);
    tandem.stripe.clear_faults().await.unwrap();
    tandem.ran_well(&["apply", "1", "--fields-from", "catalog"]).await;
    tandem.turn_gateway_on().await;
    let pushed = || async { tandem.remote(&ada).await.phone.as_deref() == Some(&format!("{CANARY} 1")) };
    tandem.until("its fields are there", pushed).await;
    tandem.until("the first sweep", || async { tandem.rows("sweeps", "swept_at IS NOT NULL").await == 1 }).await;
    tandem.stripe.drop_webhooks(1).await.unwrap();
    tandem.stripe.edit(&there, &[("metadata[swept]", CANARY)]).await.unwrap();
    let out = tandem.stripe.fault(Fault::HangReply.on("POST", "/v1/customers/*")).await.unwrap();
    tandem.patch(&ada, json!({"phone": format!("{CANARY} 7")})).await;
    tandem.stripe.fault_reached(out, 1).await.unwrap();
    world.assert_there().await;
    let tandem = &mut world.tandem;
    let list = tandem.file("erasures.jsonl");
    std::fs::write(&list, format!("{{\"customer_id\":\"{ada}\",\"erased_at\":\"2026-01-02T03:04:05Z\"}}\n")).unwrap();

    tandem.ran_well(&["erasures", "import", list.to_str().unwrap(), "--yes"]).await;

    tandem.stripe.release_fault(out).await.unwrap();
    tandem.stripe.release(Order::Fifo).await.unwrap();
    tandem.settled().await;
    assert!(tandem.stripe.customers().await.unwrap().iter().all(|one| one.deleted));
    let swept = "SELECT max(swept_at)::text FROM sweeps";
    let swept =
        async |tandem: &Tandem| sqlx::query_scalar::<_, String>(swept).fetch_one(&tandem.database).await.unwrap();
    let before = swept(tandem).await;
    tandem.stop();
    tandem.start_again().await;
    tandem.until("a sweep since", || async { swept(tandem).await != before }).await;
    tandem.settled().await;
    world.assert_gone().await;
}
