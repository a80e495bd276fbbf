//! The `tandem` command as people use it.

use std::path::Path;
use std::process::{Output, Stdio};

use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tandem_api::Config;
use tandem_local::process::isolated;
use tandem_local::test::Looks;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{ChildStderr, Command};

use crate::service::{PATIENCE, Service, database, fresh_config, fresh_config_without_tables};

pub fn tandem(config: &Config, arguments: &[&str]) -> Command {
    let mut command = Command::from(isolated(Path::new(env!("CARGO_BIN_EXE_tandem"))));
    command.args(arguments);
    with_settings(&mut command, config);
    command
}

/// Gives a command these settings. Where it starts, nobody keeps a tandem.toml.
pub fn with_settings(command: &mut Command, config: &Config) {
    let binaries = Path::new(env!("CARGO_BIN_EXE_tandem")).parent().unwrap();
    command
        .env("TANDEM_DATABASE__URL", config.database.url.expose_secret())
        .env("TANDEM_NATS__URL", config.nats.url.expose_secret())
        .env("TANDEM_NATS__STREAM", &config.nats.stream)
        .env("TANDEM_NATS__ROOT", &config.nats.root)
        .env("TANDEM_HTTP__BIND", "127.0.0.1:0")
        .current_dir(binaries)
        .stdin(Stdio::null())
        .kill_on_drop(true);
}

async fn run(config: &Config, arguments: &[&str]) -> (i32, String, String) {
    let ended = tokio::time::timeout(PATIENCE, tandem(config, arguments).output()).await.expect("the end");
    let Output { status, stdout, stderr } = ended.unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// Where `tandem serve` says that it serves, and what it has said before that.
pub async fn address(log: &mut Lines<BufReader<ChildStderr>>) -> (String, Vec<String>) {
    let mut said = vec![];
    loop {
        let line = tokio::time::timeout(PATIENCE, log.next_line()).await.expect("a line").unwrap().expect("a line");
        let url = line.split_once("serving the API at ").and_then(|(_, url)| url.split_whitespace().next());
        let url = url.map(str::to_owned);
        said.push(line);
        if let Some(url) = url {
            return (url, said);
        }
    }
}

#[tokio::test]
async fn status_says_how_far_everything_is() {
    let service = Service::start().await;
    let id = service.ada().await;
    service.until(&format!("/customers/{id}/events"), |answer| answer.body["data"][0]["position"] == 1).await;

    let (code, text, _) = run(&service.config, &["status"]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("projector   customers: position"), "{text}");
    let (code, json, _) = run(&service.config, &["status", "--json"]).await;
    let status: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &status["healthy"], &status["relay"]["numbered"]), (0, &json!(true), &json!(1)));
}

#[tokio::test]
async fn the_stream_is_checked_and_rebuilt() {
    let service = Service::start().await;
    let id = service.ada().await;
    service.patch(&id, json!({"name": "Eve"})).await;
    let published = async {
        loop {
            let (_, json, _) = run(&service.config, &["status", "--json"]).await;
            if serde_json::from_str::<Value>(&json).unwrap()["relay"]["published"] == 2 {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, published).await.expect("both events in the stream");

    let (code, text, _) = run(&service.config, &["stream", "check"]).await;
    assert_eq!(code, 0, "{text}");
    let (code, json, _) = run(&service.config, &["stream", "check", "--json"]).await;
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &report["sound"], &report["equal"]), (0, &json!(true), &json!(2)));

    let (code, _, told) = run(&service.config, &["stream", "rebuild"]).await;
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("nothing was changed"), "{told}");
    assert_eq!(run(&service.config, &["stream", "rebuild", "--yes"]).await.0, 0);
    service.ready().await;
}

#[tokio::test]
async fn a_rebuild_says_what_it_did() {
    let service = Service::start().await;
    service.ada().await;
    let (code, text, told) = run(&service.config, &["rebuild", "customers"]).await;
    assert_eq!(code, 0, "{told}");
    assert!(text.contains("is rebuilt from"), "{text}");
    assert_eq!(run(&service.config, &["rebuild", "nothing"]).await.0, 2);
}

