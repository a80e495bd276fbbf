//! Every aggregate of a kind, page by page.

use cqrs_es::Aggregate;

use super::{Loaded, Store, StoreError};
use crate::recorded::histories;

impl<A> Store<A>
where
    A: Aggregate<Services = ()> + Clone + 'static,
    A::Command: Clone + Send + Sync + 'static,
    A::Error: Send + Sync + 'static,
{
    /// The next `limit` aggregates after that id, in the order of their ids, each as it is now; an empty page is the end.
    ///
    /// One statement a page: for whoever reads all of them. Memory holds one page with its events.
    pub async fn page(&self, after: &str, limit: u32) -> Result<Vec<Loaded<A>>, StoreError> {
        let upcasters = (self.upcasters)();
        let mut page: Vec<Loaded<A>> = vec![];
        let histories = histories(&self.pool, A::TYPE, after, limit).await?;
        for recorded in histories {
            let event = recorded.event::<A>(&upcasters)?;
            if page.last().is_none_or(|last| last.id != recorded.aggregate_id) {
                page.push(Loaded::unborn(&recorded.aggregate_id));
            }
            if let Some(last) = page.last_mut() {
                last.version = recorded.version;
                last.aggregate.apply(event);
            }
        }
        Ok(page)
    }
}
