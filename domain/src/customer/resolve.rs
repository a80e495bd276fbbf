//! Deciding a conflict that waits for a person.

use chrono::{DateTime, Utc};

use super::{Change, Changes, Contest, Customer, CustomerError, CustomerEvent, OpenContest, OpenSides, Side, Winner};
use crate::{Field, GatewayName, Policy, Value};

/// Decide an open conflict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolve {
    /// Between the catalog and which gateway.
    pub gateway: GatewayName,
    /// On which field.
    pub field: Field,
    /// When it was opened: a later one on the same field is not decided by this.
    pub since: DateTime<Utc>,
    /// Which value shall stand.
    pub keep: Keep,
    /// When.
    pub at: DateTime<Utc>,
}

/// The value that shall stand after a conflict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keep {
    /// The catalog's.
    Catalog,
    /// The gateway's.
    Gateway,
    /// This one; `None` unsets the field.
    Value(Option<Value>),
}

impl Customer {
    /// The value that is kept goes to both sides.
    pub(super) fn resolve(&self, resolve: Resolve) -> Result<Vec<CustomerEvent>, CustomerError> {
        let Resolve { gateway, field, since, keep, at } = resolve;
        let profile = self.active_profile()?;
        let open = self.contested(&gateway).and_then(|open| open.get(&field)).filter(|open| open.since == since);
        let open = open.ok_or(CustomerError::NotContested)?;
        let ours = profile.get(&field);
        let kept = match &keep {
            Keep::Catalog => ours,
            Keep::Gateway => open.remote.value.as_ref(),
            Keep::Value(value) => {
                if let Some(value) = value {
                    let broken = field.broken_by(ours, value);
                    if !broken.is_empty() {
                        return Err(CustomerError::Invalid(broken));
                    }
                }
                value.as_ref()
            }
        };
        let mut changes = Changes::new();
        if kept != ours {
            changes.insert(field.clone(), Change::edit(ours.cloned(), kept.cloned(), at));
            let mut after = profile.clone();
            after.set(field.clone(), kept.cloned());
            after.check_not_worse_than(profile)?;
        }
        let winner = match kept {
            kept if kept == ours => Winner::Catalog,
            kept if kept == open.remote.value.as_ref() => Winner::Gateway,
            _ => Winner::Value,
        };
        let mut events = vec![self.decided(&gateway, &field, open, winner, at)];
        events.extend(self.after_edits(&changes, Some(&gateway), at));
        if !changes.is_empty() {
            events.push(CustomerEvent::Updated { changes, at });
        }
        Ok(events)
    }

    /// What edits here do to conflicts that wait: a value that is the gateway's ends one; another is noted.
    /// `but` has been seen to.
    pub(super) fn after_edits(
        &self,
        changes: &Changes,
        but: Option<&GatewayName>,
        at: DateTime<Utc>,
    ) -> Vec<CustomerEvent> {
        let Self::Active { contested, .. } = self else { return vec![] };
        let mut events = vec![];
        for (gateway, open) in contested.iter().filter(|(gateway, _)| Some(*gateway) != but) {
            for (field, open) in open {
                let Some(change) = changes.get(field) else { continue };
                if open.overwritten && change.after != open.remote.value {
                    continue;
                }
                events.push(if change.after == open.remote.value {
                    self.decided(gateway, field, open, Winner::Gateway, at)
                } else {
                    let catalog = Side { value: change.after.clone(), edited_at: Some(change.edited_at) };
                    CustomerEvent::ConflictOpened(Box::new(OpenContest {
                        gateway: gateway.clone(),
                        field: field.clone(),
                        catalog,
                        remote: open.remote.clone(),
                        overwritten: false,
                        at,
                    }))
                });
            }
        }
        events
    }

    /// The end of an open conflict.
    pub(super) fn decided(
        &self,
        gateway: &GatewayName,
        field: &Field,
        open: &OpenSides,
        winner: Winner,
        at: DateTime<Utc>,
    ) -> CustomerEvent {
        let value = self.profile().and_then(|profile| profile.get(field).cloned());
        let catalog = Side { value, edited_at: self.stamp(field).map(|stamp| stamp.edited_at) };
        CustomerEvent::ConflictResolved(Box::new(Contest {
            gateway: gateway.clone(),
            field: field.clone(),
            catalog,
            remote: open.remote.clone(),
            winner,
            policy: Policy::Ask,
            at,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::*;
    use super::*;

    const PHONE: Field = Field::Phone;

    fn resolve(keep: Keep) -> super::super::CustomerCommand {
        super::super::CustomerCommand::Resolve(Resolve {
            gateway: stripe(),
            field: PHONE,
            since: later(),
            keep,
            at: later(),
        })
    }

    fn history() -> [CustomerEvent; 4] {
        [created(ada()), linked("cus_1"), updated(PHONE, None, Some("1")), opened(PHONE, Some("1"), Some("2"))]
    }

    #[test]
    fn the_catalogs_value_may_stand() {
        given(history()).when(resolve(Keep::Catalog)).then_expect_events(vec![asked(PHONE, "1", "2", Winner::Catalog)]);
    }

    #[test]
    fn the_gateways_value_may_be_taken() {
        given(history())
            .when(resolve(Keep::Gateway))
            .then_expect_events(vec![asked(PHONE, "1", "2", Winner::Gateway), taken(PHONE, Some("1"), Some("2"))]);
    }

    #[test]
    fn a_third_value_may_replace_both() {
        given(history())
            .when(resolve(Keep::Value(Some(text("3")))))
            .then_expect_events(vec![asked(PHONE, "1", "2", Winner::Value), taken(PHONE, Some("1"), Some("3"))]);
    }

    #[test]
    fn a_conflict_about_what_was_written_over_waits_whatever_is_edited_here() {
        let overwritten = match opened(PHONE, Some("1"), Some("2")) {
            CustomerEvent::ConflictOpened(open) => {
                CustomerEvent::ConflictOpened(Box::new(OpenContest { overwritten: true, ..*open }))
            }
            other => other,
        };
        let [first, second, third, _] = history();
        given([first, second, third, overwritten]).when(update(PHONE, Some("3"))).then_expect_events(vec![updated(
            PHONE,
            Some("1"),
            Some("3"),
        )]);
    }

    #[test]
    fn a_conflict_is_decided_once() {
        let mut decided = history().to_vec();
        decided.push(asked(PHONE, "1", "2", Winner::Catalog));
        let decided: [CustomerEvent; 5] = decided.try_into().unwrap();
        given(decided).when(resolve(Keep::Gateway)).then_expect_error(CustomerError::NotContested);
    }

    #[test]
    fn the_gateways_value_chosen_by_an_edit_ends_it() {
        given(history())
            .when(update(PHONE, Some("2")))
            .then_expect_events(vec![ended(PHONE, "1", "2", Winner::Gateway), updated(PHONE, Some("1"), Some("2"))]);
    }

    #[test]
    fn another_value_chosen_here_is_noted() {
        let noted = CustomerEvent::ConflictOpened(Box::new(OpenContest {
            gateway: stripe(),
            field: PHONE,
            catalog: Side { value: Some(text("3")), edited_at: Some(at()) },
            remote: Side { value: Some(text("2")), edited_at: Some(later()) },
            overwritten: false,
            at: at(),
        }));
        given(history())
            .when(update(PHONE, Some("3")))
            .then_expect_events(vec![noted, updated(PHONE, Some("1"), Some("3"))]);
    }
}
