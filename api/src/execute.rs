//! Running one command for a route: against the customer as it is, if its versions allow.

use tandem_domain::{Customer, CustomerCommand, CustomerId, Profile};
use tandem_eventlog::{Context, ExecuteError, Executed, history};
use tandem_projections::{shows, version_shown};

use crate::app::App;
use crate::precondition::IfMatch;
use crate::problem::Problem;

/// How often a command is decided anew when others change the customer meanwhile.
const ATTEMPTS: usize = 20;

/// A version that no customer ever has.
const NEVER: u64 = u64::MAX;

/// What a command led to, as clients see it.
pub(crate) struct Outcome {
    pub(crate) id: CustomerId,
    pub(crate) customer: Customer,
    /// The version that is shown: see [`version_shown`].
    pub(crate) version: u64,
    /// It had been carried out before, under the same key.
    pub(crate) replayed: bool,
}

/// How it is decided which command it is.
pub(crate) enum Decision {
    /// As it is.
    Fixed(Box<CustomerCommand>),
    /// From the customer's fields as they are when it is carried out.
    Relative(Box<dyn Fn(&Profile) -> CustomerCommand + Send + Sync>),
}

impl App {
    /// Carries a command out, once for each idempotency key.
    pub(crate) async fn execute(
        &self,
        id: CustomerId,
        decision: Decision,
        context: Context,
        if_match: &IfMatch,
    ) -> Result<Outcome, Problem> {
        let name = id.to_string();
        for _ in 0..ATTEMPTS {
            let mut context = context.clone();
            let command = match &decision {
                Decision::Fixed(command) => (**command).clone(),
                Decision::Relative(decide) => {
                    let loaded = self.store.load(&name).await?;
                    context = context.expecting(loaded.version);
                    decide(loaded.aggregate.profile().unwrap_or(&Profile::default()))
                }
            };
            let mut matches = true;
            if let IfMatch::OneOf(versions) = if_match {
                let mut events = history(self.connections.pool(), "customer", &name).await?;
                let at = context.expected_version.unwrap_or(events.len() as u64);
                events.retain(|event| event.version <= at);
                matches = versions.contains(&version_shown(&events)?);
                // The store looks the key up first, so that a repeat is answered even then.
                context = context.expecting(if matches { at } else { NEVER });
            }
            match self.store.execute(&name, command, context).await {
                Ok(executed) => return self.outcome(executed).await,
                Err(ExecuteError::VersionMismatch { actual }) if matches && actual != 0 => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Problem::busy())
    }

    async fn outcome(&self, executed: Executed<Customer>) -> Result<Outcome, Problem> {
        let Executed { id, aggregate, mut version, events, replayed, .. } = executed;
        // Where the command changed nothing that is shown, an earlier event did.
        if !events.iter().any(shows) {
            let mut before = history(self.connections.pool(), "customer", &id).await?;
            before.retain(|event| event.version <= version);
            version = version_shown(&before)?;
        }
        let id = id.parse().map_err(|error| Problem::internal(&error))?;
        Ok(Outcome { id, customer: aggregate, version, replayed })
    }
}
