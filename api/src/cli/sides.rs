//! Both sides of a gateway, for the commands that compare them, and how far they are.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tandem_domain::upcasters;
use tandem_eventlog::{Store, Wake};
use tandem_gateways::{Begin, Progress, Sides, SurveyError, share_pace};
use tokio_util::sync::CancellationToken;

use super::{Failure, Told};
use crate::clock::Clock;
use crate::config::Config;
use crate::connect;
use crate::serve::{gateways, stripes};

/// The catalog and the gateway of that name. Nothing needs to serve.
///
/// # Errors
/// The settings are wrong, or switch on no gateway of this name.
pub(super) async fn open(config: &Config, gateway: &str) -> Result<Sides, Failure> {
    let configured = gateways(config, &stripes(config, &Clock::system())?)?;
    let Some(one) = configured.iter().find(|one| one.gateway.name().as_str() == gateway) else {
        let names: Vec<&str> = configured.iter().map(|one| one.gateway.name().as_str()).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        return Err(Told(format!("no gateway {gateway} is switched on; those that are: {names}")).into());
    };
    let connections = connect::connections(config)?;
    let nats = connect::nats_now(config).await?;
    let (pool, feed) = (connections.pool().clone(), config.feed());
    // Nobody waits for what a command calls.
    let gateway = one.gateway.in_bulk();
    // Until the process ends.
    let sharing = share_pace(pool.clone(), nats.clone(), feed.clone(), vec![gateway.clone()], CancellationToken::new());
    tokio::spawn(sharing);
    let store = Store::new(&connections, Wake::new(nats, &feed.stream), upcasters);
    Ok(Sides {
        duties: connections.duties().clone(),
        pool,
        store,
        gateway,
        filter: one.filter.clone(),
        grace: one.verify_grace,
    })
}

/// As `--resume` says.
pub(super) fn begin(resume: bool) -> Begin {
    if resume { Begin::Resume } else { Begin::Anew }
}

/// What was read is kept, and whoever reads this should know.
pub(super) fn broken_off(error: SurveyError) -> Failure {
    match &error {
        SurveyError::Call(_) | SurveyError::Database(_) => {
            eprintln!("What was done is kept: the same command with --resume goes on.");
        }
        SurveyError::Unreadable(_) => {
            eprintln!(
                "What was done is kept. If a newer version of Tandem wrote the event, run that version's command with --resume; \
                 else restore the event."
            );
        }
        SurveyError::Busy(_) | SurveyError::NoPlan(_) | SurveyError::NothingToResume { .. } => {}
    }
    error.into()
}

/// How far it is, on stderr, where a person looks on.
pub(super) struct Bar(Option<ProgressBar>);

impl Bar {
    pub(super) fn new() -> Self {
        let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
        Self(style.ok().filter(|_| io::stderr().is_terminal()).map(|style| {
            let bar = ProgressBar::new_spinner().with_style(style);
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        }))
    }

    pub(super) fn tell(&self, Progress { customers, objects, looked_at }: Progress) {
        let Some(bar) = &self.0 else { return };
        if looked_at > 0 {
            bar.set_message(format!("{looked_at} looked at"));
        } else {
            bar.set_message(format!("{customers} customers read here, {objects} objects there"));
        }
    }

    /// Takes it off the screen.
    pub(super) fn end(self) {
        if let Some(bar) = self.0 {
            bar.finish_and_clear();
        }
    }
}
