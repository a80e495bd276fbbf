//! Calls of anything are answered, and none by a 5xx; those of other sites by none of what is here.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use stripe_sim::{Options, Sim};

#[tokio::test]
async fn a_form_of_anything_is_taken_or_refused() {
    let sim = Sim::start(Options::default()).await.unwrap();
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    let names = "(name|email|address|metadata|expand|limit|created)(\\[[a-z0-9%\\[\\]]{0,6}\\]?){0,3}";
    let form = prop::collection::vec((names, any::<String>()), 0..6).prop_map(|pairs| {
        let pairs = pairs.into_iter().map(|(name, value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join("&").into_bytes()
    });
    let bodies = prop_oneof![form, any::<Vec<u8>>()];
    let mut runner = TestRunner::deterministic();
    for _ in 0..300 {
        let body = bodies.new_tree(&mut runner).unwrap().current();
        let request = http.post(format!("{}/v1/customers", sim.url().trim_end_matches('/')));
        let request = request.basic_auth("sk_test_1", Some("")).body(body.clone());
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let answer = request.send().await.unwrap();
        assert!(answer.status().as_u16() < 500, "{} for {:?}", answer.status(), String::from_utf8_lossy(&body));
    }
}

/// Fails for a local Stripe that any web page may ask which is open on this machine.
#[tokio::test]
async fn only_this_machine_is_answered_by_whatever_path() {
    let sim = Sim::start(Options::default()).await.unwrap();
    let http = reqwest::Client::builder().tls_certs_only([]).build().unwrap();
    let ask = async |method: &str, path: &str, header: (&str, &str)| {
        let url = format!("{}{path}", sim.url().trim_end_matches('/'));
        let request = http.request(method.parse().unwrap(), url).basic_auth("sk_test_1", Some(""));
        request.header(header.0, header.1).send().await.unwrap().status().as_u16()
    };
    let paths = [("GET", "/"), ("GET", "/v1/customers"), ("GET", "/_sim/customers"), ("DELETE", "/_sim/calls")];
    for (method, path) in paths {
        for header in [
            ("host", "rebound.example"),
            ("host", "evil.example@localhost"),
            ("host", "[::1]evil.example"),
            ("origin", "https://page.example"),
            ("origin", "null"),
        ] {
            assert_eq!(ask(method, path, header).await, 403, "{method} {path} {header:?}");
        }
        for header in [("host", "localhost:12111"), ("origin", "http://127.0.0.1:12111"), ("origin", "http://[::1]")] {
            assert_eq!(ask(method, path, header).await / 100, 2, "{method} {path} {header:?}");
        }
    }
}
