//! A projection's loop: read the feed, apply a batch, move the checkpoint, all in one transaction.

mod wrong;

use crate::backoff::Backoff;
use crate::checkpoint::{self, Checkpoint};
use crate::connections::Connections;
use crate::crash;
use crate::database::last_position;
use crate::feed::Feed;
use crate::log::chain;
use crate::projection::{Projection, ProjectionError};
use crate::reader::{BATCH, Live, ReadError, Reader};
use crate::recorded::Recorded;
use crate::relaxed::Relaxed;
use crate::transient::is_transient;
use crate::zoo::plays;
use async_nats::Client;
use chrono::{DateTime, Utc};
use futures::future::{Either, select};
use futures::stream::Peekable;
use futures::{FutureExt, Stream, StreamExt};
use metrics::gauge;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often a projector compares itself with the head of the feed.
const LOOK: Duration = Duration::from_secs(1);

/// Why a projector ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum ProjectorError {
    /// An event cannot be applied. Nothing is skipped: mend the projection or add the upcaster, then start it again.
    #[error("{projection} stopped before position {position}, which it cannot apply")]
    Stopped {
        /// The projection.
        projection: String,
        /// The event's position; everything before it is applied.
        position: u64,
        /// What is wrong with it.
        #[source]
        source: ProjectionError,
    },
    /// Another generation was promoted: ask [`checkpoint::live`] for it.
    #[error("generation {generation} of {projection} is superseded")]
    Superseded {
        /// The projection.
        projection: String,
        /// Ours.
        generation: u32,
    },
}

/// What a projector is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProjectorStatus {
    /// The position of the last event applied.
    pub position: u64,
    /// The feed's last position, as last seen.
    pub head: u64,
    /// Why it stopped for good.
    pub stopped: Option<String>,
    /// What fails now, and is tried again.
    pub failing: Option<String>,
    /// How many messages of the stream it has refused, since they were not proved to be the relay's. PostgreSQL was read instead.
    pub refused: u64,
}

impl ProjectorStatus {
    /// How many events it is behind.
    pub fn lag(&self) -> u64 {
        self.head.saturating_sub(self.position)
    }
}

/// Runs one generation of a projection. Several may run for one name: each batch is applied by one of them.
pub struct Projector {
    relaxed: Relaxed,
    nats: Client,
    feed: Feed,
    projection: Arc<dyn Projection>,
    generation: u32,
    patience: Duration,
    status: watch::Sender<ProjectorStatus>,
    refused: Arc<AtomicU64>,
}

/// What became of a batch.
enum Step {
    Applied,
    /// The checkpoint is not where we left it: somebody else is at work, or the stream was rebuilt.
    Moved,
    /// Nothing from this position on can be applied.
    Stuck(u64, ProjectionError),
}

/// Trouble that passes.
#[derive(Debug, thiserror::Error)]
enum Passing {
    #[error("the checkpoint is out of reach")]
    Checkpoint(#[from] sqlx::Error),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Projection(ProjectionError),
}

impl Projector {
    /// A projector of generation 1.
    ///
    /// Its commits do not wait for the disk: rows and checkpoint are lost together, and made again.
    pub fn new(connections: &Connections, nats: Client, feed: Feed, projection: Arc<dyn Projection>) -> Self {
        Self {
            relaxed: connections.relaxed().clone(),
            nats,
            feed,
            projection,
            generation: 1,
            patience: Duration::ZERO,
            status: watch::Sender::default(),
            refused: Arc::default(),
        }
    }

    /// Of another generation: a rebuild beside the live one, which has opened its checkpoint by [`checkpoint::open`].
    pub fn generation(mut self, generation: u32) -> Self {
        self.generation = generation;
        self
    }

    /// Waits so long for more to come before it applies a batch: for projections that people do not wait for. A burst is
    /// fewer transactions then, and what they wait for has the database to itself meanwhile.
    pub fn patient(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Follows what the projector is doing.
    pub fn status(&self) -> watch::Receiver<ProjectorStatus> {
        self.status.subscribe()
    }

    /// Applies events until told to stop. Trouble that passes is logged once and waited out; an event that cannot be
    /// applied ends it.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ProjectorError> {
        let ended = tokio::select! {
            ended = self.work() => ended,
            () = shutdown.cancelled() => return Ok(()),
        };
        // Whoever rebuilt it goes on with another.
        if matches!(ended, ProjectorError::Superseded { .. }) {
            return Err(ended);
        }
        let reason = chain(&ended);
        tracing::error!(projection = self.name(), error = %reason, "the projector ended");
        gauge!("tandem_projector_stopped", "projector" => self.name().to_owned()).set(1);
        self.status.send_modify(|status| status.stopped = Some(reason));
        Err(ended)
    }

