//! What the parts say is wrong, as a problem.

use tandem_domain::{CustomerError, InvalidField};
use tandem_eventlog::{ExecuteError, OnceError, RecordedError, StoreError, is_transient};
use tandem_gateways::{AcceptError, ParkedError, VerdictError};
use tandem_projections::{ConflictsError, ReadError};

use super::{FieldError, Kind, Problem};

impl From<InvalidField> for FieldError {
    fn from(InvalidField { field, reason }: InvalidField) -> Self {
        Self { field, message: reason }
    }
}

impl From<InvalidField> for Problem {
    fn from(broken: InvalidField) -> Self {
        Self::all_invalid(vec![broken.into()])
    }
}

impl From<CustomerError> for Problem {
    fn from(error: CustomerError) -> Self {
        match error {
            CustomerError::Unborn => Self::no_customer(),
            CustomerError::Deleted => Self::deleted(),
            CustomerError::Invalid(broken) => Self::all_invalid(broken.into_iter().map(Into::into).collect()),
            CustomerError::NotContested => {
                Self::new(Kind::Decided, "the conflict no longer waits: GET /conflicts shows what came of it")
            }
            // No route of ours asks for these.
            CustomerError::Exists | CustomerError::Alive | CustomerError::LinkedElsewhere(_) => Self::internal(&error),
        }
    }
}

impl From<ExecuteError<CustomerError>> for Problem {
    fn from(error: ExecuteError<CustomerError>) -> Self {
        match error {
            ExecuteError::Refused(refusal) => refusal.into(),
            ExecuteError::VersionMismatch { actual: 0 } => Self::no_customer(),
            ExecuteError::VersionMismatch { .. } => Self::version_mismatch(),
            ExecuteError::KeyReused => Self::key_reused(),
            ExecuteError::Conflict => Self::busy(),
            ExecuteError::Unavailable(_) => Self::unavailable(&error),
            ExecuteError::Corrupt(_) => Self::internal(&error),
        }
    }
}

impl From<OnceError> for Problem {
    fn from(error: OnceError) -> Self {
        match error {
            OnceError::KeyReused => Self::key_reused(),
            OnceError::Unavailable(error) => error.into(),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => Self::unavailable(&error),
            StoreError::NoSuchVersion { .. } | StoreError::Corrupt(_) => Self::internal(&error),
        }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unavailable(error) => error.into(),
            ReadError::Behind => Self::behind(),
        }
    }
}

impl From<ConflictsError> for Problem {
    fn from(error: ConflictsError) -> Self {
        match error {
            ConflictsError::Unavailable(error) => error.into(),
            ConflictsError::Unreadable(_) => Self::internal(&error),
        }
    }
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        if is_transient(&error) { Self::unavailable(&error) } else { Self::internal(&error) }
    }
}

impl From<RecordedError> for Problem {
    fn from(error: RecordedError) -> Self {
        Self::internal(&error)
    }
}

impl From<AcceptError> for Problem {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::UnknownGateway => Self::not_found("there is no gateway of this name, or it is switched off"),
            AcceptError::Webhook(refused) => Self::new(Kind::WebhookRefused, refused.to_string()),
            AcceptError::Unavailable(error) => error.into(),
        }
    }
}

impl From<ParkedError> for Problem {
    fn from(error: ParkedError) -> Self {
        match error {
            ParkedError::NotParked => Self::not_found("nothing is parked under this number"),
            ParkedError::NotACandidate => Self::invalid("candidate", "must be one of the candidates that are parked"),
            ParkedError::NotAmbiguous | ParkedError::Taken => Self::new(Kind::NotLinkable, error.to_string()),
            ParkedError::IsADeletion => Self::new(Kind::NotDecidable, error.to_string()),
            ParkedError::Once(error) => error.into(),
            ParkedError::Database(error) => error.into(),
        }
    }
}

impl From<VerdictError> for Problem {
    fn from(error: VerdictError) -> Self {
        match error {
            VerdictError::NotParked => Self::not_found("nothing is parked under this number"),
            VerdictError::NotADeletion | VerdictError::Decided(_) | VerdictError::Moot => {
                Self::new(Kind::NotDecidable, error.to_string())
            }
            VerdictError::Once(error) => error.into(),
            VerdictError::Database(error) => error.into(),
        }
    }
}
