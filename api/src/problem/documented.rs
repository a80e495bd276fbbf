//! What a route may answer that is not a success, in the words of the API's document.

use utoipa::IntoResponses;

use super::ProblemBody;

/// What every route may answer that not everybody may ask.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "described for the API's document; the answers are made by Problem")]
pub(crate) enum Admission {
    /// Keys are configured, and none was sent that fits.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorised(ProblemBody),
    /// No keys are configured, and the request is not of this machine alone.
    #[response(status = 403, content_type = "application/problem+json")]
    NotLocal(ProblemBody),
}

/// What every route of the catalog may answer.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "described for the API's document; the answers are made by Problem")]
pub(crate) enum Common {
    /// Keys are configured, and none was sent that fits.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorised(ProblemBody),
    /// No keys are configured, and the request is not of this machine alone.
    #[response(status = 403, content_type = "application/problem+json")]
    NotLocal(ProblemBody),
    /// A defect; nothing about it is told.
    #[response(status = 500, content_type = "application/problem+json")]
    Internal(ProblemBody),
    /// Ask again after `Retry-After` seconds.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(ProblemBody),
}

/// What may be wrong with a query.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "described for the API's document; the answers are made by Problem")]
pub(crate) enum OfQuery {
    /// A parameter or a header breaks a rule, or is not known; `errors` names it.
    #[response(status = 422, content_type = "application/problem+json")]
    Invalid(ProblemBody),
}

/// What may be wrong with a body.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "described for the API's document; the answers are made by Problem")]
pub(crate) enum OfBody {
    /// Not JSON, or not all of it came.
    #[response(status = 400, content_type = "application/problem+json")]
    Malformed(ProblemBody),
    /// It did not arrive in time.
    #[response(status = 408, content_type = "application/problem+json")]
    Late(ProblemBody),
    /// More than 64 KiB.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(ProblemBody),
    /// `Content-Type` names something else.
    #[response(status = 415, content_type = "application/problem+json")]
    MediaType(ProblemBody),
    /// A field breaks a rule, is of a wrong type, or is not known (`errors` names it); or the idempotency key was
    /// used for another request.
    #[response(status = 422, content_type = "application/problem+json")]
    Invalid(ProblemBody),
}

/// What may be wrong with the customer that a path names.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "described for the API's document; the answers are made by Problem")]
pub(crate) enum OfCustomer {
    /// There is no such customer; an id that is no UUID is nobody's.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(ProblemBody),
    /// It was deleted.
    #[response(status = 410, content_type = "application/problem+json")]
    Deleted(ProblemBody),
}

/// What a precondition may come to.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "described for the API's document; the answers are made by Problem")]
pub(crate) enum OfPrecondition {
    /// No version in `If-Match` is the customer's.
    #[response(status = 412, content_type = "application/problem+json")]
    VersionMismatch(ProblemBody),
}
