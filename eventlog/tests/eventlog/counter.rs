//! The aggregate of these tests: a counter that never goes below zero.

use cqrs_es::event_sink::EventSink;
use cqrs_es::{Aggregate, DomainEvent};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    pub value: i64,
}

#[derive(Debug, Clone)]
pub enum Command {
    Add(i64),
    /// Adds one several times: several events.
    Count(u32),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Event {
    Added { by: i64 },
    Taken { by: i64 },
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the counter has only {0}")]
pub struct TooLittle(pub i64);

impl DomainEvent for Event {
    fn event_type(&self) -> String {
        match self {
            Self::Added { .. } => "added".to_owned(),
            Self::Taken { .. } => "taken".to_owned(),
        }
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

impl Aggregate for Counter {
    const TYPE: &'static str = "counter";
    type Command = Command;
    type Event = Event;
    type Error = TooLittle;
    type Services = ();

    async fn handle(&mut self, command: Command, (): &(), sink: &EventSink<Self>) -> Result<(), TooLittle> {
        match command {
            Command::Add(0) => {}
            Command::Add(by) if by > 0 => sink.write(Event::Added { by }, self).await,
            Command::Add(by) if self.value + by < 0 => return Err(TooLittle(self.value)),
            Command::Add(by) => sink.write(Event::Taken { by: -by }, self).await,
            Command::Count(times) => {
                for _ in 0..times {
                    sink.write(Event::Added { by: 1 }, self).await;
                }
            }
        }
        Ok(())
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Added { by } => self.value += by,
            Event::Taken { by } => self.value -= by,
        }
    }
}
