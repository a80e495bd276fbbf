//! How this process shows who it is to NATS, and how it knows the server: settings into options of a connection.

use std::fs;
use std::path::Path;
use std::time::Duration;

use async_nats::rustls;
use async_nats::{ConnectError, ConnectErrorKind, ConnectOptions, ServerAddr};
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};

use crate::config::{ConfigError, NatsConfig};
use crate::connect::wrong;

/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who this process is. One way at most.
#[derive(Debug)]
enum Login {
    Nobody,
    User(String, SecretString),
    Token(SecretString),
    /// What a credentials file holds: a JWT and the seed that signs for it.
    Credentials(SecretString),
    Nkey(SecretString),
}

/// NATS refuses us, or shows a certificate that we do not trust: a person has to mend it.
#[derive(Debug, thiserror::Error)]
#[error("NATS at {place} (TANDEM_NATS__URL): {reason}")]
pub struct NatsRefused {
    place: String,
    reason: &'static str,
    /// What the client says.
    #[source]
    source: ConnectError,
}

/// Whether the settings fit together. Reads no file.
///
/// # Errors
/// Names the settings that contradict each other.
pub(crate) fn check(nats: &NatsConfig) -> Result<(), ConfigError> {
    let both = |one: (&str, bool), other: (&str, bool)| {
        if one.1 && other.1 {
            let reason = format!("must not be set beside TANDEM_NATS__{}", other.0);
            return Err(wrong(&format!("TANDEM_NATS__{}", one.0), &reason));
        }
        Ok(())
    };
    both(("PASSWORD_FILE", nats.password_file.is_some()), ("PASSWORD", nats.password.is_some()))?;
    both(("TOKEN_FILE", nats.token_file.is_some()), ("TOKEN", nats.token.is_some()))?;
    both(("NKEY_FILE", nats.nkey_file.is_some()), ("NKEY", nats.nkey.is_some()))?;
    let has_password = nats.password.is_some() || nats.password_file.is_some();
    if nats.user.is_some() && !has_password {
        return Err(wrong("TANDEM_NATS__USER", "needs TANDEM_NATS__PASSWORD or TANDEM_NATS__PASSWORD_FILE"));
    }
    if has_password && nats.user.is_none() {
        let name = if nats.password.is_some() { "PASSWORD" } else { "PASSWORD_FILE" };
        return Err(wrong(&format!("TANDEM_NATS__{name}"), "needs TANDEM_NATS__USER"));
    }
    let (_, in_url) = servers(nats)?;
    let ways = [
        ("USER", nats.user.is_some()),
        ("TOKEN", nats.token.is_some()),
        ("TOKEN_FILE", nats.token_file.is_some()),
        ("CREDENTIALS_FILE", nats.credentials_file.is_some()),
        ("NKEY", nats.nkey.is_some()),
        ("NKEY_FILE", nats.nkey_file.is_some()),
        ("URL, which names a user", in_url.is_some()),
    ];
    let mut set = ways.into_iter().filter(|(_, set)| *set);
    if let (Some(one), Some(other)) = (set.next(), set.next()) {
        both(one, other)?;
    }
    match (&nats.cert_file, &nats.key_file) {
        (Some(_), None) => Err(wrong("TANDEM_NATS__CERT_FILE", "needs TANDEM_NATS__KEY_FILE")),
        (None, Some(_)) => Err(wrong("TANDEM_NATS__KEY_FILE", "needs TANDEM_NATS__CERT_FILE")),
        _ => Ok(()),
    }
}

/// Where the servers are, without whom the URL names, and whom it names: for all servers the same.
fn servers(nats: &NatsConfig) -> Result<(Vec<ServerAddr>, Option<Login>), ConfigError> {
    let setting = "TANDEM_NATS__URL";
    let mut named: Option<(String, Option<String>)> = None;
    let mut servers = vec![];
    for (index, url) in nats.url.expose_secret().split(',').enumerate() {
        let server = url.trim().parse::<ServerAddr>().ok().filter(|server| ["nats", "tls"].contains(&server.scheme()));
        let server = server
            .ok_or_else(|| wrong(setting, "is not the URL of a NATS server: nats://host:port or tls://host:port"))?;
        let decoded = |text: &str| percent_decode_str(text).decode_utf8().map(|text| text.into_owned());
        let user = server.username().map(|user| Ok((decoded(user)?, server.password().map(decoded).transpose()?)));
        let user: Option<(String, Option<String>)> =
            user.transpose().map_err(|_: std::str::Utf8Error| wrong(setting, "names a user that is not UTF-8 text"))?;
        if index > 0 && user != named {
            return Err(wrong(setting, "must name the same user and password for every server"));
        }
        named = user;
        let (scheme, host, port) = (server.scheme(), server.host(), server.port());
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let bare = format!("{scheme}://{host}:{port}").parse();
        servers.push(bare.map_err(|_| wrong(setting, "is not the URL of a NATS server"))?);
    }
    let login = named.map(|(user, password)| match password {
        Some(password) => Login::User(user, password.into()),
        // As in every client of NATS: one word alone is a token.
        None => Login::Token(user.into()),
    });
    Ok((servers, login))
}

