//! The second look: both sides of what seemed to differ are read anew.

use tandem_domain::{Customer, CustomerId, Profile, RemoteId, differences};

use super::candidates::Candidate;
use super::drifts::{Drift, DriftKind, FieldDrift};
use super::standing::{Standing, link_of, standing, stray, unread};
use crate::survey::patiently;
use crate::{CallError, Object, Seen, Sides, SurveyError};

/// What the second look found.
#[derive(Debug)]
pub(super) enum Look {
    /// Nothing differs, or a person wanted it so.
    Equal,
    /// It is being changed just now.
    InFlight,
    /// It differs. With how its link stood.
    Drift(Box<Drift>, Option<Standing>),
}

/// What is there.
enum There {
    /// Nothing was ever created.
    Nothing,
    Living(Box<Seen>),
    Deleted,
    /// The gateway never heard of it.
    Unheard,
    /// It cannot be read, or not kept.
    Unreadable(String),
}

impl There {
    fn profile(&self) -> Option<&Profile> {
        match self {
            Self::Living(seen) => match &seen.object {
                Object::Present { profile, .. } => Some(profile),
                Object::Gone { .. } => None,
            },
            Self::Nothing | Self::Deleted | Self::Unheard | Self::Unreadable(_) => None,
        }
    }
}

/// Reads both sides of one candidate anew.
pub(super) async fn look(sides: &Sides, candidate: &Candidate) -> Result<Look, SurveyError> {
    match candidate {
        Candidate::Link(id) => linked(sides, *id).await,
        Candidate::Object(remote_id, customer) => object(sides, remote_id, *customer).await,
        Candidate::Customer(id) => customer(sides, *id).await,
    }
}

/// Whether anything happened to it since that look.
pub(super) async fn has_moved(
    sides: &Sides,
    candidate: &Candidate,
    before: Option<&Standing>,
) -> Result<bool, SurveyError> {
    let name = sides.gateway.name();
    Ok(match candidate {
        Candidate::Link(id) => standing(&sides.pool, *id).await?.as_ref() != before,
        Candidate::Object(remote_id, _) => {
            let now = stray(&sides.pool, name, remote_id).await?;
            now.linked || now.unrouted
        }
        Candidate::Customer(id) => link_of(&sides.pool, name, *id).await?.is_some(),
    })
}

const PARKED: &str = "it waits for a person: see GET /parked";

async fn linked(sides: &Sides, id: i64) -> Result<Look, SurveyError> {
    let Some(before) = standing(&sides.pool, id).await?.filter(|link| link.state != "unlinked") else {
        return Ok(Look::Equal);
    };
    if before.in_flight {
        return Ok(Look::InFlight);
    }
    let there = match &before.remote_id {
        Some(remote_id) => retrieve(sides, &RemoteId::from(remote_id.clone())).await?,
        None => There::Nothing,
    };
    let customer = sides.store.load(&before.customer_id.to_string()).await?.aggregate;
    // After both sides: whatever changed one of them meanwhile shows here.
    if standing(&sides.pool, id).await?.as_ref() != Some(&before) {
        return Ok(Look::InFlight);
    }
    let Some(kind) = judge(sides, &before, &customer, &there) else { return Ok(Look::Equal) };
    let mut drift = Drift::of(kind);
    drift.link_id = Some(id);
    drift.customer_id = Some(before.customer_id);
    drift.remote_id.clone_from(&before.remote_id);
    drift.parked = before.parked;
    if let (DriftKind::Differs | DriftKind::ConflictWaits, Some(held)) = (kind, there.profile()) {
        drift.fields = fields(&customer, held, &before);
    }
    drift.remark = match (kind, &there) {
        (DriftKind::DeletionWaits, _) => Some(PARKED.to_owned()),
        (DriftKind::ConflictWaits, _) => Some("it waits for a person: see GET /conflicts".to_owned()),
        (DriftKind::NotLinked | DriftKind::MissingHere, _) if before.parked => Some(PARKED.to_owned()),
        (_, There::Unreadable(reason)) => Some(format!("its object cannot be read: {reason}")),
        _ if before.state != "active" => Some("its link says that it is deleted".to_owned()),
        (DriftKind::MissingThere, There::Unheard) => {
            Some("the gateway never heard of it: is the key of another account?".to_owned())
        }
        _ => None,
    };
    if kind == DriftKind::NotLinked {
        drift.set_email(customer.profile());
    }
    Ok(Look::Drift(Box::new(drift), Some(before)))
}