    async fn work(&self) -> ProjectorError {
        gauge!("tandem_projector_stopped", "projector" => self.name().to_owned()).set(0);
        let mut backoff = Backoff::default();
        loop {
            match self.read(&mut backoff).await {
                Ok(Some(ended)) => return ended,
                Ok(None) => {}
                Err(passing) => {
                    self.failed(&chain(&passing));
                    backoff.wait().await;
                }
            }
        }
    }

    /// Reads on from the checkpoint until it is taken back (`None`), or for good.
    async fn read(&self, backoff: &mut Backoff) -> Result<Option<ProjectorError>, Passing> {
        let Self { relaxed, nats, feed, .. } = self;
        self.projection.forget();
        let Some(mut at) = self.begin().await? else {
            let projection = self.name().to_owned();
            return Ok(Some(ProjectorError::Superseded { projection, generation: self.generation }));
        };
        let reader = Reader::after(relaxed.pool().clone(), nats.clone(), feed.clone(), Live::Consumer, at.position)
            .counting(Arc::clone(&self.refused));
        // What is being read goes on over the looks: what takes longer than one would never be read.
        let mut batches = pin!(reader.batches().peekable());
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut batch = tokio::select! {
                biased;
                _ = looks.tick() => {
                    let looking = async {
                        let is_there = self.catch_up(&mut at).await?;
                        Ok::<_, Passing>(if is_there { Some(last_position(relaxed.pool()).await?) } else { None })
                    };
                    let Some(head) = while_reading(looking, batches.as_mut()).await? else { return Ok(None) };
                    self.arrived(at.position, head, None);
                    if at.position >= head {
                        backoff.reset();
                    }
                    continue;
                }
                // There is no end of it.
                batch = batches.next() => batch.transpose()?.unwrap_or_default(),
            };
            if !self.patience.is_zero() {
                tokio::time::sleep(self.patience).await;
            }
            // What came while the one before was applied is in several parts: it was read as it came.
            while batch.len() < BATCH as usize
                && let Some(Some(more)) = batches.next().now_or_never()
            {
                batch.extend(more?);
            }
            loop {
                // Another projector may have applied some of it.
                let news = &batch[batch.partition_point(|event| event.position <= at.position)..];
                match while_reading(self.step(&mut at, news), batches.as_mut()).await? {
                    Step::Applied => break backoff.reset(),
                    // Whoever was first: the next events may be ours. What was read stays, and so does the reader.
                    Step::Moved => {
                        if !while_reading(self.catch_up(&mut at), batches.as_mut()).await? {
                            return Ok(None);
                        }
                        self.arrived(at.position, at.position, None);
                    }
                    Step::Stuck(position, source) => {
                        let projection = self.name().to_owned();
                        return Ok(Some(ProjectorError::Stopped { projection, position, source }));
                    }
                }
            }
        }
    }

    /// Where to begin; `None` if this generation is forgotten.
    async fn begin(&self) -> Result<Option<Checkpoint>, sqlx::Error> {
        let mut connection = self.relaxed.pool().acquire().await?;
        // A later one is opened by whoever rebuilds, and by nobody else: it would begin again after it was given up.
        if self.generation == 1 {
            checkpoint::open(&mut connection, self.name(), self.generation).await?;
        }
        checkpoint::read(&mut *connection, self.name(), self.generation).await
    }

    /// Goes to where the checkpoint is, which another projector may have moved. False if it was taken back or away: a
    /// backup was restored, the stream rebuilt. Nothing would ever follow the position that we believe in.
    async fn catch_up(&self, at: &mut Checkpoint) -> Result<bool, sqlx::Error> {
        let now = checkpoint::read(self.relaxed.pool(), self.name(), self.generation).await?;
        let Some(now) = now.filter(|now| now.epoch == at.epoch && now.position >= at.position) else {
            return Ok(false);
        };
        if *at != now {
            self.projection.forget();
            *at = now;
        }
        Ok(true)
    }

