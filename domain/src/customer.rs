//! The customer aggregate: what may happen to one, and what has.

mod create;
mod delete;
mod erase;
mod event;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod later;
mod link;
mod observe;
#[cfg(test)]
mod outside;
#[cfg(test)]
mod properties;
mod resolve;
mod update;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use cqrs_es::Aggregate;
use cqrs_es::event_sink::EventSink;
use serde::{Deserialize, Serialize};

use crate::{Field, GatewayName, InvalidField, Patch, Policy, Profile, RemoteId, Spellings, differences};

pub use create::Create;
pub use delete::Delete;
pub use erase::Erase;
pub use event::{Change, Changes, Contest, CustomerEvent, OpenContest, Side, Winner, upcasters};
pub use link::{Link, Unlink};
pub use observe::{Intake, Observe, Overwritten, Sight};
pub use resolve::{Keep, Resolve};
pub use update::Update;

/// A customer, as its events make it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Customer {
    /// Nothing has happened yet.
    #[default]
    Unborn,
    /// Alive.
    Active {
        /// The set fields.
        profile: Profile,
        /// When and how each field that was ever set or unset got its value.
        stamps: BTreeMap<Field, Stamp>,
        /// What each gateway calls it.
        links: BTreeMap<GatewayName, RemoteId>,
        /// The conflicts that wait for a person.
        contested: BTreeMap<GatewayName, BTreeMap<Field, OpenSides>>,
        /// When it was created.
        created_at: DateTime<Utc>,
        /// When it last changed.
        updated_at: DateTime<Utc>,
    },
    /// Deleted, for ever. What it was stays readable.
    Deleted {
        /// The fields as they were.
        profile: Profile,
        /// What each gateway called it.
        links: BTreeMap<GatewayName, RemoteId>,
        /// When it was created.
        created_at: DateTime<Utc>,
        /// When it was deleted.
        deleted_at: DateTime<Utc>,
        /// The person was erased: nothing that is told of it late becomes known again.
        erased: bool,
    },
}

/// How a field got its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// When a person, here or at a gateway, chose it.
    pub edited_at: DateTime<Utc>,
    /// It is a remote's spelling of what the person chose.
    pub adopted: bool,
}

/// A conflict that waits for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenSides {
    /// When it was found.
    pub since: DateTime<Utc>,
    /// The catalog's value, as it was told last.
    pub catalog: Side,
    /// The gateway's.
    pub remote: Side,
    /// It was written over: both sides hold the same, and the field goes on.
    pub overwritten: bool,
}

/// What a customer can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CustomerCommand {
    /// Come into being.
    Create(Create),
    /// Change some fields.
    Update(Update),
    /// Be deleted.
    Delete(Delete),
    /// Be erased, once deleted.
    Erase(Erase),
    /// Be known to a gateway under an id.
    Link(Link),
    /// No longer be kept in step with a gateway.
    Unlink(Unlink),
    /// Have a conflict decided.
    Resolve(Resolve),
    /// Take in what a gateway was seen to hold.
    Observe(Box<Observe>),
}

/// Why a command was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CustomerError {
    /// There is no such customer.
    #[error("there is no such customer")]
    Unborn,
    /// It is deleted: nothing changes it any more.
    #[error("the customer is deleted")]
    Deleted,
    /// It is not deleted, and must be for this.
    #[error("the customer is not deleted")]
    Alive,
    /// An id is used once.
    #[error("the customer exists already")]
    Exists,
    /// A gateway knows it under another id already.
    #[error("the customer is linked to another object at {0}")]
    LinkedElsewhere(GatewayName),
    /// There is no such conflict, or it is decided.
    #[error("the conflict is no longer open")]
    NotContested,
    /// Values break the rules of their fields.
    #[error("{}", told(.0))]
    Invalid(Vec<InvalidField>),
}

impl From<InvalidField> for CustomerError {
    fn from(broken: InvalidField) -> Self {
        Self::Invalid(vec![broken])
    }
}

