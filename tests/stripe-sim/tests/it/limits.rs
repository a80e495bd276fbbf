//! Rate limits.

use stripe_sim::{RateLimit, Settings};

use crate::fixtures::stripe;

#[tokio::test]
async fn calls_beyond_a_limit_are_told_which_one() {
    let stripe = stripe().await;
    // So slow that no bucket fills again while the test runs.
    let per_endpoint = Settings { rate_limit: Some(RateLimit { account: 25, endpoint: 1 }), ..Settings::default() };
    stripe.control.set(&per_endpoint).await.unwrap();
    let answers = futures::future::join_all((0..20).map(|_| stripe.get("/v1/customers"))).await;
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert!(!refused.is_empty());
    for refused in refused {
        assert_eq!(refused.error(), "429 invalid_request_error rate_limit -");
        assert_eq!(refused.header("stripe-rate-limited-reason"), Some("endpoint-rate"));
        assert_eq!(refused.header("retry-after"), None);
    }
}

#[tokio::test]
async fn no_limit_holds_unless_one_is_set() {
    let stripe = stripe().await;
    let answers = futures::future::join_all((0..200).map(|_| stripe.get("/v1/customers"))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
}
