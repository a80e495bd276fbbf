//! The catalog over HTTP, as its users meet it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::Tandem;

/// A customer as `GET /customers/{id}` shows one.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[allow(missing_docs, reason = "the API's own names")]
pub struct Customer {
    pub id: String,
    pub name: Option<String>,
    pub email: Option<String>,
    pub phone: Option<String>,
    pub address: Option<Value>,
    pub metadata: BTreeMap<String, String>,
    pub version: u64,
}

impl Tandem {
    /// `POST /customers`.
    pub async fn create(&self, name: &str, email: &str) -> Customer {
        let response = self.post("/customers", json!({"name": name, "email": email})).await;
        assert_eq!(response.status(), 201);
        response.json().await.expect("a customer")
    }

    /// `PATCH /customers/{id}`.
    pub async fn patch(&self, id: &str, patch: Value) -> Customer {
        let response =
            self.http.patch(self.at(&format!("/customers/{id}"))).json(&patch).send().await.expect("an answer");
        let status = response.status();
        let body = response.text().await.expect("a body");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("a customer")
    }

    /// `DELETE /customers/{id}`.
    pub async fn delete(&self, id: &str) {
        let response = self.http.delete(self.at(&format!("/customers/{id}"))).send().await.expect("an answer");
        assert_eq!(response.status(), 204);
    }

    /// `GET /customers/{id}`.
    pub async fn get(&self, id: &str) -> Customer {
        let response = self.read(&format!("/customers/{id}")).await;
        assert_eq!(response.status(), 200);
        response.json().await.expect("a customer")
    }

    /// The status of `GET /customers/{id}`.
    pub async fn status_of(&self, id: &str) -> u16 {
        self.read(&format!("/customers/{id}")).await.status().as_u16()
    }

    /// Every living customer.
    pub async fn customers(&self) -> Vec<Customer> {
        let page = self.get_json("/customers?limit=100").await;
        serde_json::from_value(page["data"].clone()).expect("customers")
    }

    /// The types of a customer's events, oldest first.
    pub async fn history(&self, id: &str) -> Vec<String> {
        let events = self.events(id).await;
        events.iter().map(|event| event["type"].as_str().expect("a type").to_owned()).collect()
    }

    /// A customer's events, oldest first.
    pub async fn events(&self, id: &str) -> Vec<Value> {
        let mut events = vec![];
        let mut after = 0;
        loop {
            let page = self.get_json(&format!("/customers/{id}/events?after={after}")).await;
            events.extend_from_slice(page["data"].as_array().expect("events"));
            match page["next"].as_u64() {
                Some(next) => after = next,
                None => return events,
            }
        }
    }

    /// What is parked.
    pub async fn parked(&self) -> Vec<Value> {
        self.get_json("/parked").await["data"].as_array().expect("parked").clone()
    }

    /// A POST of JSON.
    pub async fn post(&self, path: &str, body: Value) -> reqwest::Response {
        self.http.post(self.at(path)).json(&body).send().await.expect("an answer")
    }

    /// A GET that succeeds with JSON.
    pub async fn get_json(&self, path: &str) -> Value {
        let response = self.read(path).await;
        assert_eq!(response.status(), 200, "GET {path}");
        response.json().await.expect("JSON")
    }

    /// A GET, sent again as long as it is answered 503, as that answer asks: a PostgreSQL that was killed leaves connections
    /// that are found dead one by one.
    async fn read(&self, path: &str) -> reqwest::Response {
        self.find("an answer", || async {
            let response = self.http.get(self.at(path)).send().await.expect("an answer");
            (response.status() != 503).then_some(response)
        })
        .await
    }

    /// The Stripe customer that a customer of the catalog is linked to, once it is.
    pub async fn remote(&self, id: &str) -> stripe_sim::Customer {
        self.remote_at("stripe", id).await
    }

    /// The same at another gateway.
    pub async fn remote_at(&self, gateway: &str, id: &str) -> stripe_sim::Customer {
        let remote_id = self.remote_id_at(gateway, id).await;
        self.stripe_of(gateway).get(&remote_id).await.expect("the linked object")
    }

    /// What Stripe calls it, once it does.
    pub async fn remote_id(&self, id: &str) -> String {
        self.remote_id_at("stripe", id).await
    }

    /// What another gateway calls it, once it does.
    pub async fn remote_id_at(&self, gateway: &str, id: &str) -> String {
        self.find("a link", || async {
            let links = self.get_json(&format!("/customers/{id}/links")).await;
            let link = links["data"].as_array()?.iter().find(|link| link["gateway"] == gateway)?;
            link["remote_id"].as_str().map(ToOwned::to_owned)
        })
        .await
    }

    /// The catalog's customer that is linked to a Stripe customer, once there is one.
    pub async fn local_id(&self, remote_id: &str) -> String {
        self.find("an import", || async {
            let found: Option<uuid::Uuid> =
                sqlx::query_scalar("SELECT customer_id FROM links WHERE remote_id = $1 AND synced_at IS NOT NULL")
                    .bind(remote_id)
                    .fetch_optional(&self.database)
                    .await
                    .expect("the database");
            found.map(|id| id.to_string())
        })
        .await
    }

    /// All sides hold the same.
    pub async fn assert_equal(&self, id: &str) {
        for gateway in self.gateways() {
            self.assert_equal_at(gateway, id).await;
        }
    }

    /// That gateway and the catalog hold the same.
    pub async fn assert_equal_at(&self, gateway: &str, id: &str) {
        let (here, there) = (self.get(id).await, self.remote_at(gateway, id).await);
        assert_eq!(
            (&here.name, &here.email, &here.phone),
            (&there.name, &there.email, &there.phone),
            "{id} at {gateway}"
        );
        let metadata: BTreeMap<_, _> = there.metadata.into_iter().filter(|(key, _)| key != "tandem_id").collect();
        assert_eq!(here.metadata, metadata, "{id}");
    }
}
