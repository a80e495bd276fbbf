//! What Stripe answers when it refuses a call.

use serde_json::{Value, json};

/// A refusal, in Stripe's words.
#[derive(Debug, Clone)]
pub(crate) struct StripeError {
    pub(crate) status: u16,
    pub(crate) kind: &'static str,
    pub(crate) code: Option<&'static str>,
    pub(crate) param: Option<String>,
    pub(crate) message: String,
    /// Whether the endpoint had begun, so that its idempotency key is spent on this answer.
    pub(crate) saved: bool,
    pub(crate) headers: Vec<(String, String)>,
}

impl StripeError {
    fn invalid(status: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            kind: "invalid_request_error",
            code: None,
            param: None,
            message: message.into(),
            saved: false,
            headers: Vec::new(),
        }
    }

    fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    fn param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A parameter whose value won't do.
    pub(crate) fn bad_param(param: &str, message: impl Into<String>) -> Self {
        Self::invalid(400, message).param(param)
    }

    pub(crate) fn unknown_params(names: &[&str]) -> Self {
        let plural = if names.len() == 1 { "" } else { "s" };
        let first = names.first().copied().unwrap_or_default();
        Self::invalid(400, format!("Received unknown parameter{plural}: {}", names.join(", ")))
            .code("parameter_unknown")
            .param(first)
    }

    pub(crate) fn missing_param(name: &str) -> Self {
        Self::bad_param(name, format!("Missing required param: {name}.")).code("parameter_missing")
    }

    pub(crate) fn exclusive_params(one: &str, other: &str) -> Self {
        Self::bad_param(one, format!("You may only specify one of these parameters: {one}, {other}."))
            .code("parameters_exclusive")
    }

    pub(crate) fn bad_integer(param: &str, value: &str) -> Self {
        Self::bad_param(param, format!("Invalid integer: {value}")).code("parameter_invalid_integer")
    }

    pub(crate) fn bad_email(value: &str) -> Self {
        Self::bad_param("email", format!("Invalid email address: {value}")).code("email_invalid")
    }

    /// Real Stripe would take the parameter; this one has nothing behind it.
    pub(crate) fn not_modelled(param: &str) -> Self {
        Self::bad_param(param, format!("The local Stripe does not model the parameter {param}; Stripe itself does."))
    }

    /// The status is 404 when the call's own object is missing, and 400 when a parameter names a missing one.
    pub(crate) fn no_such(object: &str, id: &str, param: &str) -> Self {
        let status = if param == "id" || param == object { 404 } else { 400 };
        let mut error =
            Self::invalid(status, format!("No such {object}: '{id}'")).code("resource_missing").param(param);
        error.saved = true;
        error
    }

    pub(crate) fn unrecognised_url(method: &str, path: &str) -> Self {
        Self::invalid(
            404,
            format!(
                "Unrecognized request URL ({method}: {path}). Please see https://stripe.com/docs \
                 or we can help at https://support.stripe.com/."
            ),
        )
    }

    pub(crate) fn not_a_form() -> Self {
        Self::invalid(
            400,
            "Invalid request (check that your POST content type is application/x-www-form-urlencoded). \
             If you have any questions, we can help at https://support.stripe.com/.",
        )
    }

    /// The account is not connected to that of the key.
    pub(crate) fn no_access(account: &str) -> Self {
        let message = format!(
            "The provided key does not have access to account '{account}' (or that account does not exist). \
             Application access may have been revoked."
        );
        Self::invalid(403, message).code("account_invalid")
    }

    pub(crate) fn too_large() -> Self {
        Self::invalid(413, "Request body too large.")
    }

    pub(crate) fn no_key() -> Self {
        Self::invalid(
            401,
            "You did not provide an API key. You need to provide your API key in the Authorization header, \
             using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See \
             https://stripe.com/docs/api#authentication for details, or we can help at https://support.stripe.com/.",
        )
        .header("www-authenticate", "Bearer realm=\"Stripe\"")
    }

    /// The key is shown as Stripe shows it: its beginning and its last four characters.
    pub(crate) fn wrong_key(key: &str) -> Self {
        let shown: String = key.chars().take(8).collect();
        let last: Vec<char> = key.chars().skip(8).collect();
        let last: String = last[last.len().saturating_sub(4)..].iter().collect();
        Self::invalid(401, format!("Invalid API Key provided: {shown}****{last}"))
            .header("www-authenticate", "Bearer realm=\"Stripe\"")
    }

    pub(crate) fn key_too_long() -> Self {
        Self::invalid(400, "Idempotency keys can be at most 255 characters long.")
    }

    pub(crate) fn key_in_use(key: &str) -> Self {
        Self::invalid(
            409,
            format!(
                "There is currently another in-progress request using this Idempotent Key (that probably means you \
                 submitted twice, and the other request is still going through): {key}. Please try again later."
            ),
        )
        .code("idempotency_key_in_use")
        .header("stripe-should-retry", "true")
    }

    pub(crate) fn key_of_other_endpoint(key: &str, now: &str, first: &str) -> Self {
        Self {
            kind: "idempotency_error",
            ..Self::invalid(
                400,
                format!(
                    "Keys for idempotent requests can only be used for the same endpoint they were first used for \
                     ('{now}' vs '{first}'). Try using a key other than '{key}' if you meant to execute a different \
                     request."
                ),
            )
        }
    }

    pub(crate) fn key_of_other_params(key: &str) -> Self {
        Self {
            kind: "idempotency_error",
            ..Self::invalid(
                400,
                format!(
                    "Keys for idempotent requests can only be used with the same parameters they were first used \
                     with. Try using a key other than '{key}' if you meant to execute a different request."
                ),
            )
        }
    }

    pub(crate) fn rate_limited(reason: &str) -> Self {
        Self::invalid(
            429,
            "Request rate limit exceeded. You can learn more about rate limits here \
             https://stripe.com/docs/rate-limits.",
        )
        .code("rate_limit")
        .header("stripe-rate-limited-reason", reason)
        .header("stripe-should-retry", "true")
    }

    /// Stripe failed; whether it had done the work, the answer does not say.
    pub(crate) fn internal() -> Self {
        Self { kind: "api_error", saved: true, ..Self::invalid(500, "An unknown error occurred.") }
    }

    /// What a test asked for: any status, with any code, parameter and headers.
    pub(crate) fn asked_for(
        status: u16,
        code: Option<&str>,
        param: Option<&str>,
        headers: &[(String, String)],
    ) -> Self {
        let known = ["lock_timeout", "rate_limit", "idempotency_key_in_use", "email_invalid", "resource_missing"];
        Self {
            kind: if status >= 500 { "api_error" } else { "invalid_request_error" },
            code: known.into_iter().find(|known| Some(*known) == code),
            headers: headers.to_vec(),
            param: param.map(ToOwned::to_owned),
            ..Self::invalid(status, format!("The local Stripe was asked to answer {status}."))
        }
    }

    pub(crate) fn body(&self, request_id: &str, at: i64) -> Value {
        let mut error = json!({
            "message": self.message,
            "request_log_url": format!("https://dashboard.stripe.com/test/logs/{request_id}?t={at}"),
            "type": self.kind,
        });
        if let Some(code) = self.code {
            error["code"] = code.into();
            error["doc_url"] = format!("https://stripe.com/docs/error-codes/{}", code.replace('_', "-")).into();
        }
        if let Some(param) = &self.param {
            error["param"] = param.as_str().into();
        }
        json!({ "error": error })
    }
}
