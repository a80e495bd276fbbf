//! One distinctive text in every field of a person who is erased: afterwards it is in no file of PostgreSQL, of JetStream and of the
//! logs, and in no dump, whatever arrived late.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;
use stripe_sim::{Fault, Order};
use tandem_local::process::isolated;
use tandem_local::test::{own_nats, own_postgres};
use tandem_local::tools;
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

#[tokio::test(flavor = "multi_thread")]
async fn no_file_and_no_dump_has_an_erased_person_whatever_arrives_late() {
    let (postgres, nats) = (own_postgres().await, own_nats().await);
    let url = postgres.url("postgres");
    let env = vec![("TANDEM_LOG", "debug".to_owned())];
    let setup = Setup { env, database_url: Some(url.clone()), nats_url: Some(nats.url()), ..Setup::default() };
    let tandem = Tandem::start_with(setup).await;
    let ada = tandem.create(CANARY, &format!("{CANARY}@x.example")).await.id;
    let fields = json!({"phone": format!("{CANARY} 1"), "metadata": {"note": CANARY}, "address": {"city": CANARY}});
    tandem.patch(&ada, fields).await;
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
    for statement in ["ANALYZE", "CHECKPOINT"] {
        sqlx::query(statement).execute(&tandem.database).await.unwrap();
    }
    assert!(
        !files_with(postgres.data_dir()).is_empty() && !files_with(nats.store_dir()).is_empty(),
        "it is looked for rightly"
    );
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

    for statement in ["ANALYZE", "VACUUM FULL", "VACUUM FULL pg_statistic", "CHECKPOINT"] {
        sqlx::query(statement).execute(&tandem.database).await.unwrap();
    }
    assert_eq!(files_with(postgres.data_dir()), Vec::<String>::new(), "PostgreSQL");
    assert_eq!(files_with(nats.store_dir()), Vec::<String>::new(), "JetStream");
    assert_eq!(files_with(&tandem.file("tandem.log")), Vec::<String>::new(), "the log");
    assert!(!dump(&url).to_lowercase().contains(CANARY), "the dump");
    assert_eq!(tandem.tables_with(CANARY).await, Vec::<String>::new());
}