/// The servers, and how to connect to them.
///
/// # Errors
/// Names the setting whose file cannot be used.
pub(crate) fn options(nats: &NatsConfig) -> Result<(Vec<ServerAddr>, ConnectOptions), ConfigError> {
    check(nats)?;
    let (servers, in_url) = servers(nats)?;
    let mut options = ConnectOptions::new().name("tandem");
    options = match login(nats, in_url)? {
        Login::Nobody => options,
        Login::User(user, password) => options.user_and_password(user, password.expose_secret().to_owned()),
        Login::Token(token) => options.token(token.expose_secret().to_owned()),
        Login::Nkey(seed) => {
            // The client would only say, later, that it could not sign.
            if nkeys::KeyPair::from_seed(seed.expose_secret()).is_err() {
                let name = if nats.nkey.is_some() { "TANDEM_NATS__NKEY" } else { "TANDEM_NATS__NKEY_FILE" };
                return Err(wrong(name, "is not the seed of an nkey: it begins with SU"));
            }
            options.nkey(seed.expose_secret().to_owned())
        }
        Login::Credentials(text) => options
            .credentials(text.expose_secret())
            .map_err(|_| wrong("TANDEM_NATS__CREDENTIALS_FILE", "does not hold a NATS user's JWT and seed"))?,
    };
    if let Some(path) = &nats.ca_file {
        readable("TANDEM_NATS__CA_FILE", path)?;
        // Whoever named a CA wants no connection without it, whatever the server says.
        options = options.add_root_certificates(path.clone()).require_tls(true);
    }
    if let (Some(cert), Some(key)) = (&nats.cert_file, &nats.key_file) {
        readable("TANDEM_NATS__CERT_FILE", cert)?;
        readable("TANDEM_NATS__KEY_FILE", key)?;
        options = options.add_client_certificate(cert.clone(), key.clone()).require_tls(true);
    }
    Ok((servers, options))
}

fn login(nats: &NatsConfig, in_url: Option<Login>) -> Result<Login, ConfigError> {
    let either = |name: &str, given: &Option<SecretString>, file: &Option<std::path::PathBuf>| match (given, file) {
        (Some(secret), _) => Ok(Some(secret.clone())),
        (None, Some(path)) => secret(&format!("TANDEM_NATS__{name}_FILE"), path).map(Some),
        (None, None) => Ok(None),
    };
    if let (Some(user), Some(password)) = (&nats.user, either("PASSWORD", &nats.password, &nats.password_file)?) {
        return Ok(Login::User(user.clone(), password));
    }
    if let Some(token) = either("TOKEN", &nats.token, &nats.token_file)? {
        return Ok(Login::Token(token));
    }
    if let Some(seed) = either("NKEY", &nats.nkey, &nats.nkey_file)? {
        return Ok(Login::Nkey(seed));
    }
    if let Some(path) = &nats.credentials_file {
        let text = secret("TANDEM_NATS__CREDENTIALS_FILE", path)?;
        // The client wants its last line ended.
        return Ok(Login::Credentials(format!("{}\n", text.expose_secret()).into()));
    }
    Ok(in_url.unwrap_or(Login::Nobody))
}

/// What a file holds, without the line's end that editors add.
fn secret(setting: &str, path: &Path) -> Result<SecretString, ConfigError> {
    let text = fs::read_to_string(path).map_err(|error| unreadable(setting, path, &error))?;
    let text = text.trim_end_matches(['\n', '\r']);
    if text.is_empty() { Err(wrong(setting, &format!("{} is empty", path.display()))) } else { Ok(text.into()) }
}

fn readable(setting: &str, path: &Path) -> Result<(), ConfigError> {
    fs::File::open(path).map(drop).map_err(|error| unreadable(setting, path, &error))
}

fn unreadable(setting: &str, path: &Path, error: &std::io::Error) -> ConfigError {
    wrong(setting, &format!("{} cannot be read: {error}", path.display()))
}