    /// Applies a batch; if an event is in the way, everything before it.
    async fn step(&self, at: &mut Checkpoint, batch: &[Recorded]) -> Result<Step, Passing> {
        match self.apply(at, batch).await? {
            // Which event it is shows when they go one by one.
            Step::Stuck(..) => {}
            step => return Ok(step),
        }
        for event in batch {
            match self.apply(at, std::slice::from_ref(event)).await? {
                Step::Applied => {}
                Step::Stuck(..) if plays("skips-what-it-cannot-apply") => {
                    let mut connection = self.relaxed.pool().acquire().await?;
                    checkpoint::advance(&mut connection, self.name(), self.generation, *at, event.position).await?;
                    at.position = event.position;
                }
                other => return Ok(other),
            }
        }
        Ok(Step::Applied)
    }

    async fn apply(&self, at: &mut Checkpoint, batch: &[Recorded]) -> Result<Step, Passing> {
        let (Some(first), Some(last)) = (batch.first(), batch.last()) else { return Ok(Step::Applied) };
        if plays("checkpoint-before-the-effects") || plays("checkpoint-after-the-effects") {
            return self.apply_apart(at, batch, last).await;
        }
        if let Some(write) = self.projection.write(batch) {
            let (name, to) = (self.name(), last.position);
            let mut lent = self.relaxed.lend().await?;
            match checkpoint::advance_and_write(&mut lent, name, self.generation, *at, to, write).await {
                Ok(moved) => {
                    lent.give_back();
                    return Ok(if moved { self.committed(at, batch, last).await } else { Step::Moved });
                }
                Err(error) if is_transient(&error) => return Err(error.into()),
                // In a transaction it shows whether the event is to blame.
                Err(_) => {}
            }
        }
        let mut transaction = self.relaxed.pool().begin().await?;
        if !checkpoint::advance(&mut transaction, self.name(), self.generation, *at, last.position).await? {
            return Ok(Step::Moved);
        }
        match self.projection.apply(&mut transaction, batch).await {
            Ok(()) => {}
            Err(error) if error.is_transient() => return Err(Passing::Projection(error)),
            // Of all that is done here, this alone depends on the event.
            Err(error) => return Ok(Step::Stuck(first.position, error)),
        }
        crash::at("projector-applied");
        transaction.commit().await?;
        Ok(self.committed(at, batch, last).await)
    }

    async fn committed(&self, at: &mut Checkpoint, batch: &[Recorded], last: &Recorded) -> Step {
        crash::at("projector-committed");
        at.position = last.position;
        self.projection.applied(batch).await;
        self.arrived(last.position, last.position, Some(last.recorded_at));
        Step::Applied
    }

    fn name(&self) -> &str {
        self.projection.name()
    }

    fn arrived(&self, position: u64, head: u64, recorded_at: Option<DateTime<Utc>>) {
        let mut recovered = false;
        self.status.send_modify(|status| {
            status.position = position;
            status.head = status.head.max(head);
            status.refused = self.refused.load(Ordering::Relaxed);
            // While something waits, only what is applied shows that it works again.
            recovered = position >= head && status.failing.take().is_some();
        });
        if recovered {
            tracing::info!(projection = self.name(), position, "the projector is well again");
        }
        let lag = self.status.borrow().lag();
        gauge!("tandem_projector_lag_events", "projector" => self.name().to_owned()).set(lag as f64);
        let seconds = match recorded_at {
            Some(recorded_at) => Some((machine_time() - recorded_at).as_seconds_f64().max(0.0)),
            None if lag == 0 => Some(0.0),
            None => None,
        };
        if let Some(seconds) = seconds {
            gauge!("tandem_projector_lag_seconds", "projector" => self.name().to_owned()).set(seconds);
        }
    }

    fn failed(&self, reason: &str) {
        let mut news = false;
        self.status.send_modify(|status| news = status.failing.replace(reason.to_owned()).is_none());
        if news {
            tracing::warn!(projection = self.name(), error = reason, "the projector is failing, and tries again");
        }
    }
}

/// Does that while the next batch is read: what is being read may hold one of the connections that this needs.
async fn while_reading<T>(doing: impl Future<Output = T>, batches: Pin<&mut Peekable<impl Stream>>) -> T {
    match select(pin!(doing), batches.peek()).await {
        Either::Left((done, _)) => done,
        Either::Right((_, doing)) => doing.await,
    }
}

#[expect(clippy::disallowed_methods, reason = "only the lag that is shown is measured by it")]
fn machine_time() -> DateTime<Utc> {
    Utc::now()
}
