//! Stripe's lists, page by page, newest first.

use miniserde::json;
use stripe_client_core::{RequestBuilder, StripeRequest};
use stripe_core::customer::{ListCustomer, SearchCustomer};
use stripe_core::event::ListEvent;
use stripe_types::List;
use tandem_domain::{CustomerId, Interval, Profile};
use tracing::warn;

use super::pacing::Endpoint;
use super::{Stripe, of_read, translate, wire};
use crate::{CallError, Object, Seen, Untold};

/// One page.
pub(super) struct Page<T> {
    pub data: Vec<T>,
    /// When it was so.
    interval: Interval,
    /// What the next page begins after; `None` if this is the last.
    pub next: Option<String>,
}

impl Page<json::Value> {
    /// Each item by itself: one that is not what it should be is left out, and told of.
    fn read<T>(self, read: impl Fn(&json::Value) -> Option<T>) -> Page<T> {
        let read = |item: &json::Value| {
            let read = read(item);
            if read.is_none() {
                let id: String = id(item).unwrap_or_default().chars().take(64).collect();
                warn!(remote.id = id, "an item that Stripe lists cannot be read");
            }
            read
        };
        Page { data: self.data.iter().filter_map(read).collect(), interval: self.interval, next: self.next }
    }
}

impl Page<wire::Customer> {
    /// An object as it is listed. One that cannot be kept is told of without its fields: only a look at it says what is wrong, and
    /// ends at that. `None` if not even its id can be kept.
    pub fn seen(&self, listed: &wire::Customer) -> Option<Seen> {
        let object = match translate::object(listed) {
            Ok(object) => object,
            Err(unfit) => {
                let id: String = listed.id.chars().take(64).collect();
                warn!(remote.id = id, reason = %unfit, "an object that Stripe lists cannot be kept");
                if !translate::is_id(&listed.id) {
                    return None;
                }
                let (remote_id, customer) = (listed.id.clone().into(), translate::tandem_id(listed));
                Object::Present { remote_id, profile: Profile::default(), customer, untold: Untold::all() }
            }
        };
        Some(Seen { object, interval: self.interval })
    }
}

impl Stripe {
    /// A page of events. They are kept for thirty days: the one that a page began after may be gone, and with it its place.
    pub(super) async fn events(&self, asked: &ListEvent) -> Result<Page<wire::Event>, CallError> {
        let page = self.page(Endpoint::ListEvents, asked.build()).await.map_err(from_the_start)?;
        Ok(page.read(|event| json::from_str(&json::to_string(event)).ok()))
    }

    /// A page of living customers.
    pub(super) async fn customers(&self, asked: &ListCustomer) -> Result<Page<wire::Customer>, CallError> {
        self.page_of_customers(asked.build()).await
    }

    async fn page_of_customers(&self, asked: RequestBuilder) -> Result<Page<wire::Customer>, CallError> {
        let page = self.page(Endpoint::ListCustomers, asked).await?;
        Ok(page.read(|listed| match listed {
            json::Value::Object(members) => wire::Customer::read(members),
            _ => None,
        }))
    }

    /// Those of all pages that are wanted.
    pub(super) async fn all_customers(
        &self,
        mut asked: ListCustomer,
        wanted: impl Fn(&wire::Customer) -> Result<bool, CallError>,
    ) -> Result<Vec<Seen>, CallError> {
        let mut found = Vec::new();
        loop {
            let page = self.customers(&asked).await.map_err(from_the_start)?;
            for listed in &page.data {
                if wanted(listed)? {
                    found.extend(page.seen(listed));
                }
            }
            match page.next {
                Some(last) => asked = asked.starting_after(last),
                None => return Ok(found),
            }
        }
    }

    async fn page(&self, endpoint: Endpoint, asked: RequestBuilder) -> Result<Page<json::Value>, CallError> {
        let exchange = self.client.call(self.priority, endpoint);
        let page = asked.customize::<List<json::Value>>().send(&exchange).await.map_err(of_read).map_err(of_cursor)?;
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
        Ok(page.data.iter().filter_map(|found| page.seen(found)).collect())
    }
}

fn id(item: &json::Value) -> Option<&str> {
    match item {
        json::Value::Object(members) => wire::id(members),
        _ => None,
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