#[tokio::test]
async fn tail_shows_one_line_an_event() {
    let service = Service::start().await;
    let ada = service.ada().await;
    service.create(json!({"name": "Bob"})).await;
    service.patch(&ada, json!({"name": "Eve"})).await;

    let mut tail = tandem(&service.config, &["tail", "--after", "0", "--customer", &ada]);
    let mut tail = tail.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let reading = async { [lines.next_line().await.unwrap().unwrap(), lines.next_line().await.unwrap().unwrap()] };
    let [created, updated] = tokio::time::timeout(PATIENCE, reading).await.expect("two lines");

    assert!(
        created.contains("created") && created.contains("email: \"ada@old.example\", name: \"Ada\"")
            || created.contains("name: \"Ada\", email: \"ada@old.example\""),
        "{created}"
    );
    assert!(updated.contains("updated") && updated.contains("name: \"Ada\" -> \"Eve\""), "{updated}");
}

/// As in `tandem plan show 3 | head`.
#[tokio::test]
async fn a_reader_that_has_read_enough_is_no_failure() {
    let service = Service::start().await;
    let plan =
        "WITH plan AS (INSERT INTO surveys (gateway, kind, ended_at) VALUES ('stripe', 'plan', now()) RETURNING id)
        INSERT INTO plan_items (plan_id, n, action, remote_id) SELECT id, n, 'create_here', 'cus_' || n
        FROM plan, generate_series(1, 2000) n RETURNING plan_id";
    let plan: Vec<i64> = sqlx::query_scalar(plan).fetch_all(&database(&service.config).await).await.unwrap();
    let plan = plan[0].to_string();

    for (arguments, code) in [
        (&["plan", "show", &plan][..], 0),
        (&["plan", "show", &plan, "--format", "json"], 0),
        (&["plan", "show", &plan, "--format", "csv"], 0),
        (&["status"], 0),
        (&["status", "--json"], 0),
        (&["stream", "check"], 0),
        (&["stream", "check", "--json"], 0),
        // What a command found is told all the same.
        (&["plan", "show", "99"], 1),
    ] {
        let mut child = tandem(&service.config, arguments);
        let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Nobody reads at all.
        drop(child.stdout.take());
        let ended = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("the end").unwrap();
        let told = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(code), "{arguments:?}: {told}");
        assert!(!told.contains("roken pipe"), "{arguments:?}: {told}");
    }
}

/// Fails for a command that prints what came from outside as it came.
#[tokio::test]
async fn what_came_from_outside_moves_no_cursor_and_is_no_formula() {
    let service = Service::start().await;
    let plan =
        "WITH plan AS (INSERT INTO surveys (gateway, kind, ended_at) VALUES ('stripe', 'plan', now()) RETURNING id)
        INSERT INTO plan_items (plan_id, n, action, remote_id) SELECT id, n, 'create_here', remote_id
        FROM plan, unnest($1::text[]) WITH ORDINALITY AS given (remote_id, n) RETURNING plan_id";
    let ids = ["cus_\u{1b}[2J\u{9b}31m\r\n", "=HYPERLINK(\"http://x\")", "+1", "-1", "@x", "\t=1", "\r=1"];
    let database = database(&service.config).await;
    let plan: Vec<i64> = sqlx::query_scalar(plan).bind(&ids[..]).fetch_all(&database).await.unwrap();
    let plan = plan[0].to_string();

    let (code, table, _) = run(&service.config, &["plan", "show", &plan]).await;
    assert_eq!(code, 0);
    assert!(table.contains("cus_\\u001b[2J\\u009b31m\\u000d\\u000a  "), "{table}");
    assert!(!table.contains(|c: char| c.is_control() && c != '\n'), "{table:?}");

    let (_, json, _) = run(&service.config, &["plan", "show", &plan, "--format", "json"]).await;
    assert!(!json.contains(|c: char| c.is_control() && c != '\n'), "{json:?}");
    let shown: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(shown["rows"][0]["remote_id"], ids[0]);

    let (_, csv, _) = run(&service.config, &["plan", "show", &plan, "--format", "csv"]).await;
    assert!(!csv.contains(['\u{1b}', '\u{9b}', '\r']), "{csv:?}");
    let cells: Vec<String> =
        csv::Reader::from_reader(csv.as_bytes()).records().map(|row| row.unwrap()[3].to_owned()).collect();
    assert_eq!(
        cells[1..],
        ["'=HYPERLINK(\"http://x\")", "'+1", "'-1", "'@x", "'\t=1", "'\\u000d=1"],
        "a spreadsheet takes them for texts"
    );
}

