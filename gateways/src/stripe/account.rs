//! Which account is kept in step: whatever two keys are called, they may be of one.

use std::fmt;

use reqwest::Url;
use stripe_client_core::{RequestBuilder, StripeMethod};

use super::pacing::Endpoint;
use super::{Stripe, of_read, wire};
use crate::CallError;

/// An account in one of its modes, live or test: a set of customers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Account {
    base: Url,
    livemode: Option<bool>,
    id: String,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

impl Stripe {
    /// The connected account that is set, or else the key's own: Stripe is asked ("Retrieve account").
    ///
    /// # Errors
    /// Stripe is away, or does not tell: a restricted key may lack the right to ask.
    pub async fn account(&self) -> Result<Account, CallError> {
        let id = match &self.webhooks.account {
            Some(id) => id.clone(),
            None => {
                let path = "/account".to_owned();
                let asked = RequestBuilder { query: None, body: None, path, method: StripeMethod::Get };
                let exchange = self.client.call(self.priority, Endpoint::RetrieveAccount);
                asked.customize::<wire::Account>().send(&exchange).await.map_err(of_read)?.id
            }
        };
        Ok(Account { base: self.client.base().clone(), livemode: self.webhooks.livemode, id })
    }
}