fn told(broken: &[InvalidField]) -> String {
    broken.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl Aggregate for Customer {
    const TYPE: &'static str = "customer";
    type Command = CustomerCommand;
    type Event = CustomerEvent;
    type Error = CustomerError;
    type Services = ();

    async fn handle(&mut self, command: CustomerCommand, _: &(), sink: &EventSink<Self>) -> Result<(), CustomerError> {
        for event in self.decide(command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: CustomerEvent) {
        match event {
            CustomerEvent::Created { profile, at } => self.born(profile, at),
            CustomerEvent::Updated { changes, at } => self.changed(changes, at),
            CustomerEvent::Deleted { at } => self.died(at),
            CustomerEvent::Erased { .. } => self.forgotten(),
            CustomerEvent::Linked { gateway, remote_id, .. } => {
                if let Some(links) = self.links_mut() {
                    links.insert(gateway, remote_id);
                }
            }
            CustomerEvent::Unlinked { gateway, .. } => {
                if let Some(links) = self.links_mut() {
                    links.remove(&gateway);
                }
                if let Self::Active { contested, .. } = self {
                    contested.remove(&gateway);
                }
            }
            CustomerEvent::ConflictOpened(contest) => self.contest_opened(*contest),
            CustomerEvent::ConflictResolved(contest) => self.contest_resolved(&contest),
        }
    }
}

impl Customer {
    /// The events that a command leads to here; none where nothing would change.
    ///
    /// # Errors
    /// Why the command is refused.
    pub fn decide(&self, command: CustomerCommand) -> Result<Vec<CustomerEvent>, CustomerError> {
        match command {
            CustomerCommand::Create(command) => self.create(command),
            CustomerCommand::Update(command) => self.update(command),
            CustomerCommand::Delete(command) => self.delete(command),
            CustomerCommand::Erase(command) => self.erase(command),
            CustomerCommand::Link(command) => self.link(command),
            CustomerCommand::Unlink(command) => self.unlink(command),
            CustomerCommand::Resolve(command) => self.resolve(command),
            CustomerCommand::Observe(command) => Ok(self.take_in(&command).events),
        }
    }

    /// The fields, alive or as they were when it was deleted; `None` before its creation.
    pub fn profile(&self) -> Option<&Profile> {
        match self {
            Self::Unborn => None,
            Self::Active { profile, .. } | Self::Deleted { profile, .. } => Some(profile),
        }
    }

    /// The person was erased: whatever is told of it late is taken in without values.
    pub fn is_erased(&self) -> bool {
        matches!(self, Self::Deleted { erased: true, .. })
    }

    /// How a field got its value; `None` if it never had one, or the customer is not alive.
    pub fn stamp(&self, field: &Field) -> Option<&Stamp> {
        match self {
            Self::Active { stamps, .. } => stamps.get(field),
            Self::Unborn | Self::Deleted { .. } => None,
        }
    }

    /// What a gateway calls it.
    pub fn remote_id(&self, gateway: &GatewayName) -> Option<&RemoteId> {
        match self {
            Self::Unborn => None,
            Self::Active { links, .. } | Self::Deleted { links, .. } => links.get(gateway),
        }
    }

    /// The fields on which it differs from that gateway until a person decides.
    pub fn held(&self, gateway: &GatewayName) -> impl Iterator<Item = (&Field, &OpenSides)> {
        self.contested(gateway).into_iter().flatten().filter(|(_, open)| !open.overwritten)
    }

    /// The conflicts with that gateway that wait for a person.
    fn contested(&self, gateway: &GatewayName) -> Option<&BTreeMap<Field, OpenSides>> {
        match self {
            Self::Active { contested, .. } => contested.get(gateway),
            Self::Unborn | Self::Deleted { .. } => None,
        }
    }

    /// What that gateway, which holds `held`, must be told to hold this customer's fields. Until a person decides, each
    /// side keeps its value.
    pub fn differences_from(&self, gateway: &GatewayName, held: &Profile, spellings: &Spellings) -> Patch {
        let nothing = Profile::default();
        let mut patch = differences(self.profile().unwrap_or(&nothing), held, spellings);
        self.held(gateway).for_each(|(field, _)| patch.leave_out(field));
        patch
    }

    fn contest_opened(&mut self, OpenContest { gateway, field, catalog, remote, overwritten, at }: OpenContest) {
        if let Self::Active { contested, .. } = self {
            let fields = contested.entry(gateway).or_default();
            let since = fields.get(&field).map_or(at, |open| open.since);
            fields.insert(field, OpenSides { since, catalog, remote, overwritten });
        }
    }

    /// Only a person's decision, or one in their place, ends what waits for a person.
    fn contest_resolved(&mut self, contest: &Contest) {
        if let Self::Active { contested, .. } = self
            && contest.policy == Policy::Ask
            && let Some(fields) = contested.get_mut(&contest.gateway)
        {
            fields.remove(&contest.field);
        }
    }

    fn active_profile(&self) -> Result<&Profile, CustomerError> {
        match self {
            Self::Unborn => Err(CustomerError::Unborn),
            Self::Active { profile, .. } => Ok(profile),
            Self::Deleted { .. } => Err(CustomerError::Deleted),
        }
    }

    fn links_mut(&mut self) -> Option<&mut BTreeMap<GatewayName, RemoteId>> {
        match self {
            Self::Unborn => None,
            Self::Active { links, .. } | Self::Deleted { links, .. } => Some(links),
        }
    }

    fn born(&mut self, profile: Profile, at: DateTime<Utc>) {
        let stamp = Stamp { edited_at: at, adopted: false };
        let stamps = profile.iter().map(|(field, _)| (field.clone(), stamp.clone())).collect();
        *self = Self::Active {
            profile,
            stamps,
            links: BTreeMap::new(),
            contested: BTreeMap::new(),
            created_at: at,
            updated_at: at,
        };
    }

    fn changed(&mut self, changes: Changes, at: DateTime<Utc>) {
        if let Self::Active { profile, stamps, updated_at, .. } = self {
            for (field, Change { after, edited_at, adopted, .. }) in changes {
                profile.set(field.clone(), after);
                stamps.insert(field, Stamp { edited_at, adopted });
            }
            *updated_at = at;
        }
    }

    fn forgotten(&mut self) {
        if let Self::Deleted { profile, erased, .. } = self {
            *profile = Profile::default();
            *erased = true;
        }
    }

    fn died(&mut self, at: DateTime<Utc>) {
        if let Self::Active { profile, links, created_at, .. } = self {
            *self = Self::Deleted {
                profile: std::mem::take(profile),
                links: std::mem::take(links),
                created_at: *created_at,
                deleted_at: at,
                erased: false,
            };
        }
    }
}
