//! What people ask of the catalog, each request with a key of its own, so that it can be sent again until it is answered.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tandem_tests::Tandem;

use super::history::Way;

/// How often a request is sent, once all is healed, before that is a failure.
const PATIENCE: usize = 50;

/// All that was asked, in order.
#[derive(Debug, Default)]
pub struct People {
    pub asked: Vec<Asked>,
}

/// One request.
#[derive(Debug)]
pub struct Asked {
    pub key: String,
    method: Method,
    path: String,
    body: Value,
    pub answer: Option<Answer>,
}

/// What was answered, at last.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl People {
    /// Changes a field of a customer: a part of the address, or all of it, too.
    pub async fn edit(&mut self, tandem: &Tandem, id: &str, field: &str, value: Option<&str>, way: Way) {
        if way.first_paths && matches!(field, "name" | "email") {
            let body = json!({"id": id, field: value});
            return self.ask(tandem, Method::PUT, "/customer".to_owned(), body, way).await;
        }
        let body = match field.split_once('.') {
            Some((whole, part)) => json!({whole: {part: value}}),
            None if field == "address" => json!({"address": value.map(address)}),
            None => json!({field: value}),
        };
        self.ask(tandem, Method::PATCH, format!("/customers/{id}"), body, way).await;
    }

    pub async fn create(&mut self, tandem: &Tandem, name: &str, way: Way) {
        let (path, body) = if way.first_paths {
            ("/customer", json!({"name": name, "email": format!("{name}@tandem.example")}))
        } else {
            ("/customers", json!({"name": name}))
        };
        self.ask(tandem, Method::POST, path.to_owned(), body, way).await;
    }

    pub async fn delete(&mut self, tandem: &Tandem, id: &str, way: Way) {
        let (path, body) = if way.first_paths {
            ("/customer".to_owned(), json!({"id": id}))
        } else {
            (format!("/customers/{id}"), Value::Null)
        };
        self.ask(tandem, Method::DELETE, path, body, way).await;
    }

    /// Sends one of them again, whether it was heard or not.
    pub async fn ask_again(&mut self, tandem: &Tandem, which: usize) {
        let count = self.asked.len();
        if count > 0 {
            self.asked[which % count].send(tandem).await;
        }
    }

    /// Sends again what nobody answered, until all is.
    pub async fn hear_all(&mut self, tandem: &Tandem) -> Result<(), String> {
        for asked in &mut self.asked {
            for _ in 0..PATIENCE {
                if asked.answer.is_some() {
                    break;
                }
                asked.send(tandem).await;
            }
            if asked.answer.is_none() {
                return Err(format!("never answered: {asked:?}"));
            }
        }
        Ok(())
    }

    /// The customers that these requests made.
    pub fn born(&self) -> impl Iterator<Item = &str> {
        let created = self.asked.iter().filter(|asked| asked.method == Method::POST);
        created.filter_map(|asked| asked.answer.as_ref()?.body["id"].as_str())
    }

    async fn ask(&mut self, tandem: &Tandem, method: Method, path: String, body: Value, way: Way) {
        let key = format!("{}-{}", tandem.stream, self.asked.len());
        self.asked.push(Asked { key, method, path, body, answer: None });
        let Some(asked) = self.asked.last_mut() else { return };
        match way.unheard_after_ms {
            None => asked.send(tandem).await,
            Some(ms) => {
                // The person's own impatience: the request may have arrived by then, or been carried out, or neither.
                let _ = tokio::time::timeout(Duration::from_millis(ms), asked.sent(tandem)).await;
            }
        }
    }
}

impl Asked {
    /// Sends it. What was answered before stays: the first answer is the one that people act on.
    async fn send(&mut self, tandem: &Tandem) {
        let answer = self.sent(tandem).await;
        if self.answer.is_none() {
            self.answer = answer;
        }
    }

    /// `None` if it is not known whether it was carried out.
    async fn sent(&self, tandem: &Tandem) -> Option<Answer> {
        let request = tandem.http().request(self.method.clone(), tandem.at(&self.path));
        // Each sending by a name of its own, which its events carry.
        let request = request.header("x-request-id", format!("{}/{:x}", self.key, rand::random::<u64>()));
        let request = request.header("idempotency-key", &self.key);
        let request = if self.body.is_null() { request } else { request.json(&self.body) };
        let answer = request.send().await.ok()?;
        let status = answer.status().as_u16();
        let body = answer.bytes().await.ok()?;
        let body = serde_json::from_slice(&body).unwrap_or_default();
        (status < 500).then_some(Answer { status, body })
    }
}

/// An address as a whole: what it does not have is said, too.
pub fn address(letter: &str) -> Value {
    json!({"line1": letter, "line2": null, "city": letter, "state": null, "postal_code": null, "country": null})
}
