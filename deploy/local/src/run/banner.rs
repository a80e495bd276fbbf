//! What `make run` says when all is up.

use super::Places;
use super::mode::Mode;
use super::ports::Ports;

/// Where everything is, and what to try next.
pub fn text(places: &Places, ports: &Ports) -> String {
    let folder = places.folder.display();
    let tandem = &places.tandem_url;
    let stripe = match (&places.mode, &places.stripe_url) {
        (Mode::Stripe { live: true, .. }, _) => "Stripe itself, in LIVE mode: real customers will change".to_owned(),
        (Mode::Stripe { .. }, _) | (_, None) => "Stripe itself, in test mode".to_owned(),
        (Mode::Local, Some(url)) => {
            format!("{url}/   a local one: edit customers on this page, as in Stripe's Dashboard")
        }
    };
    let moved: String = ports.moved.iter().map(|line| format!("\n  note: {line}")).collect();
    let next = match &places.mode {
        Mode::Local => LOCAL.to_owned(),
        Mode::Stripe { .. } => REAL.replace("{tandem}", tandem),
    };
    format!(
        "\nTandem runs.\n
  Tandem      {tandem}   API reference: {tandem}/openapi.json
  Stripe      {stripe}
  NATS        127.0.0.1:{nats}
  PostgreSQL  127.0.0.1:{postgres}
  Data, logs  {folder}/data, {folder}/log{moved}

Try in another terminal:

  set -a; . {folder}/env; set +a
{next}
Ctrl-C stops everything; `make run` goes on with the same data.\n",
        nats = ports.nats,
        postgres = ports.postgres,
    )
}

const LOCAL: &str = r#"  curl -s $TANDEM_URL/customers -H 'content-type: application/json' -d '{"name":"Ada","email":"ada@example.com"}'
  curl -s $STRIPE_API_BASE/v1/customers -u $STRIPE_SECRET_KEY:     # she is there
  curl -s $TANDEM_URL/customers                                    # edit her on the local Stripe's page, and look again
  tandem tail                                                      # every change, as it happens
  psql $DATABASE_URL
"#;

const REAL: &str = r#"  curl -s $TANDEM_URL/customers -H 'content-type: application/json' -d '{"name":"Ada","email":"ada@example.com"}'
  curl -s $TANDEM_URL/customers
  tandem tail                                                      # every change, as it happens
  psql $DATABASE_URL

Stripe's webhooks reach this machine by `stripe listen --forward-to {tandem}/webhooks/stripe`: start `make run` with the
secret that `stripe listen --print-secret` shows as STRIPE_WEBHOOK_SECRET. Without, changes in Stripe arrive by the sweep.
"#;
