//! The ledger: where a run reads what is known, and where a step ends, whole or not at all.

mod postgres;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tandem_domain::{Customer, CustomerCommand, CustomerId, Interval, Profile, RemoteId, Spellings};
use tandem_eventlog::{Context, Decided, Executed, Loaded};
use uuid::Uuid;

use crate::inbox::Row;
use crate::intent::{Intent, Outcome};
use crate::link::{Base, Link, LinkState};
use crate::parked::Refused;
use crate::{Direction, RemoteChange, RunError};

pub(crate) use postgres::Postgres;

/// What one gateway's runs know and write. PostgreSQL's, or a model's in memory.
#[async_trait]
pub(crate) trait Ledger: Send + Sync {
    /// All that a run begins with: the open call, what the inbox says, and the customer. What comes later marks the link
    /// due again.
    async fn look_around(&self, link: &Link) -> Result<(Option<Intent>, Vec<Row>, Loaded<Customer>), RunError>;

    /// The same, once the open call is settled.
    async fn look_again(&self, link: &Link) -> Result<(Vec<Row>, Loaded<Customer>), RunError>;

    /// The customer as it is now.
    async fn load(&self, customer: CustomerId) -> Result<Loaded<Customer>, RunError>;

    /// The link's intents with these keys, closed ones, too.
    async fn intents(&self, link: &Link, keys: &[&str]) -> Result<Vec<Intent>, RunError>;

    /// Renews the lease.
    ///
    /// # Errors
    /// [`RunError::LeaseLost`] if somebody else has it.
    async fn hold(&self, link: &Link) -> Result<(), RunError>;

    /// Ends a step: all of it or nothing, and only under the lease, which it renews. Answers what the decision led to.
    ///
    /// # Errors
    /// [`NotCommitted`]: nothing of it is stored, or, where the answer was lost, perhaps all.
    async fn commit(&self, link: &Link, step: Step) -> Result<Option<Executed<Customer>>, NotCommitted>;

    /// Whether the feed has told of all that has happened here. Waits a moment.
    async fn is_told(&self) -> Result<bool, RunError>;

    /// The customers that wait for an object and have this email.
    async fn twins(&self, email: &str) -> Result<Vec<Uuid>, RunError>;

    /// The objects to be imported that were told to have this email, each with the customer whose copy it says it is.
    async fn told(&self, email: &str) -> Result<Vec<(String, Option<CustomerId>)>, RunError>;

    /// Of these objects those that are no customer's.
    async fn unlinked(&self, objects: &[&str]) -> Result<Vec<String>, RunError>;

    /// The link is no longer in question, if it was, and no candidate of others.
    async fn no_longer_ambiguous(&self, link: &Link) -> Result<(), RunError>;

    /// The link's object is a candidate of these customers alone.
    async fn no_candidate_but_of(&self, link: &Link, candidates: &[String]) -> Result<(), RunError>;

    /// Makes one link of a customer's and an object's, on the word of either one's lease, which is over then.
    async fn unite(&self, link: &Link, customer: Uuid, remote_id: &RemoteId) -> Result<(), RunError>;

    /// The customer of a link at rest, if it is remembered: others may have appended to it since.
    fn remembered(&self, link: &Link) -> Option<Loaded<Customer>>;

    /// Stores what was told of a link at rest with that seal, and what a run without a lease made of it, after which both sides
    /// differ on so many contested fields. Returns the link's new seal.
    ///
    /// `None`, and nothing is stored, if it was told before, the link has another seal by now, somebody holds it in this instant, its
    /// gateway is paused, or somebody else has appended to the customer.
    async fn take_in(
        &self,
        link: &Link,
        seal: i64,
        change: &RemoteChange,
        draft: Draft,
        contested: usize,
    ) -> Result<Option<i64>, RunError>;

    /// For the zoo: where the customer's last event came from.
    async fn last_origin(&self, customer: &str) -> Result<Option<String>, RunError>;
}

