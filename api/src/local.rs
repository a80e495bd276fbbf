//! Requests from this machine to this machine: all that a service without API keys lets in.
//!
//! To listen on the loopback is not enough. A web page that a browser here shows may send a request without a body to
//! any address, and may read the answer, too, once the page's own name points to 127.0.0.1. The browser tells of both,
//! by `Origin` and `Host`.

use std::net::IpAddr;

use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri, header};

/// It names this machine as the one that it asks, and no other as the site that it comes from.
pub(crate) fn is_local(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter().peekable();
    (hosts.peek().is_some() || uri.authority().is_some())
        && uri.authority().is_none_or(is_loopback)
        && hosts.all(|host| Authority::try_from(host.as_bytes()).is_ok_and(|host| is_loopback(&host)))
        && headers.get_all(header::ORIGIN).iter().all(|origin| {
            Uri::try_from(origin.as_bytes()).is_ok_and(|origin| origin.authority().is_some_and(is_loopback))
        })
}

fn is_loopback(authority: &Authority) -> bool {
    let host = authority.host();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(uri: &str, headers: &[(header::HeaderName, &str)]) -> bool {
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        is_local(&uri.parse().unwrap(), &headers)
    }

    #[test]
    fn every_host_that_is_named_must_be_this_machine() {
        for host in ["localhost", "localhost:8080", "127.0.0.1:8080", "127.1.2.3", "[::1]", "[::1]:8080"] {
            assert!(asked("/customers", &[(header::HOST, host)]), "{host}");
        }
        for host in ["", "x", "localhost.x", "10.0.0.1", "0.0.0.0", "[::]", "::1", "127.0.0.1@x", "x:y:z", "localhost/"]
        {
            assert!(!asked("/customers", &[(header::HOST, host)]), "{host}");
        }
        assert!(asked("http://localhost/customers", &[]));
        assert!(!asked("http://x/customers", &[(header::HOST, "localhost")]));
        assert!(!asked("http://localhost/customers", &[(header::HOST, "x")]));
        assert!(!asked("/customers", &[(header::HOST, "localhost"), (header::HOST, "x")]));
        assert!(!asked("/customers", &[]));
    }

    #[test]
    fn the_site_that_asks_must_be_this_machine_if_it_is_named() {
        let from = |origin| asked("/customers", &[(header::HOST, "localhost"), (header::ORIGIN, origin)]);
        assert!(from("http://localhost:3000") && from("https://127.0.0.1") && from("http://[::1]:1"));
        for origin in
            ["null", "", "https://x", "http://localhost.x", "http://localhost@x", "file://", "chrome-extension://x"]
        {
            assert!(!from(origin), "{origin}");
        }
    }
}
