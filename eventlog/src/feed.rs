//! The names of the feed: its stream and its subjects.

/// Where events are published: one JetStream stream, one subject per event under a common root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feed {
    /// The stream's name.
    pub stream: String,
    /// The first token of every subject.
    pub root: String,
    /// How many servers of a NATS cluster keep a copy of the stream, when Tandem makes it; no fewer are accepted.
    pub replicas: usize,
}

impl Default for Feed {
    fn default() -> Self {
        Self { stream: "CATALOG".to_owned(), root: "catalog".to_owned(), replicas: 1 }
    }
}

impl Feed {
    /// The subject of one event: `catalog.customer.<id>.updated`.
    pub fn subject(&self, aggregate_type: &str, aggregate_id: &str, event_type: &str) -> String {
        format!("{}.{aggregate_type}.{aggregate_id}.{event_type}", self.root)
    }

    /// Every subject of the feed: `catalog.>`.
    pub fn subjects(&self) -> String {
        format!("{}.>", self.root)
    }
}
