//! Stripe's lists, page by page, newest first.

use miniserde::Deserialize;
use miniserde::json::Object;
use stripe_client_core::{RequestBuilder, StripeRequest};
use stripe_core::customer::{ListCustomer, SearchCustomer};
use stripe_core::event::ListEvent;
use stripe_types::List;
use tandem_domain::{CustomerId, Interval};

use super::pacing::Endpoint;
use super::{Stripe, of_read, translate, wire};
use crate::{CallError, Seen};

/// One page.
pub(super) struct Page<T> {
    pub data: Vec<T>,
    /// When it was so.
    interval: Interval,
    /// What the next page begins after; `None` if this is the last.
    pub next: Option<String>,
}

impl Page<wire::Customer> {
    pub fn seen(&self, listed: &wire::Customer) -> Seen {
        Seen { object: translate::object(listed), interval: self.interval }
    }
}

impl Stripe {
    /// A page of events. They are kept for thirty days: the one that a page began after may be gone, and with it its place.
    pub(super) async fn events(&self, asked: &ListEvent) -> Result<Page<wire::Event>, CallError> {
        self.page(Endpoint::ListEvents, asked.build(), |event: &wire::Event| Some(&*event.id))
            .await
            .map_err(from_the_start)
    }

    /// A page of living customers.
    pub(super) async fn customers(&self, asked: &ListCustomer) -> Result<Page<wire::Customer>, CallError> {
        self.page_of_customers(asked.build()).await
    }

    async fn page_of_customers(&self, asked: RequestBuilder) -> Result<Page<wire::Customer>, CallError> {
        let page = self.page(Endpoint::ListCustomers, asked, |listed: &Object| wire::id(listed)).await?;
        let Page { data, interval, next } = page;
        Ok(Page { data: data.iter().filter_map(wire::Customer::read).collect(), interval, next })
    }

    /// Those of all pages that are wanted.
    pub(super) async fn all_customers(
        &self,
        mut asked: ListCustomer,
        wanted: impl Fn(&wire::Customer) -> bool,
    ) -> Result<Vec<Seen>, CallError> {
        let mut found = Vec::new();
        loop {
            let page = self.customers(&asked).await.map_err(from_the_start)?;
            found.extend(page.data.iter().filter(|listed| wanted(listed)).map(|listed| page.seen(listed)));
            match page.next {
                Some(last) => asked = asked.starting_after(last),
                None => return Ok(found),
            }
        }
    }

    async fn page<T>(
        &self,
        endpoint: Endpoint,
        asked: RequestBuilder,
        id: impl Fn(&T) -> Option<&str>,
    ) -> Result<Page<T>, CallError>
    where
        List<T>: Deserialize,
    {
        let exchange = self.client.call(endpoint);
        let page = asked.customize::<List<T>>().send(&exchange).await.map_err(of_read).map_err(of_cursor)?;
        let interval = exchange.receipt()?.interval;
        let next = match (page.has_more, page.data.last().and_then(id)) {
            (false, _) => None,
            (true, Some(last)) => Some(last.to_owned()),
            (true, None) => return Err(unavailable("Stripe promises more than a page that ends with nothing")),
        };
        Ok(Page { data: page.data, interval, next })
    }

    /// For the zoo: search lags behind writes.
    pub(super) async fn search_for(&self, customer: CustomerId) -> Result<Vec<Seen>, CallError> {
        let asked = SearchCustomer::new(format!("metadata['tandem_id']:'{customer}'"));
        let page = self.page_of_customers(asked.build()).await?;
        Ok(page.data.iter().map(|found| page.seen(found)).collect())
    }
}

/// A list cannot go on from an object that is gone.
fn of_cursor(error: CallError) -> CallError {
    match error {
        CallError::Rejected { field: Some(field), .. } if field == "starting_after" => CallError::Missing,
        other => other,
    }
}

/// Nothing else is wrong with the call: made again from its first page, it goes on.
fn from_the_start(error: CallError) -> CallError {
    match error {
        CallError::Missing => unavailable("the list cannot go on where it was"),
        other => other,
    }
}

fn unavailable(reason: &str) -> CallError {
    CallError::Unavailable { reason: reason.to_owned(), retry_after: None }
}
