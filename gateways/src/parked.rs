//! What waits for a person: pushes that the gateway rejected, second copies of a customer, what may be a twin, and deletions.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use sqlx::{FromRow, PgPool, PgTransaction};
use tandem_domain::{Field, GatewayName, Patch, Value};
use tandem_eventlog::OnceError;
use uuid::Uuid;

use crate::intent::Intent;
use crate::link::{Link, Priority, mark_due};
use crate::{Write, join};

/// What a remote rejected for good. It is left out of pushes until it is something else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Refused {
    /// A whole push, where the remote named no field of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    whole: Option<Write>,
    /// The values that it named, or that it may have meant when it named a group of fields.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    fields: BTreeMap<Field, Option<Value>>,
    /// For each group of fields that it named (`metadata`), all of the group that the push changed. Once something else of
    /// it is to be changed, the group is tried again: there may be room.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    groups: BTreeMap<String, BTreeMap<Field, Option<Value>>>,
    /// A read. Once a run gets so far that it would push, there was none left that is refused.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    read: bool,
    /// That the object is this customer's.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    claim: bool,
}

/// What is parked if an object may not carry its customer's id.
pub(crate) const TANDEM_ID: &str = "metadata.tandem_id";

impl Refused {
    /// Adds a read.
    pub fn add_read(&mut self) {
        self.read = true;
    }

    /// Whether a read is refused.
    pub fn is_of_a_read(&self) -> bool {
        self.read
    }

    /// Whether the object's claim to be this customer's is refused.
    pub fn is_of_a_claim(&self) -> bool {
        self.claim
    }

    /// The object claims nothing any more.
    pub fn forget_claim(&mut self) {
        self.claim = false;
    }

    /// Adds a push that was rejected, and what the remote named: a field, a group of fields, or nothing of ours. Returns the
    /// fields that are left out of pushes now; none, if it is the whole push.
    ///
    /// Of a group, what adds to it is left out first, since most limits are on how much there may be. If the rest is refused,
    /// too, all of it is.
    pub fn add(&mut self, intent: &Intent, named: Option<&str>) -> Vec<Field> {
        if matches!(intent.write, Write::Claim { .. }) {
            self.claim = true;
            return vec![];
        }
        let named = named.filter(|_| matches!(intent.write, Write::Update { .. })).unwrap_or_default();
        let mut sent = intent.sent();
        sent.retain(|field, _| field.to_string() == named || is_of(field, named));
        if sent.is_empty() {
            self.whole = Some(intent.write.clone());
            return vec![];
        }
        let mut left_out = sent.clone();
        if sent.keys().any(|field| is_of(field, named)) {
            let is_added = |field: &Field| !matches!(intent.against.get(field), Some(Some(_)));
            left_out.retain(|field, value| value.is_some() && is_added(field));
            if left_out.is_empty() {
                left_out.clone_from(&sent);
            }
            self.groups.entry(named.to_owned()).or_default().extend(sent);
        }
        let fields = left_out.keys().cloned().collect();
        self.fields.extend(left_out);
        fields
    }

    /// What is left to push of a write, and what stays refused: only what the write still holds.
    pub fn sift(&self, write: Option<Write>) -> (Option<Write>, Self) {
        let mut kept = Self { claim: self.claim, ..Self::default() };
        let left = match write {
            Some(Write::Update { remote_id, patch }) => {
                let mut rest = Patch::default();
                kept.groups = self.groups.clone();
                kept.groups.retain(|group, sent| {
                    let mut changes = patch.iter().filter(|(field, _)| is_of(field, group));
                    changes.all(|(field, value)| sent.get(field).is_some_and(|sent| sent.as_ref() == value))
                });
                let tried_again = |field: &Field| {
                    self.groups.keys().any(|group| is_of(field, group) && !kept.groups.contains_key(group))
                };
                for (field, value) in patch.iter() {
                    match self.fields.get(field) {
                        Some(refused) if refused.as_ref() == value && !tried_again(field) => {
                            kept.fields.insert(field.clone(), refused.clone());
                        }
                        Some(_) | None => rest.set(field.clone(), value.cloned()),
                    }
                }
                kept.groups.retain(|group, _| kept.fields.keys().any(|field| is_of(field, group)));
                (!rest.is_empty()).then_some(Write::Update { remote_id, patch: rest })
            }
            other => other,
        };
        if left.is_some() && left == self.whole {
            kept.whole = left;
            return (None, kept);
        }
        (left, kept)
    }

