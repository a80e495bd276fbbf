//! nats-servers that ask who connects, speak TLS, or let nobody do what is not theirs.

use std::path::Path;
use std::process::Output;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair as CertificateKey};
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use tandem_api::Config;
use tandem_local::Nats;
use tandem_local::test::{Own, own_nats, own_nats_with};
use tempfile::TempDir;

use crate::service::{PATIENCE, Service, fresh_config, published};

/// Makes the stream with these settings: says how that ended, and what was said.
async fn use_nats(config: &Config, nats: &str, env: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = crate::commands::tandem(config, &["stream", "rebuild", "--yes"]);
    command.env("TANDEM_NATS__URL", nats).envs(env.iter().copied());
    let Output { status, stderr, .. } = tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

/// A database with tables, and a stream's name.
async fn migrated() -> Config {
    let config = fresh_config().await;
    let ended = crate::commands::tandem(&config, &["migrate"]).output().await.unwrap();
    assert!(ended.status.success(), "{ended:?}");
    config
}

/// Fails with each of the wrong settings, which are told as refused, and not repeated; succeeds with each of the right ones.
async fn asks(server: &Own<Nats>, right: &[&[(&str, &str)]], wrong: &[&[(&str, &str)]]) {
    let config = migrated().await;
    for env in wrong {
        let (code, told) = use_nats(&config, &server.url(), env).await;
        assert_eq!(code, Some(1), "{env:?}: {told}");
        assert!(told.contains("it refuses these credentials"), "{env:?}: {told}");
        assert!(!told.contains("wrong-one"), "{told}");
    }
    for env in right {
        let (code, told) = use_nats(&config, &server.url(), env).await;
        assert_eq!(code, Some(0), "{env:?}: {told}");
    }
}

fn file(folder: &TempDir, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// `nats://host` with a user before the host.
fn with_user(server: &Own<Nats>, user: &str) -> String {
    server.url().replace("nats://", &format!("nats://{user}@"))
}

/// Fails for a client that documents `nats://user:password@host` and sends neither.
#[tokio::test]
async fn a_user_and_a_password_are_sent() {
    let folder = TempDir::new().unwrap();
    let server = own_nats_with(|_| "authorization { user: tandem, password: \"s3cret @%\" }".to_owned()).await;
    let user = ("TANDEM_NATS__USER", "tandem");
    let in_file = file(&folder, "password", "s3cret @%\n");
    let in_url = with_user(&server, "tandem:s3cret%20%40%25");
    let wrong_in_url = with_user(&server, "tandem:wrong-one");
    asks(
        &server,
        &[
            &[user, ("TANDEM_NATS__PASSWORD", "s3cret @%")],
            &[user, ("TANDEM_NATS__PASSWORD_FILE", &in_file)],
            &[("TANDEM_NATS__URL", &in_url)],
        ],
        &[&[], &[user, ("TANDEM_NATS__PASSWORD", "wrong-one")], &[("TANDEM_NATS__URL", &wrong_in_url)]],
    )
    .await;
}

/// Somebody has changed the password while the service runs. Fails where it is only told that there is no connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_service_says_that_it_is_refused() {
    let mut server = own_nats_with(|_| "authorization { user: tandem, password: \"before\" }".to_owned()).await;
    let url = with_user(&server, "tandem:before");
    let service = Service::start_with(|config| config.nats.url = url.into()).await;
    service.ready().await;
    let file = server.store_dir().with_file_name("nats.conf");
    tokio::task::block_in_place(|| {
        std::fs::write(file, "authorization { user: tandem, password: \"after\" }").unwrap();
        server.restart().unwrap();
    });

    let told =
        |part: &Value| part["problem"].as_str().is_some_and(|told| told.contains("it refuses these credentials"));
    let ready = service.until("/readyz", |answer| told(&answer.body["nats"])).await;

    assert_eq!(ready.status, 503);
    assert!(!ready.body.to_string().contains("before"), "{}", ready.body);
}

#[tokio::test]
async fn a_token_is_sent() {
    let folder = TempDir::new().unwrap();
    let server = own_nats_with(|_| "authorization { token: \"t0ken\" }".to_owned()).await;
    let in_file = file(&folder, "token", "t0ken\n");
    let in_url = with_user(&server, "t0ken");
    asks(
        &server,
        &[
            &[("TANDEM_NATS__TOKEN", "t0ken")],
            &[("TANDEM_NATS__TOKEN_FILE", &in_file)],
            &[("TANDEM_NATS__URL", &in_url)],
        ],
        &[&[], &[("TANDEM_NATS__TOKEN", "wrong-one")]],
    )
    .await;
}

#[tokio::test]
async fn an_nkey_signs() {
    let folder = TempDir::new().unwrap();
    let (ours, other) = (KeyPair::new_user(), KeyPair::new_user());
    let config = format!("authorization {{ users = [{{ nkey: {} }}] }}", ours.public_key());
    let server = own_nats_with(move |_| config).await;
    let (seed, wrong) = (ours.seed().unwrap(), other.seed().unwrap());
    let in_file = file(&folder, "nkey", &seed);
    asks(
        &server,
        &[&[("TANDEM_NATS__NKEY", &seed)], &[("TANDEM_NATS__NKEY_FILE", &in_file)]],
        &[&[], &[("TANDEM_NATS__NKEY", &wrong)]],
    )
    .await;
}

/// A server of an operator's, as `nsc` makes them.
#[tokio::test]
async fn a_credentials_file_is_used() {
    let folder = TempDir::new().unwrap();
    let (operator, system, account) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account());
    let limits = json!({"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1,
                        "leaf": -1, "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1});
    let no_streams = json!({"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
                            "conn": -1, "leaf": -1});
    let of = |subject: &KeyPair, limits: &Value| {
        jwt(&operator, subject, "account", json!({"type": "account", "version": 2, "limits": limits}))
    };
    let config = format!(
        "operator: {}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload {{ {}: {}, {}: {} }}",
        jwt(&operator, &operator, "operator", json!({"type": "operator", "version": 2})),
        system.public_key(),
        system.public_key(),
        of(&system, &no_streams),
        account.public_key(),
        of(&account, &limits),
    );
    let server = own_nats_with(move |_| config).await;
    let credentials = |name: &str, account: &KeyPair| {
        let user = KeyPair::new_user();
        let claims = json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1});
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            jwt(account, &user, "user", claims),
            user.seed().unwrap()
        );
        file(&folder, name, &text)
    };
    let (ours, strange) = (credentials("ours", &account), credentials("strange", &KeyPair::new_account()));
    asks(
        &server,
        &[&[("TANDEM_NATS__CREDENTIALS_FILE", &ours)]],
        &[&[], &[("TANDEM_NATS__CREDENTIALS_FILE", &strange)]],
    )
    .await;
}

