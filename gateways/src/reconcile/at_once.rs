//! At once: a run without a lease, of a link at rest. It decides from memory, and stores all that it leads to in one statement
//! with what it was told. Where there is more to do than to merge (a call, a question, a push), nothing is stored, and a run
//! under a lease does it.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::FutureExt;
use tandem_domain::{Customer, CustomerId, RemoteId};
use tandem_eventlog::{Executed, Loaded};
use uuid::Uuid;

use super::{Reconciler, Run, RunError, rounds};
use crate::RemoteChange;
use crate::inbox::Row;
use crate::intent::Intent;
use crate::ledger::{Draft, Ledger, NotCommitted, Step};
use crate::link::{Base, Link, LinkState};
use crate::rest::AtRest;

/// Takes in what was told of a link at rest. Returns the link as it rests then.
///
/// `None`: nothing is stored. There is more to do, or something is not as it was remembered.
///
/// # Errors
/// The database's answer is missing: all of it may be stored, or nothing.
pub(crate) async fn take_in(
    with: &Reconciler,
    rest: AtRest,
    change: &RemoteChange,
) -> Result<Option<AtRest>, RunError> {
    // A run on paper would find the same, and cost more.
    if !rest.is_outdated_by(change) {
        return Ok(None);
    }
    let AtRest { link, seal } = rest;
    let Some(customer) = with.ledger.remembered(&link) else { return Ok(None) };
    let paper = Arc::new(Paper { change: change.clone(), customer, draft: Mutex::default() });
    let on_paper = Reconciler { ledger: Arc::clone(&paper) as Arc<dyn Ledger>, ..with.clone() };
    let mut run = Run::without_lease(&on_paper, link);
    // Of a panic the run under a lease tells.
    let ended = AssertUnwindSafe(rounds(&mut run)).catch_unwind().await;
    let (Ok(Ok(contested)), Some(draft)) = (ended, paper.draft()) else { return Ok(None) };
    let sealed = with.ledger.take_in(&run.link, seal, change, draft, contested).await?;
    Ok(sealed.and_then(|seal| AtRest::of(run.link, seal)))
}

/// What a run without a lease reads, and what it would store. Everything else is refused.
struct Paper {
    change: RemoteChange,
    customer: Loaded<Customer>,
    draft: Mutex<Option<Draft>>,
}

impl Paper {
    fn draft(&self) -> Option<Draft> {
        self.draft.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[async_trait]
impl Ledger for Paper {
    async fn look_around(&self, _: &Link) -> Result<(Option<Intent>, Vec<Row>, Loaded<Customer>), RunError> {
        // It is in no table yet, where ids begin at one.
        Ok((None, vec![Row { id: 0, change: self.change.clone() }], self.customer.clone()))
    }

    async fn commit(&self, _: &Link, step: Step) -> Result<Option<Executed<Customer>>, NotCommitted> {
        let Step { sighting: Some(seen), decision: Some(decision), changes, deletes: None, relaxed: true } = step
        else {
            return Err(RunError::LeaseLost.into());
        };
        let (LinkState::Active, Some((profile, Some(interval)))) = (seen.state, seen.base) else {
            return Err(RunError::LeaseLost.into());
        };
        let base = Base { profile, interval };
        let decided = decision.customer.decide(decision.command, &decision.context).await.map_err(RunError::from)?;
        if !changes.is_empty() || decided.is_nothing() {
            return Err(RunError::LeaseLost.into());
        }
        let executed = decided.clone().executed();
        let draft = Draft { base, spellings: seen.spellings, decided, context: decision.context };
        let earlier = self.draft.lock().unwrap_or_else(PoisonError::into_inner).replace(draft);
        // One step is all that one statement stores.
        if earlier.is_none() { Ok(Some(executed)) } else { Err(RunError::LeaseLost.into()) }
    }

    async fn look_again(&self, _: &Link) -> Result<(Vec<Row>, Loaded<Customer>), RunError> {
        Err(RunError::LeaseLost)
    }

    async fn load(&self, _: CustomerId) -> Result<Loaded<Customer>, RunError> {
        Err(RunError::LeaseLost)
    }

    async fn intents(&self, _: &Link, _: &[&str]) -> Result<Vec<Intent>, RunError> {
        Err(RunError::LeaseLost)
    }

    async fn hold(&self, _: &Link) -> Result<(), RunError> {
        Err(RunError::LeaseLost)
    }

    async fn is_told(&self) -> Result<bool, RunError> {
        Err(RunError::LeaseLost)
    }

    async fn twins(&self, _: &str) -> Result<Vec<Uuid>, RunError> {
        Err(RunError::LeaseLost)
    }

    async fn told(&self, _: &str) -> Result<Vec<(String, Option<CustomerId>)>, RunError> {
        Err(RunError::LeaseLost)
    }

    async fn unlinked(&self, _: &[&str]) -> Result<Vec<String>, RunError> {
        Err(RunError::LeaseLost)
    }

    async fn no_longer_ambiguous(&self, _: &Link) -> Result<(), RunError> {
        Err(RunError::LeaseLost)
    }

    async fn no_candidate_but_of(&self, _: &Link, _: &[String]) -> Result<(), RunError> {
        Err(RunError::LeaseLost)
    }

    async fn unite(&self, _: &Link, _: Uuid, _: &RemoteId) -> Result<(), RunError> {
        Err(RunError::LeaseLost)
    }

    fn remembered(&self, _: &Link) -> Option<Loaded<Customer>> {
        None
    }

    async fn take_in(&self, _: &Link, _: i64, _: &RemoteChange, _: Draft, _: usize) -> Result<Option<i64>, RunError> {
        Err(RunError::LeaseLost)
    }

    async fn last_origin(&self, _: &str) -> Result<Option<String>, RunError> {
        Err(RunError::LeaseLost)
    }
}