    /// The fields that need no longer be looked at.
    fn gone_in(&self, kept: &Self) -> Vec<String> {
        let fields = self.fields.keys().filter(|field| !kept.fields.contains_key(field)).map(ToString::to_string);
        fields.chain((self.claim && !kept.claim).then(|| TANDEM_ID.to_owned())).collect()
    }

    /// Whether a whole push, or a read, was refused and no longer is.
    fn is_rid_of_all(&self, kept: &Self) -> bool {
        let refuses = |refused: &Self| refused.whole.is_some() || refused.read;
        refuses(self) && !refuses(kept)
    }
}

/// Whether a field is one of a group's, as each key is of `metadata`.
fn is_of(field: &Field, group: &str) -> bool {
    field.to_string().strip_prefix(group).is_some_and(|rest| !group.is_empty() && rest.starts_with('.'))
}

/// Something that waits for a person.
#[derive(Clone, Debug, Serialize, FromRow)]
pub struct Parked {
    /// Its number.
    pub id: i64,
    /// At which gateway.
    pub gateway: String,
    /// `rejected`: a push, or a read, that repeating cannot help, or something stored that cannot be read (its code is
    /// `stored_unreadable`); `duplicate`: a second object with one customer's id; `ambiguous`: the
    /// other side has one with the same email; `deletion`: one side is deleted, and it is not said whether the other shall be;
    /// `unstorable`: a change that cannot be stored.
    pub kind: String,
    /// Whose; of an ambiguous object with several candidates it is not known.
    pub customer_id: Option<Uuid>,
    /// The gateway's object, if there is one.
    pub remote_id: Option<String>,
    /// What an ambiguous one may be the twin of: of a customer that is to be created, the gateway's objects; of an object
    /// that is to be imported, the customers.
    pub candidates: Vec<String>,
    /// The field that the gateway named. Of several that it named together, each is parked on its own.
    pub field: Option<String>,
    /// The gateway's code, such as `email_invalid`.
    pub code: Option<String>,
    /// Why, without customers' data.
    pub reason: String,
    /// Since when.
    pub parked_at: DateTime<Utc>,
    /// Of a deletion: which side is deleted, `catalog` or `gateway`.
    pub deleted_side: Option<String>,
    /// Of a deletion: when that was, by our clock, as far as is known.
    pub deleted_at: Option<DateTime<Utc>>,
}

