//! From signed bytes to a notice.
//!
//! "Webhooks" and "Resolve webhook signature verification errors" (docs.stripe.com/webhooks/signature).

use std::sync::{PoisonError, RwLock};

use chrono::{DateTime, Utc};
use hex::FromHex;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use miniserde::json;
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

use super::amiss::amiss;
use super::refusal::header;
use super::{surrogates, translate, wire};
use crate::{Foreign, Notice, WebhookError};

/// How old a signature may be, or how far in the future. Stripe's own libraries allow as much.
const TOLERANCE_S: u64 = 300;

/// How many signatures of one webhook are looked at. Stripe sends one for each secret of the endpoint that holds, and a
/// rolled one holds for a day at most: nobody rolls so often within a day.
const CANDIDATES: usize = 8;

/// What a genuine webhook of our account is signed with, and is of.
#[derive(Debug)]
pub(super) struct Webhooks {
    /// Several while one is rolled; and they are changed while webhooks come.
    secrets: RwLock<Vec<SecretString>>,
    /// The connected account that is ours, if one is.
    pub account: Option<String>,
    /// Whether our key is of live mode, if it says.
    pub livemode: Option<bool>,
}

impl Webhooks {
    pub fn new(secrets: Vec<SecretString>, account: Option<String>, livemode: Option<bool>) -> Self {
        Self { secrets: RwLock::new(secrets), account, livemode }
    }

    /// From now on genuine is what these sign.
    pub fn roll(&self, secrets: Vec<SecretString>) {
        *self.secrets.write().unwrap_or_else(PoisonError::into_inner) = secrets;
    }

    pub fn verify(&self, headers: &HeaderMap, body: &[u8], now: DateTime<Utc>) -> Result<Notice, WebhookError> {
        let signature = header(headers, "stripe-signature").ok_or(WebhookError::Signature)?;
        self.check_signature(body, signature, now)?;
        let body = surrogates::mended(body);
        let body = std::str::from_utf8(&body).map_err(|_| WebhookError::Malformed("it is not UTF-8".to_owned()))?;
        let malformed = || WebhookError::Malformed(amiss(body));
        let envelope: wire::Envelope = json::from_str(body).map_err(|_| malformed())?;
        if is_sample(&envelope.id) {
            return Ok(Notice::Sample);
        }
        if let Some(whose) = self.told_by_connect(&envelope) {
            return Ok(Notice::Ignored(format!("{} of {whose}", envelope.kind)));
        }
        if let Some(whose) = self.is_foreign(&envelope) {
            return Ok(Notice::Foreign(whose));
        }
        if translate::kind(&envelope.kind).is_none() {
            return Ok(Notice::Ignored(envelope.kind));
        }
        if !translate::is_id(&envelope.id) {
            let wrong = "its id has not 1 to 255 characters, or a NUL among them";
            return Err(WebhookError::Malformed(wrong.to_owned()));
        }
        let event = json::from_str(body).ok().and_then(translate::change);
        let change = event.ok_or_else(malformed)?;
        Ok(if is_sample(change.remote_id.as_str()) { Notice::Sample } else { Notice::Change(Box::new(change)) })
    }

    /// async-stripe has no check that does not parse the event by its own strict types, too; its crate for that costs
    /// minutes of building. The signature is a plain HMAC-SHA256 of the time, a full stop and the body.
    fn check_signature(&self, body: &[u8], signature: &str, now: DateTime<Utc>) -> Result<(), WebhookError> {
        let Signature { time, given } = Signature::read(signature)?;
        // The body is read once for each secret, however many signatures a stranger sends.
        let signed = |secret: &SecretString| {
            Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()).is_ok_and(|mac| {
                let mac = mac.chain_update(time).chain_update(b".").chain_update(body);
                given.iter().any(|given| mac.clone().verify_slice(given).is_ok())
            })
        };
        let secrets = self.secrets.read().unwrap_or_else(PoisonError::into_inner);
        if !secrets.iter().any(signed) {
            return Err(WebhookError::Signature);
        }
        is_fresh(time, now)
    }

    /// Whether a body under these headers may turn out to be genuine: what cannot need not be read.
    pub fn may_be_genuine(&self, headers: &HeaderMap, now: DateTime<Utc>) -> Result<(), WebhookError> {
        let signature = header(headers, "stripe-signature").ok_or(WebhookError::Signature)?;
        is_fresh(Signature::read(signature)?.time, now)
    }

    /// What a Connect endpoint is told of besides our account. "Connect webhooks" (docs.stripe.com/connect/webhooks): it hears
    /// of all connected accounts, and one of live mode of test mode, too. Were that refused, Stripe would send it again for
    /// days, and then switch the endpoint off.
    fn told_by_connect(&self, envelope: &wire::Envelope) -> Option<&'static str> {
        let (ours, its) = (self.account.as_ref()?, envelope.account.as_ref()?);
        match (envelope.livemode, self.livemode) {
            _ if ours != its => Some("another account"),
            (Some(false), Some(true)) => Some("test mode"),
            _ => None,
        }
    }

    /// What else is not told of our account: the endpoint is not the right one for it, or is not for it alone.
    fn is_foreign(&self, envelope: &wire::Envelope) -> Option<Foreign> {
        match (&envelope.account, &self.account) {
            (Some(_), None) => return Some(Foreign::AnotherAccount),
            (None, Some(_)) => return Some(Foreign::Platform),
            (Some(_), Some(_)) | (None, None) => {}
        }
        match (envelope.livemode, self.livemode) {
            (Some(true), Some(false)) => Some(Foreign::LiveMode),
            (Some(false), Some(true)) => Some(Foreign::TestMode),
            _ => None,
        }
    }
}

