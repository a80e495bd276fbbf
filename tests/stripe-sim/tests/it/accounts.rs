//! Several accounts: nobody sees another's customers.

use serde_json::{Value, json};
use stripe_sim::{Account, Options, Sim};

const PLATFORM: &str = "sk_test_platform";

async fn ask(sim: &Sim, method: reqwest::Method, path: &str, key: &str, account: Option<&str>) -> (u16, Value) {
    let mut request =
        crate::fixtures::http_client().request(method.clone(), format!("{}{path}", sim.url())).bearer_auth(key);
    if let Some(account) = account {
        request = request.header("stripe-account", account);
    }
    if method == reqwest::Method::POST {
        request = request.form(&[("name", "Ada"), ("email", "ada@old.example")]);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

async fn accounts() -> Sim {
    let own = Account { id: "acct_own".into(), secret_key: Some("sk_test_own".into()), webhooks: vec![] };
    let accounts = vec![Account::connected("acct_eu"), Account::connected("acct_us"), own];
    Sim::start(Options { accounts, ..Options::default() }).await.unwrap()
}

#[tokio::test]
async fn customers_of_one_account_are_never_seen_by_another() {
    let sim = accounts().await;
    let (status, ada) = ask(&sim, reqwest::Method::POST, "/v1/customers", PLATFORM, Some("acct_eu")).await;
    assert_eq!(status, 200);
    let path = format!("/v1/customers/{}", ada["id"].as_str().unwrap());
    let eyes = [(PLATFORM, Some("acct_eu")), (PLATFORM, Some("acct_us")), (PLATFORM, None), ("sk_test_own", None)];
    for (key, account) in eyes {
        let its_own = account == Some("acct_eu");
        let (status, _) = ask(&sim, reqwest::Method::GET, &path, key, account).await;
        assert_eq!(status == 200, its_own, "{account:?}");
        for list in ["/v1/customers", "/v1/customers?email=ada@old.example", "/v1/events"] {
            let (_, listed) = ask(&sim, reqwest::Method::GET, list, key, account).await;
            assert_eq!(listed["data"].as_array().unwrap().len(), usize::from(its_own), "{account:?} {list}");
        }
    }
    assert_eq!(sim.control_of("acct_eu").customers().await.unwrap().len(), 1);
    assert!(sim.control().customers().await.unwrap().is_empty());
}

#[tokio::test]
async fn events_of_a_connected_account_name_it_and_others_name_none() {
    let sim = accounts().await;
    for (key, account) in [(PLATFORM, Some("acct_eu")), (PLATFORM, None), ("sk_test_own", None)] {
        ask(&sim, reqwest::Method::POST, "/v1/customers", key, account).await;
        let (_, events) = ask(&sim, reqwest::Method::GET, "/v1/events", key, account).await;
        assert_eq!(events["data"][0].get("account"), account.map(|account| json!(account)).as_ref());
    }
}

#[tokio::test]
async fn an_account_that_is_not_connected_is_refused() {
    let sim = accounts().await;
    for account in ["acct_none", "acct_own"] {
        let (status, refusal) = ask(&sim, reqwest::Method::GET, "/v1/customers", PLATFORM, Some(account)).await;
        assert_eq!((status, &refusal["error"]["code"]), (403, &json!("account_invalid")));
    }
}
