//! A PostgreSQL that is reached over TLS: by the certificate of a CA that was named, and by no other.

use std::process::Output;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use secrecy::ExposeSecret;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::commands::tandem;
use crate::nats::Authority;
use crate::service::{PATIENCE, fresh_config};

/// What a client of PostgreSQL sends first: eight bytes, and this code.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Speaks TLS with clients as PostgreSQL does, which the tests' own cannot. Returns its port.
async fn tls_before(server: String, authority: &Authority, name: &str) -> u16 {
    let (certificate, key) = authority.certificate(name);
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], PrivatePkcs8KeyDer::from(key).into())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (acceptor, server) = (acceptor.clone(), server.clone());
            tokio::spawn(async move {
                let mut request = [0; 8];
                client.read_exact(&mut request).await?;
                if request != SSL_REQUEST {
                    return Ok(());
                }
                client.write_all(b"S").await?;
                let mut client = acceptor.accept(client).await?;
                copy_bidirectional(&mut client, &mut TcpStream::connect(server).await?).await?;
                std::io::Result::Ok(())
            });
        }
    });
    port
}

#[tokio::test]
async fn postgresql_is_trusted_by_the_ca_that_was_named_and_by_its_name() {
    let folder = TempDir::new().unwrap();
    let config = fresh_config().await;
    let (ours, other) = (Authority::new(), Authority::new());
    let [ca, strange] = [("ca.pem", &ours), ("other.pem", &other)].map(|(name, authority)| {
        let path = folder.path().join(name);
        std::fs::write(&path, &authority.pem).unwrap();
        path.display().to_string()
    });
    let mut url = url::Url::parse(config.database.url.expose_secret()).unwrap();
    let server = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    let right = tls_before(server.clone(), &ours, "localhost").await;
    let elsewhere = tls_before(server, &ours, "postgres.example").await;
    url.set_host(Some("localhost")).unwrap();

    for (port, ca, trusted) in [(right, &ca, true), (right, &strange, false), (elsewhere, &ca, false)] {
        url.set_port(Some(port)).unwrap();
        url.set_query(Some(&format!("sslmode=verify-full&sslrootcert={ca}")));
        let mut command = tandem(&config, &["migrate"]);
        command.env("TANDEM_DATABASE__URL", url.as_str());
        let ended = tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap();
        let Output { status, stderr, .. } = ended;
        let told = String::from_utf8(stderr).unwrap();
        assert_eq!(status.success(), trusted, "{told}");
        assert!(trusted || told.contains("invalid peer certificate"), "{told}");
    }
}