/// The ids of the Dashboard's "Send test webhook" are zeros after their prefix: `evt_00000000000000`, `cus_00000000000000`.
fn is_sample(id: &str) -> bool {
    id.split_once('_').is_some_and(|(_, rest)| !rest.is_empty() && rest.bytes().all(|digit| digit == b'0'))
}

/// What the header says: when it was signed, and the signatures that may be ours.
struct Signature<'a> {
    time: &'a str,
    given: Vec<[u8; 32]>,
}

impl<'a> Signature<'a> {
    fn read(header: &'a str) -> Result<Self, WebhookError> {
        let named = |wanted: &'static str| {
            header.split(',').filter_map(move |part| part.trim().split_once('=').filter(|(name, _)| *name == wanted))
        };
        let (_, time) = named("t").next().ok_or(WebhookError::Signature)?;
        let given = named("v1").filter_map(|(_, hex)| <[u8; 32]>::from_hex(hex).ok());
        let given: Vec<[u8; 32]> = given.take(CANDIDATES).collect();
        if given.is_empty() { Err(WebhookError::Signature) } else { Ok(Self { time, given }) }
    }
}

fn is_fresh(time: &str, now: DateTime<Utc>) -> Result<(), WebhookError> {
    let time: i64 = time.parse().map_err(|_| WebhookError::Signature)?;
    if now.timestamp().abs_diff(time) > TOLERANCE_S { Err(WebhookError::Stale) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use serde_json::{Value, json};

    use super::*;

    const NOW: i64 = 1_700_000_000;

    fn webhooks() -> Webhooks {
        with(None, Some(false))
    }

    fn with(account: Option<&str>, livemode: Option<bool>) -> Webhooks {
        Webhooks::new(vec!["whsec_old".into(), "whsec_new".into()], account.map(str::to_owned), livemode)
    }

    fn event(members: Value) -> Value {
        let mut event = json!({
            "id": "evt_1", "object": "event", "api_version": "2026-09-30.endive", "created": NOW,
            "data": { "object": { "id": "cus_1", "object": "customer", "name": "Ada" } },
            "livemode": false, "pending_webhooks": 1, "request": null, "type": "customer.created"
        });
        for (name, value) in members.as_object().unwrap() {
            event[name] = value.clone();
        }
        event
    }

    fn verify_by(webhooks: &Webhooks, signature: &str, body: &str) -> Result<Notice, WebhookError> {
        let headers = HeaderMap::from_iter([(
            http::HeaderName::from_static("stripe-signature"),
            HeaderValue::from_str(signature).unwrap(),
        )]);
        webhooks.verify(&headers, body.as_bytes(), DateTime::from_timestamp(NOW, 0).unwrap())
    }

    fn verify(body: &str) -> Result<Notice, WebhookError> {
        verify_by(&webhooks(), &sign(body, "whsec_new", 0), body)
    }

    fn sign(body: &str, secret: &str, age: i64) -> String {
        stripe_sim::sign(secret, NOW - age, body.as_bytes())
    }

    /// Fails where such a time is taken, and every sum with it panics: the customer would stand still for ever.
    #[test]
    fn a_time_that_is_none_is_told() {
        for created in [8_210_266_876_799_i64, 253_402_300_800, -8_334_601_228_800, -1] {
            let told = verify(&event(json!({ "created": created })).to_string());
            let Err(WebhookError::Malformed(told)) = told else { panic!("{created}: {told:?}") };
            assert!(told.contains("created"), "{told}");
        }
        assert!(verify(&event(json!({ "created": 253_402_300_799_i64 })).to_string()).is_ok());
    }

    #[test]
    fn each_of_our_secrets_makes_a_genuine_signature() {
        let body = event(json!({})).to_string();
        for secret in ["whsec_old", "whsec_new"] {
            let Ok(Notice::Change(change)) = verify_by(&webhooks(), &sign(&body, secret, 0), &body) else {
                panic!("{secret}")
            };
            assert_eq!(change.remote_id.as_str(), "cus_1");
        }
    }

    #[test]
    fn one_good_signature_among_several_is_enough() {
        let body = event(json!({})).to_string();
        let good = sign(&body, "whsec_new", 0);
        let (time, signature) = good.split_once(',').unwrap();
        let several = format!("{time},v1=00ff,v0=aa,{signature}");
        assert!(verify_by(&webhooks(), &several, &body).is_ok());
    }

    /// The body is signed by anybody with as many signatures as a header holds: what each costs must be little.
    #[test]
    fn no_more_signatures_are_looked_at_than_stripe_sends() {
        let body = event(json!({})).to_string();
        let good = sign(&body, "whsec_new", 0);
        let (time, signature) = good.split_once(',').unwrap();
        let after = |wrong: usize| format!("{time}{},{signature}", format!(",v1={}", "00".repeat(32)).repeat(wrong));
        assert!(verify_by(&webhooks(), &after(CANDIDATES - 1), &body).is_ok());
        assert_eq!(verify_by(&webhooks(), &after(CANDIDATES), &body), Err(WebhookError::Signature));
        let nothings = format!("{time}{},{signature}", ",v1=".repeat(10_000));
        assert!(verify_by(&webhooks(), &nothings, &body).is_ok(), "what is no signature is none of them");
    }

    #[test]
    fn a_wrong_or_missing_signature_is_refused() {
        let body = event(json!({})).to_string();
        let signed = sign(&body, "whsec_new", 0);
        assert_eq!(
            webhooks().verify(&HeaderMap::new(), body.as_bytes(), DateTime::UNIX_EPOCH),
            Err(WebhookError::Signature)
        );
        for signature in
            ["", "t=1", "nonsense", "t=x,v1=00", &sign(&body, "whsec_other", 0), &sign("{}", "whsec_new", 0)]
        {
            assert_eq!(verify_by(&webhooks(), signature, &body), Err(WebhookError::Signature), "{signature}");
        }
        assert_eq!(verify_by(&webhooks(), &signed, &body.replace("Ada", "Eve")), Err(WebhookError::Signature));
        let none = webhooks();
        none.roll(vec![]);
        assert_eq!(verify_by(&none, &signed, &body), Err(WebhookError::Signature));
    }

    #[test]
    fn a_signature_holds_for_five_minutes_of_the_time_it_is_checked_at() {
        let body = event(json!({})).to_string();
        for (age, stale) in [(300, false), (301, true), (-300, false), (-301, true)] {
            let result = verify_by(&webhooks(), &sign(&body, "whsec_new", age), &body);
            assert_eq!(result == Err(WebhookError::Stale), stale, "{age} s old");
        }
    }

    #[test]
    fn events_of_others_are_taken_and_foreign() {
        let live = event(json!({ "livemode": true })).to_string();
        assert_eq!(verify(&live), Ok(Notice::Foreign(Foreign::LiveMode)));
        let connected = event(json!({ "account": "acct_other" })).to_string();
        assert_eq!(verify(&connected), Ok(Notice::Foreign(Foreign::AnotherAccount)));
        let ours = with(Some("acct_other"), Some(false));
        assert!(matches!(verify_by(&ours, &sign(&connected, "whsec_new", 0), &connected), Ok(Notice::Change(_))));
        let platforms = event(json!({})).to_string();
        let signed = sign(&platforms, "whsec_new", 0);
        assert_eq!(verify_by(&ours, &signed, &platforms), Ok(Notice::Foreign(Foreign::Platform)));
        let unknown_mode = with(None, None);
        assert!(matches!(verify_by(&unknown_mode, &sign(&live, "whsec_new", 0), &live), Ok(Notice::Change(_))));
        for foreign in [live, connected] {
            assert_eq!(verify_by(&webhooks(), &sign(&foreign, "whsec_x", 0), &foreign), Err(WebhookError::Signature));
        }
    }

    /// Variant: a customer without a field is made of it.
    #[test]
    fn what_stripe_sends_to_try_the_endpoint_is_no_customer() {
        let zeros = json!({ "id": "evt_00000000000000", "data": { "object": { "id": "cus_00000000000000" } } });
        let object_alone = json!({ "data": { "object": { "id": "cus_00000000000000" } } });
        let of_another_type = json!({ "id": "evt_00000000000000", "type": "invoice.paid", "livemode": true });
        for sample in [zeros, object_alone, of_another_type] {
            assert_eq!(verify(&event(sample).to_string()), Ok(Notice::Sample));
        }
        let real = event(json!({ "id": "evt_00000000000001" })).to_string();
        assert!(matches!(verify(&real), Ok(Notice::Change(_))));
    }

    #[test]
    fn what_a_connect_endpoint_tells_of_others_is_taken_and_ignored() {
        let sibling = event(json!({ "account": "acct_sibling" })).to_string();
        let notice = verify_by(&with(Some("acct_ours"), None), &sign(&sibling, "whsec_new", 0), &sibling);
        assert_eq!(notice, Ok(Notice::Ignored("customer.created of another account".to_owned())));
    }

    #[test]
    fn a_live_connect_endpoint_is_told_of_test_mode_too_and_ignores_it() {
        let test = event(json!({ "account": "acct_ours" })).to_string();
        let by = |livemode| verify_by(&with(Some("acct_ours"), Some(livemode)), &sign(&test, "whsec_new", 0), &test);
        assert_eq!(by(true), Ok(Notice::Ignored("customer.created of test mode".to_owned())));
        assert!(matches!(by(false), Ok(Notice::Change(_))));
        let live = event(json!({ "account": "acct_ours", "livemode": true })).to_string();
        let notice = verify_by(&with(Some("acct_ours"), Some(false)), &sign(&live, "whsec_new", 0), &live);
        assert_eq!(notice, Ok(Notice::Foreign(Foreign::LiveMode)), "a test endpoint is told of test mode alone");
        let plain = event(json!({})).to_string();
        let notice = verify_by(&with(None, Some(true)), &sign(&plain, "whsec_new", 0), &plain);
        assert_eq!(notice, Ok(Notice::Foreign(Foreign::TestMode)), "and a plain account's of its own");
    }

    #[test]
    fn a_rolled_secret_is_asked_for_from_then_on() {
        let (webhooks, body) = (webhooks(), event(json!({})).to_string());
        webhooks.roll(vec!["whsec_newest".into()]);
        assert!(verify_by(&webhooks, &sign(&body, "whsec_newest", 0), &body).is_ok());
        assert_eq!(verify_by(&webhooks, &sign(&body, "whsec_new", 0), &body), Err(WebhookError::Signature));
    }

    #[test]
    fn other_events_are_none_of_ours() {
        let invoice = event(json!({ "type": "invoice.paid", "data": { "object": { "id": 7 } } })).to_string();
        assert_eq!(verify(&invoice), Ok(Notice::Ignored("invoice.paid".to_owned())));
        let thin = r#"{"id": "evt_1", "object": "v2.core.event", "type": "v1.customer.created", "livemode": false}"#;
        assert_eq!(verify(thin), Ok(Notice::Ignored("v1.customer.created".to_owned())));
    }

    #[test]
    fn an_event_of_another_api_version_is_read_all_the_same() {
        let old = json!({
            "id": "evt_1", "type": "customer.updated", "created": NOW, "request": "req_1",
            "data": { "object": { "id": "cus_1", "name": "Ada" }, "previous_attributes": { "name": "Eda" } }
        });
        let Ok(Notice::Change(change)) = verify(&old.to_string()) else { panic!("it is an event") };
        assert_eq!(change.profile.text(&tandem_domain::Field::Name), Some("Ada"));
    }

    #[test]
    fn genuine_nonsense_is_malformed() {
        let no_customer = event(json!({ "data": {} })).to_string();
        for body in ["", "{", "[]", r#"{"id": "evt_1"}"#, no_customer.as_str()] {
            assert!(matches!(verify(body), Err(WebhookError::Malformed(_))), "{body}");
        }
        let said = verify(&no_customer).unwrap_err().to_string();
        assert_eq!(said, "the body cannot be read as an event: `data.object` is missing, and must be an object");
    }
}