fn judge(sides: &Sides, link: &Standing, customer: &Customer, there: &There) -> Option<DriftKind> {
    let active = link.state == "active";
    if link.asked {
        return Some(DriftKind::DeletionWaits);
    }
    match (customer, there) {
        (Customer::Active { .. }, _) if !active => Some(DriftKind::DeadOnOneSide),
        (Customer::Active { .. }, There::Living(_)) => {
            let held = there.profile().cloned().unwrap_or_default();
            if !customer.differences_from(sides.gateway.name(), &held, &link.spellings).is_empty() {
                return Some(DriftKind::Differs);
            }
            (!fields(customer, &held, link).is_empty()).then_some(DriftKind::ConflictWaits)
        }
        (Customer::Active { .. }, There::Deleted | There::Unheard) => Some(DriftKind::MissingThere),
        (_, There::Unreadable(_)) => Some(DriftKind::Differs),
        (Customer::Active { profile, .. }, There::Nothing) => {
            (!sides.keep_away(profile)).then_some(DriftKind::NotLinked)
        }
        (Customer::Deleted { .. }, There::Living(_)) => Some(DriftKind::DeadOnOneSide),
        (Customer::Unborn, There::Living(_)) => active.then_some(DriftKind::MissingHere),
        (Customer::Deleted { .. } | Customer::Unborn, There::Nothing | There::Deleted | There::Unheard) => None,
    }
}

/// The fields that differ, also those on which a person shall decide.
fn fields(customer: &Customer, there: &Profile, link: &Standing) -> Vec<FieldDrift> {
    let nothing = Profile::default();
    let here = customer.profile().unwrap_or(&nothing);
    let field =
        |field| FieldDrift { here: here.get(field).cloned(), there: there.get(field).cloned(), field: field.clone() };
    differences(here, there, &link.spellings).iter().map(|(name, _)| field(name)).collect()
}

async fn object(sides: &Sides, remote_id: &RemoteId, claims: Option<CustomerId>) -> Result<Look, SurveyError> {
    let name = sides.gateway.name();
    let known = stray(&sides.pool, name, remote_id).await?;
    if known.parked && !known.asked {
        return Ok(Look::Equal);
    }
    // Our own create, whose reply is still out.
    let creating = match claims {
        Some(customer) => match link_of(&sides.pool, name, customer).await? {
            Some(link) => standing(&sides.pool, link).await?.is_some_and(|link| link.in_flight),
            None => false,
        },
        None => false,
    };
    if known.linked || known.unrouted || creating {
        return Ok(Look::InFlight);
    }
    let there = retrieve(sides, remote_id).await?;
    let (seen, remark) = match &there {
        There::Living(seen) => (Some(seen.as_ref().clone()), None),
        There::Unreadable(reason) => (None, Some(format!("it cannot be read: {reason}"))),
        There::Nothing | There::Deleted | There::Unheard => return Ok(Look::Equal),
    };
    let now = stray(&sides.pool, name, remote_id).await?;
    if now.linked || now.unrouted {
        return Ok(Look::InFlight);
    }
    let mut drift = Drift::of(DriftKind::MissingHere);
    drift.remote_id = Some(remote_id.to_string());
    drift.customer_id = claims.map(|CustomerId(id)| id);
    drift.set_email(there.profile());
    (drift.seen, drift.remark) = (seen, remark);
    if known.asked {
        (drift.parked, drift.remark) = (true, Some(PARKED.to_owned()));
    }
    Ok(Look::Drift(Box::new(drift), None))
}

async fn customer(sides: &Sides, id: CustomerId) -> Result<Look, SurveyError> {
    let name = sides.gateway.name();
    let customer = sides.store.load(&id.to_string()).await?.aggregate;
    if !matches!(&customer, Customer::Active { profile, .. } if !sides.keep_away(profile)) {
        return Ok(Look::Equal);
    }
    if link_of(&sides.pool, name, id).await?.is_some() || unread(&sides.pool, name, id).await? {
        return Ok(Look::InFlight);
    }
    let mut drift = Drift::of(DriftKind::NotLinked);
    drift.customer_id = Some(id.0);
    drift.set_email(customer.profile());
    Ok(Look::Drift(Box::new(drift), None))
}

async fn retrieve(sides: &Sides, remote_id: &RemoteId) -> Result<There, SurveyError> {
    Ok(match patiently(|| sides.gateway.retrieve(remote_id)).await {
        Ok(seen) if matches!(seen.object, Object::Present { .. }) => There::Living(Box::new(seen)),
        Ok(_) => There::Deleted,
        Err(CallError::Missing) => There::Unheard,
        Err(CallError::Rejected { reason, .. }) => There::Unreadable(reason),
        Err(error) => return Err(error.into()),
    })
}