/// Of the URL of a server.
fn password(url: &str) -> String {
    let user = url.split_once("://").unwrap().1.split_once('@').unwrap().0;
    user.split_once(':').unwrap().1.to_owned()
}

/// Fails for a service whose filter lets other crates say what we never would.
#[tokio::test]
async fn neither_secrets_nor_customers_values_are_logged_at_any_level() {
    let mut config = fresh_config().await;
    let nats = config.nats.url.expose_secret().to_owned();
    if !nats.contains('@') {
        config.nats.url = nats.replace("://", "://tandem:hidden-password@").into();
    }
    let secrets = [&config.database.url, &config.nats.url].map(|url| password(url.expose_secret()));
    let mut command = tandem(&config, &["serve"]);
    command.env("TANDEM_LOG", "trace").env("TANDEM_API_KEYS", "hidden-key-of-the-api");
    command.env("TANDEM_STRIPE__SECRET_KEY", "sk_test_hidden").env("TANDEM_STRIPE__API_BASE", "http://127.0.0.1:1");
    command.env("TANDEM_STRIPE__WEBHOOK_SECRETS", "whsec_hidden");
    let mut served = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(served.stderr.take().unwrap()).lines();
    let (url, said) = address(&mut log).await;
    let reading = tokio::spawn(async move {
        let mut said = said;
        while let Ok(Some(line)) = log.next_line().await {
            said.push(line);
        }
        said
    });
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let ask = |method: reqwest::Method, path: &str| {
        http.request(method, format!("{url}{path}")).bearer_auth("hidden-key-of-the-api")
    };
    let asking = async {
        let mut looks = Looks::default();
        while ask(reqwest::Method::GET, "/readyz").send().await.unwrap().status() != 200 {
            looks.pause().await;
        }
        let ada = json!({"name": "Hidden Ada", "email": "hidden@ada.example", "metadata": {"plan": "hidden-plan"}});
        let created = ask(reqwest::Method::POST, "/customers").json(&ada).send().await.unwrap();
        let created: Value = created.error_for_status().unwrap().json().await.unwrap();
        let path = format!("/customers/{}", created["id"].as_str().unwrap());
        let changed = ask(reqwest::Method::PATCH, &path).json(&json!({"phone": "hidden-phone"})).send().await.unwrap();
        assert_eq!(changed.status(), 200);
        // The message of it has been through NATS.
        let seen = ask(reqwest::Method::GET, &format!("{path}?min_version=2")).send().await.unwrap();
        assert_eq!(seen.status(), 200);
        ask(reqwest::Method::GET, "/customers?email=hidden%40ada.example").send().await.unwrap();
        ask(reqwest::Method::POST, "/webhooks/stripe").body("hidden-body").send().await.unwrap();
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("answers");

    let id = rustix::process::Pid::from_raw(i32::try_from(served.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    tokio::time::timeout(PATIENCE, served.wait()).await.expect("its end").unwrap();
    let said = reading.await.unwrap();
    assert!(said.iter().any(|line| line.contains("DEBUG") && line.contains("answered")), "we are heard: {said:#?}");
    let leaks = |line: &str| {
        line.to_lowercase().contains("hidden") || secrets.iter().any(|secret| line.contains(secret.as_str()))
    };
    let leaks: Vec<&String> = said.iter().filter(|line| leaks(line)).collect();
    assert!(leaks.is_empty(), "{leaks:#?}");
}

#[tokio::test]
async fn serve_stops_when_it_is_told_to() {
    let config = fresh_config().await;
    let mut served = tandem(&config, &["serve"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(served.stderr.take().unwrap()).lines();
    let started = async {
        while let Some(line) = log.next_line().await.unwrap() {
            if line.contains("started") {
                return;
            }
        }
        panic!("it ended before it had started");
    };
    tokio::time::timeout(PATIENCE, started).await.expect("its start");

    let id = rustix::process::Pid::from_raw(i32::try_from(served.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();

    let rest = async { while let Ok(Some(_)) = log.next_line().await {} };
    let (ended, ()) = tokio::join!(tokio::time::timeout(PATIENCE, served.wait()), rest);
    assert_eq!(ended.expect("its end").unwrap().code(), Some(0));
}

#[tokio::test]
async fn serve_says_of_which_gateway_it_takes_no_webhooks() {
    let config = fresh_config().await;
    let mut command = tandem(&config, &["serve"]);
    command.env("TANDEM_STRIPE__SECRET_KEY", "sk_test_1").env("TANDEM_STRIPE__API_BASE", "http://127.0.0.1:1");
    let mut served = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(served.stderr.take().unwrap()).lines();
    let told = async {
        while let Some(line) = log.next_line().await.unwrap() {
            if line.contains("webhook") {
                return line;
            }
            assert!(!line.contains("started"), "it has started, and has said nothing");
        }
        panic!("it has ended");
    };
    let told = tokio::time::timeout(PATIENCE, told).await.expect("its warning");
    assert!(told.contains("WARN") && told.contains("gateway stripe"), "{told}");
    assert!(told.contains("every webhook is refused") && told.contains("once in 60 s"), "{told}");
}

#[tokio::test]
async fn what_is_wrong_with_the_settings_is_said_by_name() {
    let config = fresh_config().await;
    for (name, value) in [
        ("TANDEM_HTTP__BIND", "0.0.0.0:0"),
        ("TANDEM_HTTP__BNID", "127.0.0.1:0"),
        ("TANDEM_LOG", "=x="),
        ("TANDEM_STRIPE__SECRET_KEY", "pk_test_1"),
        ("TANDEM_STRIPE__POLICY", "oldest"),
        ("TANDEM_DATABASE__URL", "mysql://127.0.0.1/tandem"),
    ] {
        let ended = tokio::time::timeout(PATIENCE, tandem(&config, &["serve"]).env(name, value).output()).await;
        let Output { status, stderr, .. } = ended.expect("its end").unwrap();
        let told = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(1), "{told}");
        assert!(told.contains(name), "{name}: {told}");
        assert!(!told.contains("pk_test_1"), "{told}");
        assert!(value != "oldest" || told.contains("`latest`, `catalog`, `gateway`, `ask`"), "{told}");
    }
    assert_eq!(run(&config, &["sevre"]).await.0, 2);
    let (code, help, _) = run(&config, &["--help"]).await;
    assert!(code == 0 && help.contains("Exit codes") && help.contains("Examples"), "{help}");
}

#[tokio::test]
async fn a_command_says_where_it_looked_for_postgresql() {
    let config = fresh_config().await;
    let mut command = tandem(&config, &["status"]);
    command.env("TANDEM_DATABASE__URL", "postgres://tandem:s3cret@127.0.0.1:1/tandem");
    let Output { status, stderr, .. } =
        tokio::time::timeout(PATIENCE, command.output()).await.expect("its end").unwrap();
    let told = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{told}");
    assert!(told.contains("PostgreSQL at 127.0.0.1:1 (TANDEM_DATABASE__URL)"), "{told}");
    assert!(!told.contains("s3cret"), "{told}");
}

#[tokio::test]
async fn migrate_makes_the_tables_and_ends() {
    let config = fresh_config_without_tables().await;
    for _ in 0..2 {
        let (code, text, told) = run(&config, &["migrate"]).await;
        assert_eq!((code, text.trim()), (0, "All tables are up to date."), "{told}");
    }
}
