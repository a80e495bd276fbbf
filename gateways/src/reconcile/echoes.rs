//! Echoes: what the remote tells of our own calls.

use std::collections::BTreeMap;

use tandem_domain::{Field, Order, Overwritten, Side, Value};
use tandem_eventlog::zoo::plays;

use super::order::order;
use super::{Run, RunError};
use crate::RemoteChange;
use crate::inbox::Row;
use crate::intent::Intent;

/// The echoes among the rows, by the row's id.
pub(super) async fn among(run: &Run<'_>, rows: &[Row]) -> Result<BTreeMap<i64, Echo>, RunError> {
    let keys: Vec<&str> = rows.iter().filter_map(|row| row.change.idempotency_key.as_deref()).collect();
    if keys.is_empty() {
        return Ok(BTreeMap::new());
    }
    let intents = run.with.ledger.intents(&run.link, &keys).await?;
    let mut intents: BTreeMap<String, Intent> =
        intents.into_iter().map(|intent| (intent.key.clone(), intent)).collect();
    let mut rows: Vec<&Row> = rows.iter().collect();
    rows.sort_by_key(|row| row.change.created);
    let mut echoes = BTreeMap::new();
    for Row { id, change } in rows {
        let Some(intent) = change.idempotency_key.as_ref().and_then(|key| intents.get_mut(key)) else { continue };
        let order = run.link.base.as_ref().map(|base| order(run, change, base));
        let echo = Echo { intent: intent.clone(), order };
        intent.echo_checked |= echo.is_first();
        echoes.insert(*id, echo);
    }
    Ok(echoes)
}

/// A change that a call of ours made.
#[derive(Debug)]
pub(super) struct Echo {
    pub intent: Intent,
    /// How it lies to our last sight of the object, if there is one.
    order: Option<Order>,
}

impl Echo {
    /// Nothing new: the call's reply told us.
    pub fn is_known(&self) -> bool {
        let told = self.is_first() || plays("every-event-of-an-executed-call-dropped");
        self.intent.executed && told || plays("every-event-with-our-key-dropped")
    }

    /// The call was given up and arrived after all, or was carried out once more after the remote had forgotten its key.
    /// Nobody's news either: the catalog has had its say since.
    pub fn is_late(&self) -> bool {
        !self.is_known() && self.order != Some(Order::Before)
    }

    /// Whether this tells of the one time that the call was meant to be carried out. What is surely later than the sight
    /// that its reply gave is a repeat.
    pub fn is_first(&self) -> bool {
        let again = self.intent.executed && self.order == Some(Order::After);
        !(self.intent.echo_checked || again)
    }

    /// The edits that this wrote over although nobody here had seen them: what stood there is not what we believed.
    pub fn overwritten(&self, run: &Run<'_>, change: &RemoteChange) -> Vec<Overwritten> {
        if self.is_first() {
            return overwritten(&self.intent, change, &self.intent.against);
        }
        let base = run.link.base.as_ref().filter(|_| self.order != Some(Order::Before));
        base.map_or_else(Vec::new, |base| {
            let sent = self.intent.sent().into_keys();
            let believed = sent.map(|field| (field.clone(), base.profile.get(&field).cloned())).collect();
            overwritten(&self.intent, change, &believed)
        })
    }
}

/// The edits that our call wrote over, where it was believed to write over `believed`.
pub(super) fn overwritten(
    intent: &Intent,
    change: &RemoteChange,
    believed: &BTreeMap<Field, Option<Value>>,
) -> Vec<Overwritten> {
    let mut unseen = vec![];
    if plays("unchecked-echoes") {
        return unseen;
    }
    for (field, sent) in intent.sent() {
        let (Some(previous), Some(believed)) = (change.previous.get(&field), believed.get(&field)) else {
            continue;
        };
        if previous != believed {
            unseen.push(Overwritten {
                sent,
                held: change.profile.get(&field).cloned(),
                sent_edited_at: intent.edited_at(&field),
                previous: Side { value: previous.clone(), edited_at: None },
                field,
            });
        }
    }
    unseen
}