fn jwt(issuer: &KeyPair, subject: &KeyPair, name: &str, nats: Value) -> String {
    let encode = |json: Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
    let header = encode(json!({"typ": "JWT", "alg": "ed25519-nkey"}));
    let claims = json!({"jti": name, "iat": 1_700_000_000, "iss": issuer.public_key(), "name": name,
                        "sub": subject.public_key(), "nats": nats});
    let signed = format!("{header}.{}", encode(claims));
    let signature = BASE64_URL_SAFE_NO_PAD.encode(issuer.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}

/// A CA, and what it signs.
pub struct Authority {
    pub pem: String,
    issuer: Issuer<'static, CertificateKey>,
}

impl Authority {
    pub fn new() -> Self {
        let key = CertificateKey::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate for that name, and its key in PKCS #8.
    pub fn certificate(&self, name: &str) -> (CertificateDer<'static>, Vec<u8>) {
        let key = CertificateKey::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        (certificate.der().clone(), key.serialize_der())
    }

    /// A certificate for that name, and its key, in files of the folder.
    fn sign(&self, name: &str, folder: &Path, file: &str) -> (String, String) {
        let key = CertificateKey::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        let paths = ["pem", "key"].map(|kind| folder.join(format!("{file}.{kind}")));
        std::fs::write(&paths[0], certificate.pem()).unwrap();
        std::fs::write(&paths[1], key.serialize_pem()).unwrap();
        let [certificate, key] = paths.map(|path| path.display().to_string());
        (certificate, key)
    }
}

/// Fails for a client that takes whoever answers, and for one that says of a bad certificate that its time is up.
#[tokio::test]
async fn a_server_with_a_certificate_of_ones_own_ca_is_trusted_and_no_other() {
    let folder = TempDir::new().unwrap();
    let (ours, other) = (Authority::new(), Authority::new());
    let tls = |name: &str| {
        let (certificate, key) = ours.sign(name, folder.path(), name);
        let config = format!("tls {{ cert_file: \"{certificate}\", key_file: \"{key}\" }}");
        own_nats_with(move |_| config)
    };
    let (server, elsewhere) = (tls("127.0.0.1").await, tls("nats.example").await);
    let plain = own_nats().await;
    let (ours, other) = (file(&folder, "ca.pem", &ours.pem), file(&folder, "other.pem", &other.pem));
    let config = migrated().await;
    let ca = |file| [("TANDEM_NATS__CA_FILE", file)];

    for url in [server.url(), server.url().replace("nats://", "tls://")] {
        let (code, told) = use_nats(&config, &url, &ca(ours.as_str())).await;
        assert_eq!(code, Some(0), "{url}: {told}");
    }
    for (url, env, why) in [
        (server.url(), &ca(&other)[..], "its certificate is not trusted"),
        (server.url(), &[], "its certificate is not trusted"),
        (elsewhere.url(), &ca(&ours), "its certificate is not trusted"),
        // Somebody between who speaks no TLS does not make us do without.
        (plain.url(), &ca(&ours), "speaks no TLS"),
        (server.url(), &ca("/nowhere/ca.pem"), "TANDEM_NATS__CA_FILE: /nowhere/ca.pem cannot be read"),
    ] {
        let (code, told) = use_nats(&config, &url, env).await;
        assert_eq!(code, Some(1), "{url} {env:?}: {told}");
        assert!(told.contains(why), "{url} {env:?}: {told}");
    }
}

#[tokio::test]
async fn a_certificate_of_our_own_is_shown() {
    let folder = TempDir::new().unwrap();
    let authority = Authority::new();
    let ca = file(&folder, "ca.pem", &authority.pem);
    let (certificate, key) = authority.sign("127.0.0.1", folder.path(), "server");
    let config =
        format!("tls {{ cert_file: \"{certificate}\", key_file: \"{key}\", ca_file: \"{ca}\", verify: true }}");
    let server = own_nats_with(move |_| config).await;
    let (certificate, key) = authority.sign("tandem", folder.path(), "client");
    let (stranger, stranger_key) = Authority::new().sign("tandem", folder.path(), "stranger");
    let config = migrated().await;
    let shown = |certificate, key| {
        [("TANDEM_NATS__CA_FILE", ca.as_str()), ("TANDEM_NATS__CERT_FILE", certificate), ("TANDEM_NATS__KEY_FILE", key)]
    };

    let (code, told) = use_nats(&config, &server.url(), &shown(&certificate, &key)).await;
    assert_eq!(code, Some(0), "{told}");
    for env in [&shown(&stranger, &stranger_key)[..], &shown(&certificate, &key)[..1]] {
        let (code, told) = use_nats(&config, &server.url(), env).await;
        assert_eq!(code, Some(1), "{told}");
        assert!(told.contains("it refuses our certificate"), "{told}");
    }
}

/// The file that operators are told to begin with: all that Tandem does is allowed, and nobody else may publish.
#[tokio::test]
async fn with_the_permissions_of_the_documentation_everything_works() {
    let text = include_str!("../../../deploy/nats.conf");
    let text = text.replace("$TANDEM_PASSWORD", "tandem-password").replace("$READER_PASSWORD", "reader-password");
    let server = own_nats_with(move |_| text).await;
    let url = with_user(&server, "tandem:tandem-password");
    let service = Service::start_with(|config| {
        config.nats.url = url.clone().into();
        "CATALOG".clone_into(&mut config.nats.stream);
        "catalog".clone_into(&mut config.nats.root);
    })
    .await;
    let run = async |arguments: &[&str]| {
        let mut command = crate::commands::tandem(&service.config, arguments);
        let Output { status, stdout, stderr } =
            tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap();
        let said = [stdout, stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        assert_eq!(status.code(), Some(0), "{arguments:?}: {said}");
    };
    let ada = service.ada().await;
    service.until(&format!("/customers/{ada}/events"), |answer| answer.body["data"][0]["position"] == 1).await;
    run(&["stream", "check"]).await;
    run(&["rebuild", "customers"]).await;
    run(&["stream", "rebuild", "--yes"]).await;
    service.ready().await;
    service.delete(&ada).await;
    service.until(&format!("/customers/{ada}/events"), |answer| answer.body["data"][1]["position"] == 2).await;
    run(&["erase", &ada, "--yes"]).await;
    run(&["status"]).await;
    // What is not allowed would be a violation, which the server tells its client and Tandem only logs.
    let violations = std::fs::read_to_string(server.store_dir().with_extension("log")).unwrap();
    let violations: Vec<&str> = violations.lines().filter(|line| line.contains("Violation")).collect();
    assert_eq!(violations, [] as [&str; 0]);

    let reader = async_nats::ConnectOptions::new()
        .user_and_password("reader".to_owned(), "reader-password".to_owned())
        .connect(server.url())
        .await
        .unwrap();
    let mut stream = async_nats::jetstream::new(reader.clone()).get_stream("CATALOG").await.unwrap();
    published(&mut stream, 3).await;
    let before = stream.cached_info().state.last_sequence;
    reader.publish("catalog.customer.x.updated", "{}".into()).await.unwrap();
    reader.flush().await.unwrap();
    assert_eq!(stream.get_info().await.unwrap().state.last_sequence, before);
    assert!(stream.delete_message(1).await.is_err());
}