/// Why a parked thing was not retried, dismissed or linked.
#[derive(Debug, thiserror::Error)]
pub enum ParkedError {
    /// There is none of that number, or it is no longer parked.
    #[error("nothing is parked under this number")]
    NotParked,
    /// A deletion is carried out or not: there is nothing to retry or dismiss.
    #[error("a deletion is decided by `delete` or `keep`")]
    IsADeletion,
    /// Only of what is ambiguous it can be said that it is the same.
    #[error("it is not ambiguous: there is nothing to link it to")]
    NotAmbiguous,
    /// Several candidates and none chosen, or something else than one of them.
    #[error("one of the candidates must be chosen")]
    NotACandidate,
    /// One of the two is linked meanwhile, or about to be.
    #[error("one of the two is linked to another by now, or deleted")]
    Taken,
    /// Its key was used for another request, or the database is unavailable.
    #[error(transparent)]
    Once(#[from] OnceError),
    /// Try again later.
    #[error("the database is unavailable")]
    Database(#[from] sqlx::Error),
}

/// What is parked, oldest first: at one gateway or at all, after that number, at most `limit`.
pub(crate) async fn list(
    pool: &PgPool,
    gateway: Option<&str>,
    after: i64,
    limit: i64,
) -> Result<Vec<Parked>, sqlx::Error> {
    sqlx::query_as(
        "SELECT p.id, p.gateway, p.kind, CASE p.kind WHEN 'ambiguous' THEN p.customer_id ELSE l.customer_id END AS customer_id,
                COALESCE(p.remote_id, l.remote_id) AS remote_id, p.candidates, p.field, p.code, p.reason, p.parked_at,
                p.deleted_side, p.deleted_at
         FROM parked p LEFT JOIN links l ON l.id = p.link_id
         WHERE p.state = 'open' AND p.id > $2 AND ($1::text IS NULL OR p.gateway = $1) ORDER BY p.id LIMIT $3",
    )
    .bind(gateway)
    .bind(after)
    .bind(limit)
    .fetch_all(pool)
    .await
}

/// Tries it again: the push is made anew from what the catalog holds now; a second copy is looked at again.
pub(crate) async fn retry(tx: &mut PgTransaction<'_>, id: i64, priority: Priority) -> Result<(), ParkedError> {
    let Closed { link_id, inbox_id, field, kind } = close(tx, id, "retried").await?;
    let Some(link_id) = link_id else {
        // It is to be routed as what was never routed.
        return Ok(crate::inbox::hand_back(tx, inbox_id.as_slice()).await?);
    };
    if kind == "ambiguous" {
        return Ok(join::look_again(tx, &[link_id]).await?);
    }
    match inbox_id {
        Some(inbox_id) => crate::inbox::hand_back(tx, &[inbox_id]).await?,
        None => forget(tx, link_id, field.as_deref()).await?,
    }
    Ok(mark_due(tx, &[link_id], priority).await?)
}

/// Lets it be. A rejected push stays untried until the customer is edited again; a second copy stays unlinked; what is ambiguous
/// has no twin, and is created or imported.
pub(crate) async fn dismiss(tx: &mut PgTransaction<'_>, id: i64) -> Result<(), ParkedError> {
    let Closed { link_id, inbox_id, kind, .. } = close(tx, id, "dismissed").await?;
    if let ("ambiguous", Some(link_id)) = (kind.as_str(), link_id) {
        join::part(tx, link_id).await?;
    }
    if let Some(inbox_id) = inbox_id {
        crate::inbox::finish(tx, &[inbox_id]).await?;
    }
    Ok(())
}

#[derive(FromRow)]
struct Closed {
    /// None of what is unstorable.
    link_id: Option<i64>,
    inbox_id: Option<i64>,
    field: Option<String>,
    kind: String,
}

async fn close(tx: &mut PgTransaction<'_>, id: i64, state: &str) -> Result<Closed, ParkedError> {
    lock_links(tx, id).await?;
    sqlx::query_as(
        "UPDATE parked SET state = $2, closed_at = clock_timestamp() WHERE id = $1 AND state = 'open'
         RETURNING link_id, inbox_id, field, kind",
    )
    .bind(id)
    .bind(state)
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(ParkedError::NotParked)
    .and_then(|closed: Closed| if closed.kind == "deletion" { Err(ParkedError::IsADeletion) } else { Ok(closed) })
}

/// The links first, as a run does, and in the order of the customers, as everywhere: also those that a question about two is
/// put to.
async fn lock_links(tx: &mut PgTransaction<'_>, id: i64) -> Result<(), sqlx::Error> {
    sqlx::query(
        "WITH this AS (
             SELECT p.gateway, p.kind, p.link_id, COALESCE(l.remote_id, l.customer_id::text) AS name
             FROM parked p JOIN links l ON l.id = p.link_id WHERE p.id = $1)
         SELECT FROM links WHERE id IN (
             SELECT link_id FROM this
             UNION SELECT other.link_id FROM this JOIN parked other USING (gateway, kind)
             WHERE kind = 'ambiguous' AND other.state = 'open' AND other.candidates @> ARRAY[this.name])
         ORDER BY customer_id FOR NO KEY UPDATE",
    )
    .bind(id)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Lets the push be tried as it was.
async fn forget(tx: &mut PgTransaction<'_>, link_id: i64, field: Option<&str>) -> Result<(), sqlx::Error> {
    let (Json(mut refused),): (Json<Refused>,) =
        sqlx::query_as("SELECT refused FROM links WHERE id = $1 FOR UPDATE").bind(link_id).fetch_one(&mut **tx).await?;
    match field.and_then(|field| field.parse::<Field>().ok()) {
        Some(field) if refused.fields.remove(&field).is_some() => {}
        Some(field) if refused.claim && field.to_string() == TANDEM_ID => refused.claim = false,
        Some(_) | None => (refused.whole, refused.read) = (None, false),
    }
    sqlx::query("UPDATE links SET refused = $2, attempts = 0, not_before = clock_timestamp() WHERE id = $1")
        .bind(link_id)
        .bind(Json(refused))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Parks a push for each of these fields, or as one, in the transaction that closes its intent.
pub(crate) async fn rejected(
    tx: &mut PgTransaction<'_>,
    gateway: &GatewayName,
    link: &Link,
    fields: &[String],
    code: Option<&str>,
    reason: &str,
) -> Result<(), sqlx::Error> {
    let each: Vec<Option<&str>> =
        if fields.is_empty() { vec![None] } else { fields.iter().map(|field| Some(field.as_str())).collect() };
    sqlx::query(
        "INSERT INTO parked (gateway, link_id, kind, field, code, reason)
         SELECT $1, $2, 'rejected', field, $4, $5 FROM unnest($3::text[]) AS each (field)
         ON CONFLICT (link_id, COALESCE(field, '')) WHERE state = 'open' AND kind = 'rejected'
         DO UPDATE SET code = EXCLUDED.code, reason = EXCLUDED.reason, unread_by = NULL",
    )
    .bind(gateway.as_str())
    .bind(link.id)
    .bind(each)
    .bind(code)
    .bind(reason)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// What tells of itself as the reader of what is stored.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Parks a link of which something that is stored cannot be read by this version.
pub(crate) async fn unread(
    tx: &mut PgTransaction<'_>,
    gateway: &GatewayName,
    link: &Link,
    reason: &str,
) -> Result<(), sqlx::Error> {
    rejected(tx, gateway, link, &[], Some("stored_unreadable"), reason).await?;
    sqlx::query(
        "UPDATE parked SET unread_by = $2
         WHERE link_id = $1 AND state = 'open' AND kind = 'rejected' AND field IS NULL",
    )
    .bind(link.id)
    .bind(VERSION)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Which of the links of which something stored could not be read are tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// All: this process has just started, and may be a build that can read it.
    All,
    /// Those that a process of another version has parked since.
    ByOtherVersions,
}

/// Tries again what could not be read. Returns how much that is.
pub(crate) async fn retry_unread(pool: &PgPool, which: Unread) -> Result<usize, ParkedError> {
    let unread: Vec<i64> = sqlx::query_scalar(
        "SELECT id FROM parked WHERE state = 'open' AND unread_by IS NOT NULL AND ($2 OR unread_by <> $1) ORDER BY id",
    )
    .bind(VERSION)
    .bind(which == Unread::All)
    .fetch_all(pool)
    .await?;
    for id in &unread {
        let mut tx = pool.begin().await?;
        match retry(&mut tx, *id, Priority::Bulk).await {
            // A person, or another process, was there before.
            Err(ParkedError::NotParked) => {}
            retried => {
                retried?;
                tx.commit().await?;
            }
        }
    }
    Ok(unread.len())
}

/// Stores what is refused.
pub(crate) async fn refuse(tx: &mut PgTransaction<'_>, link: &Link, refused: &Refused) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE links SET refused = $2 WHERE id = $1")
        .bind(link.id)
        .bind(Json(refused))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Of a link that pushes nothing any more: what was rejected, or could not be linked, is no question.
pub(crate) async fn no_longer_rejected(tx: &mut PgTransaction<'_>, link: &Link) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE parked SET state = 'superseded', closed_at = clock_timestamp()
         WHERE link_id = $1 AND state = 'open' AND kind = 'rejected'",
    )
    .bind(link.id)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Stores what is still refused. What is no longer so leaves nothing for a person to do.
pub(crate) async fn supersede(tx: &mut PgTransaction<'_>, link: &Link, kept: &Refused) -> Result<(), sqlx::Error> {
    refuse(tx, link, kept).await?;
    sqlx::query(
        // Of a whole push the remote may have named a field, too: of a create, or one that was not sent.
        "UPDATE parked SET state = 'superseded', closed_at = clock_timestamp()
         WHERE link_id = $1 AND state = 'open' AND kind = 'rejected'
           AND CASE WHEN $2 THEN COALESCE(field, '') <> ALL($3) ELSE field = ANY($4) END",
    )
    .bind(link.id)
    .bind(link.refused.is_rid_of_all(kept))
    .bind(
        kept.fields.keys().map(ToString::to_string).chain(kept.claim.then(|| TANDEM_ID.to_owned())).collect::<Vec<_>>(),
    )
    .bind(link.refused.gone_in(kept))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tandem_domain::{Profile, RemoteId};

    use super::*;

    fn key(key: &str) -> Field {
        Field::Metadata(key.to_owned())
    }

    fn text(text: &str) -> Option<Value> {
        Some(Value::Text(text.to_owned()))
    }

    fn write(fields: &[(Field, Option<Value>)]) -> Write {
        let patch =
            fields.iter().fold(Patch::default(), |patch, (field, value)| patch.with(field.clone(), value.clone()));
        Write::Update { remote_id: RemoteId::from("cus_1".to_owned()), patch }
    }

    /// A push over what holds the keys `a` and `b`.
    fn push(fields: &[(Field, Option<Value>)]) -> Intent {
        let base = ["a", "b"]
            .into_iter()
            .fold(Profile::default(), |base, name| base.with(key(name), Value::Text("old".to_owned())));
        Intent::new(write(fields), String::new(), &base, BTreeMap::new(), DateTime::UNIX_EPOCH)
    }

    #[test]
    fn a_refused_group_leaves_the_rest_to_be_pushed() {
        let all = [(Field::Name, text("Ada")), (key("a"), text("new")), (key("c"), text("1")), (key("d"), text("2"))];
        let mut refused = Refused::default();
        assert_eq!(refused.add(&push(&all), Some("metadata")), [key("c"), key("d")]);
        let (left, kept) = refused.sift(Some(write(&all)));
        assert_eq!((left, &kept), (Some(write(&all[..2])), &refused), "what adds to the group waits alone");

        // It was not how many there are.
        assert_eq!(refused.add(&push(&all[..2]), Some("metadata")), [key("a")]);
        let (left, kept) = refused.sift(Some(write(&all)));
        assert_eq!((left, &kept), (Some(write(&all[..1])), &refused));
        // Once the name has crossed, nothing is left.
        assert_eq!(refused.sift(Some(write(&all[1..]))), (None, refused));
    }

    #[test]
    fn another_edit_of_a_refused_group_tries_all_of_it_again() {
        let mut refused = Refused::default();
        refused.add(&push(&[(key("c"), text("1"))]), Some("metadata"));
        let name_too = write(&[(Field::Name, text("Ada")), (key("c"), text("1"))]);
        assert_eq!(refused.sift(Some(name_too)).0, Some(write(&[(Field::Name, text("Ada"))])));
        let room = write(&[(key("a"), None), (key("c"), text("1"))]);
        assert_eq!(refused.sift(Some(room.clone())), (Some(room), Refused::default()));
    }

    #[test]
    fn what_names_no_field_of_the_push_refuses_all_of_it() {
        for named in [None, Some("tax"), Some("metadata"), Some("")] {
            let mut refused = Refused::default();
            let push = push(&[(Field::Name, text("Ada"))]);
            assert!(refused.add(&push, named).is_empty());
            assert_eq!(refused.sift(Some(push.write)), (None, refused), "{named:?}");
        }
    }
}