/// Connects once: a client that connects in the background would only say that it waited in vain. NATS being away is no
/// failure here.
///
/// # Errors
/// [`NatsRefused`] says whether it is the credentials or a certificate.
pub(crate) async fn probe(servers: &[ServerAddr], options: ConnectOptions) -> Result<(), NatsRefused> {
    let options = options.connection_timeout(PATIENCE);
    let Ok(connected) = tokio::time::timeout(PATIENCE, options.connect(servers.to_vec())).await else { return Ok(()) };
    let Err(source) = connected else { return Ok(()) };
    let reason = match source.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            "it refuses these credentials: see TANDEM_NATS__USER, …__TOKEN, …__NKEY and …__CREDENTIALS_FILE"
        }
        ConnectErrorKind::Tls => "no TLS: see TANDEM_NATS__CA_FILE, …__CERT_FILE and …__KEY_FILE",
        _ => match tls(&source) {
            Some(rustls::Error::InvalidCertificate(_)) => {
                "its certificate is not trusted: TANDEM_NATS__CA_FILE has to hold the CA that signed it, and the certificate this host's name"
            }
            Some(rustls::Error::AlertReceived(_)) => {
                "it refuses our certificate: see TANDEM_NATS__CERT_FILE and TANDEM_NATS__KEY_FILE"
            }
            Some(_) => "it speaks no TLS that can be used: is it set up for TLS?",
            None => return Ok(()),
        },
    };
    let places: Vec<String> = servers.iter().map(|server| format!("{}:{}", server.host(), server.port())).collect();
    Err(NatsRefused { place: places.join(", "), reason, source })
}

/// What TLS has against it, if that is the cause.
fn tls<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // An I/O error that wraps another tells of that one's cause, not of itself.
        let within = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match within {
            Some(within) => Some(within),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nats(url: &str, change: impl FnOnce(&mut NatsConfig)) -> NatsConfig {
        let mut nats = NatsConfig { url: url.into(), ..NatsConfig::default() };
        change(&mut nats);
        nats
    }

    #[test]
    fn settings_that_contradict_each_other_are_named() {
        let complaint = |url: &str, change: fn(&mut NatsConfig)| check(&nats(url, change)).unwrap_err().to_string();
        let here = "nats://127.0.0.1:4222";
        for (told, complaint) in [
            ("USER: needs TANDEM_NATS__PASSWORD or", complaint(here, |nats| nats.user = Some("u".into()))),
            ("PASSWORD: needs TANDEM_NATS__USER", complaint(here, |nats| nats.password = Some("p".into()))),
            (
                "PASSWORD_FILE: must not be set beside TANDEM_NATS__PASSWORD",
                complaint(here, |nats| {
                    nats.password = Some("p".into());
                    nats.password_file = Some("p".into());
                }),
            ),
            (
                "TOKEN: must not be set beside TANDEM_NATS__CREDENTIALS_FILE",
                complaint(here, |nats| {
                    nats.token = Some("t".into());
                    nats.credentials_file = Some("c".into());
                }),
            ),
            (
                "NKEY: must not be set beside TANDEM_NATS__URL, which names a user",
                complaint("nats://u:p@127.0.0.1", |nats| nats.nkey = Some("SU".into())),
            ),
            ("CERT_FILE: needs TANDEM_NATS__KEY_FILE", complaint(here, |nats| nats.cert_file = Some("c".into()))),
            ("URL: must name the same user", complaint("nats://u:p@a,nats://u:q@b", |_| {})),
            ("URL: must name the same user", complaint("nats://u:p@a,nats://b", |_| {})),
            ("URL: is not the URL of a NATS server", complaint("http://a", |_| {})),
            ("URL: names a user that is not UTF-8", complaint("nats://%ff:p@a", |_| {})),
        ] {
            assert!(complaint.starts_with(&format!("TANDEM_NATS__{told}")), "{told}: {complaint}");
        }
        check(&nats("nats://u:p@a,tls://u:p@b:4223", |_| {})).unwrap();
    }

    #[test]
    fn the_url_is_dialled_without_the_secrets_in_it() {
        let (servers, login) = servers(&nats("nats://u%40x:p%3A@[::1]:4333,tls://u%40x:p%3A@b", |_| {})).unwrap();
        let servers: Vec<String> =
            servers.iter().map(|one| format!("{} {} {}", one.scheme(), one.host(), one.port())).collect();
        assert_eq!(servers, ["nats ::1 4333", "tls b 4222"]);
        let Some(Login::User(user, password)) = login else { panic!("{login:?}") };
        assert_eq!((user.as_str(), password.expose_secret()), ("u@x", "p:"));
    }
}
