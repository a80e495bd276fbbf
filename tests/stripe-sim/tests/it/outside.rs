//! Calls of anything are answered, and none by a 5xx.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use stripe_sim::{Options, Sim};

#[tokio::test]
async fn a_form_of_anything_is_taken_or_refused() {
    let sim = Sim::start(Options::default()).await.unwrap();
    let http = reqwest::Client::builder().tls_certs_only([]).build().unwrap();
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
