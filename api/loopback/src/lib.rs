#![doc = include_str!("../README.md")]

use std::net::{Ipv4Addr, Ipv6Addr};

use http::{HeaderMap, HeaderValue, Uri, header};

/// It names this machine as the one that it asks, and no other as the site that it comes from.
pub fn is_local(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter().peekable();
    (hosts.peek().is_some() || uri.authority().is_some())
        && uri.authority().is_none_or(|authority| is_loopback(authority.as_str()))
        && hosts.all(|host| host.to_str().is_ok_and(is_loopback))
        && headers.get_all(header::ORIGIN).iter().all(is_local_site)
}

fn is_local_site(origin: &HeaderValue) -> bool {
    let origin = origin.to_str().unwrap_or_default();
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    authority.is_some_and(is_loopback)
}

/// Read to the letter, as RFC 9110 has `Host`: a name or an address, and a port. Whatever more it has is refused, since
/// others may read it otherwise.
fn is_loopback(authority: &str) -> bool {
    let (is_loopback, rest) = match authority.strip_prefix('[') {
        Some(bracketed) => {
            let Some((address, rest)) = bracketed.split_once(']') else { return false };
            (address.parse().is_ok_and(|address: Ipv6Addr| address.is_loopback()), rest)
        }
        None => {
            let (name, rest) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            let is_address = name.parse().is_ok_and(|address: Ipv4Addr| address.is_loopback());
            (is_address || name.eq_ignore_ascii_case("localhost"), rest)
        }
    };
    is_loopback && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port))
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
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
        for host in [
            "x@localhost",
            "x:y@localhost:8080",
            "@localhost",
            "localhost@",
            "[::1]x",
            "[::1]:8080x",
            "[::1]:",
            "[::1",
            "::1]",
            "[localhost]",
            "[127.0.0.1]",
            "[[::1]]",
            "[::1%25lo]",
            "localhost:",
            "localhost:x",
            "localhost:+80",
            "localhost:65536",
            "localhost:80:80",
            "localhost#x",
            "localhost?x",
            "localhost,x",
            "localhost x",
            "127.0.0.1.",
            "0x7f000001",
            "127.1",
        ] {
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
        for origin in [
            "http://x@localhost",
            "http://[::1]x",
            "http://[::1",
            "http://localhost/",
            "http://localhost/x",
            "http://localhost:",
            "http://localhost?x",
            "http://localhost#x",
            "http://localhost http://x",
            "localhost",
            "//localhost",
            "http:localhost",
            "chrome-extension://localhost",
            "http://x://localhost",
        ] {
            assert!(!from(origin), "{origin}");
        }
    }
}
