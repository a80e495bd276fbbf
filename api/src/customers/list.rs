//! `GET /customers`

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use tandem_projections::{Cursor, Search, Sort};
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::body::Query;
use crate::customer_body::CustomerBody;
use crate::page::Limit;
use crate::problem::{Common, OfQuery, Problem};

/// Longest text that is searched for, in characters.
const LONGEST: usize = 512;

/// Which customers, in which order.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// How many at most: 1 to 100, usually 20.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100)]
    limit: Option<Limit>,
    /// Where the next page begins, as `next` of this one told it.
    cursor: Option<String>,
    /// Only those with exactly this email, ignoring case.
    email: Option<String>,
    /// Only those with this text somewhere in the name or the email, ignoring case.
    q: Option<String>,
    /// By `created` or `name`; with `-` backwards. Usually `-created`: newest first.
    #[param(value_type = Option<String>, pattern = "^-?(created|name)$")]
    sort: Option<Sort>,
}

/// A page of customers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CustomerList {
    /// The customers.
    data: Vec<CustomerBody>,
    /// Where the next page begins: to be sent as `cursor`, with the same other parameters. Null on the last page.
    next: Option<String>,
}

/// List customers
///
/// Deleted ones are not listed. Customers that come, change or go while one reads page after page never make others
/// appear twice or be left out.
#[utoipa::path(
    get, path = "/customers", tag = "customers", operation_id = "list_customers",
    params(ListQuery),
    responses((status = 200, description = "A page", body = CustomerList), Common, OfQuery)
)]
#[tracing::instrument(name = "customers.list", skip_all)]
pub(crate) async fn list(
    State(app): State<App>,
    Query(query): Query<ListQuery>,
) -> Result<Json<CustomerList>, Problem> {
    let page = app.customers.list(&query.parse()?).await?;
    Ok(Json(CustomerList {
        data: page.customers.into_iter().map(Into::into).collect(),
        next: page.next.map(|cursor| cursor.to_string()),
    }))
}

impl ListQuery {
    fn parse(self) -> Result<Search, Problem> {
        for (name, text) in [("email", &self.email), ("q", &self.q)] {
            if text.as_ref().is_some_and(|text| text.chars().count() > LONGEST || text.contains('\0')) {
                return Err(Problem::invalid(name, format!("must be a text of at most {LONGEST} characters")));
            }
        }
        let limit = self.limit.unwrap_or(Limit::TWENTY).get();
        let sort = self.sort.unwrap_or_default();
        let after = self.cursor.map(|cursor| cursor.parse::<Cursor>()).transpose();
        let after = after.map_err(|error| Problem::invalid("cursor", error.to_string()))?;
        if after.as_ref().is_some_and(|cursor| cursor.sort() != sort) {
            return Err(Problem::invalid("cursor", "belongs to a list with another sort"));
        }
        Ok(Search { email: self.email, q: self.q.filter(|q| !q.is_empty()), sort, after, limit })
    }
}