/// What one transaction does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Step {
    /// What the remote was seen to hold: the link says so from now on.
    pub sighting: Option<Sighting>,
    /// What the aggregate is told.
    pub decision: Option<Decision>,
    /// What else is stored, in this order.
    pub changes: Vec<Change>,
    /// A customer, or its object, dies of it: the guard counts, and may refuse.
    pub deletes: Option<Direction>,
    /// Losing it in a crash of the database loses nothing: it is found out again. Its commit waits for no disk.
    pub relaxed: bool,
}

/// A command for the customer as it was when this was decided.
#[derive(Clone, Debug)]
pub(crate) struct Decision {
    pub customer: Loaded<Customer>,
    pub command: CustomerCommand,
    pub context: Context,
}

/// A step that is all there is to do: a merge of news.
#[derive(Clone)]
pub(crate) struct Draft {
    pub base: Base,
    pub spellings: Spellings,
    pub decided: Decided<Customer>,
    pub context: Context,
}

/// One thing that a step stores.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// Inbox rows end.
    Finish(Vec<i64>),
    /// Inbox rows are new again, to be routed anew.
    HandBack(Vec<i64>),
    /// The echoes of these intents were looked at.
    Checked(Vec<String>),
    /// An intent ends.
    Close(String, Outcome),
    /// Sending the intent again would only repeat an answer.
    Spoil(String),
    /// An intent opens.
    Open(Box<Intent>),
    /// The link is no longer active.
    Become(LinkState),
    /// The remote rejected what is refused now, for these fields or as a whole: a person must look.
    Reject { refused: Option<Refused>, fields: Vec<String>, code: Option<String>, reason: String },
    /// Something that is stored cannot be read: a person must look, or another version of Tandem.
    Unread { refused: Refused, reason: String },
    /// This is still refused; what is no longer so leaves nothing for a person to do.
    Supersede(Refused),
    /// It may be the twin of one of these.
    Ask(Vec<String>),
    /// That object is not this customer's after all, and nobody's.
    LetGo(RemoteId),
    /// A person must say what a deletion means on the other side.
    AskOfDeletion { direction: Direction, deleted_at: DateTime<Utc> },
    /// Inbox rows wait until it is said, if it is not yet.
    Hold(Vec<i64>),
    /// There is nothing to say any more: what is held waits for this link again.
    Withdraw,
    /// Nothing is pushed any more, and nothing that was rejected is left to do.
    NothingToPush,
    /// The object carries the customer's id.
    Relabelled,
    /// The object was gone before anybody made a customer of it: what was told of it is said of nobody, and stays without values.
    NeverBorn,
    /// Customer and object are dead: other objects that carry its id are no question any more, and are routed again.
    LetCopiesGo,
}

/// What the link says of the remote from now on.
#[derive(Clone, Debug)]
pub(crate) struct Sighting {
    pub remote_id: RemoteId,
    pub state: LinkState,
    pub spellings: Spellings,
    /// The new base, if it is another, and its interval, if that is known.
    pub base: Option<(Profile, Option<Interval>)>,
    /// The remote need not be asked any more.
    pub looked: bool,
    /// The inbox rows that told of it, and end.
    pub told_by: Vec<i64>,
}

/// Why a step did not end.
#[derive(Debug)]
pub(crate) enum NotCommitted {
    /// Others appended to the customer meanwhile: decide again.
    Conflict,
    /// The object is linked to another customer.
    Claimed,
    /// Try again later.
    Failed(RunError),
}

impl From<RunError> for NotCommitted {
    fn from(error: RunError) -> Self {
        Self::Failed(error)
    }
}

impl From<NotCommitted> for RunError {
    fn from(not: NotCommitted) -> Self {
        match not {
            NotCommitted::Conflict | NotCommitted::Claimed => Self::Restless,
            NotCommitted::Failed(error) => error,
        }
    }
}

impl Step {
    /// These changes and no decision.
    pub fn of(changes: impl IntoIterator<Item = Change>) -> Self {
        Self { changes: changes.into_iter().collect(), ..Self::default() }
    }
}
