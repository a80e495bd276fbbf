//! Tests pass whatever their user has set, whatever lies in the folder, and whoever listens on the usual ports.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use tandem_local::{Scratch, workspace};

/// Tests that start `tandem serve` in every way that tests do, and other commands of it.
const TESTS: [&str; 2] = [
    "sync::an_email_changed_in_stripe_reaches_the_catalog",
    "backup::restored_while_it_is_stopped_it_does_not_start_until_the_stream_is_rebuilt",
];

/// What `tandem` would heed, as after `set -a; . .tandem/env` of a `make run`, and more.
const SETTINGS: [(&str, &str); 11] = [
    ("TANDEM_DATABASE__URL", "postgres://tandem@192.0.2.1/tandem"),
    ("TANDEM_NATS__URL", "nats://192.0.2.1:4222"),
    ("TANDEM_NATS__REPLICAS", "9"),
    ("TANDEM_HTTP__BIND", "nowhere"),
    ("TANDEM_API_KEYS", "short"),
    ("TANDEM_NOT_A_SETTING", "1"),
    ("TANDEM_STRIPE__SECRET_KEY", "not a key"),
    ("TANDEM_STRIPE__POLICY", "oldest"),
    ("TANDEM_LOCAL_STRIPE", "http://192.0.2.1:12111"),
    ("STRIPE_SECRET_KEY", "sk_test_local"),
    ("STRIPE_WEBHOOK_SECRET", "whsec_of_the_users"),
];

/// What the libraries in a test's own process would heed.
const FOR_LIBRARIES: [(&str, &str); 8] = [
    ("PGHOST", "192.0.2.1"),
    ("PGSSLMODE", "verify-full"),
    ("PGOPTIONS", "-c default_transaction_read_only=on"),
    ("DATABASE_URL", "postgres://tandem@192.0.2.1/tandem"),
    ("NATS_URL", "nats://192.0.2.1:4222"),
    ("HTTP_PROXY", "http://192.0.2.1:1"),
    ("http_proxy", "http://192.0.2.1:1"),
    ("ALL_PROXY", "http://192.0.2.1:1"),
];

/// Fails for a test that starts a program with the environment, or in the folder, that it was started in itself.
#[test]
fn what_the_user_has_set_reaches_no_program_that_a_test_starts() {
    let folder = Scratch::new().unwrap();
    std::fs::write(folder.path().join("tandem.toml"), "[http]\nbind = \"nowhere\"\n").unwrap();
    pass(Command::new(std::env::current_exe().unwrap()).envs(SETTINGS).current_dir(folder.path()));
}

/// Fails if a test's own process is started with all that its user has set.
#[test]
fn what_the_user_has_set_reaches_no_library_in_a_test() {
    let isolated = workspace().unwrap().join("tests/isolated");
    let mut command = Command::new(isolated);
    pass(command.arg(std::env::current_exe().unwrap()).envs(FOR_LIBRARIES).current_dir(Path::new("/")));
}

fn pass(tests: &mut Command) {
    // Held by us or by others: taken it is.
    let _usual = [8080, 12111, 14222, 15432].map(|port| TcpListener::bind(("127.0.0.1", port)));
    let ran = tests.args(TESTS).arg("--exact").output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && said.contains(&format!("{} passed", TESTS.len())), "{said}");
}
