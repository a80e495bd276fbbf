#![doc = include_str!("../README.md")]

mod answer;
mod apart;
mod backoff;
pub mod checkpoint;
mod cloudevent;
mod connections;
mod context;
#[doc(hidden)]
pub mod crash;
mod database;
mod disk;
mod duties;
mod erase;
mod feed;
mod follow;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod journal;
mod log;
mod mac;
mod once;
mod projection;
mod projector;
mod reader;
mod recorded;
mod relaxed;
mod relay;
mod store;
pub mod stream;
mod transient;
mod unproved;
mod wake;
#[doc(hidden)]
pub mod zoo;

pub use apart::Apart;
pub use connections::Connections;
pub use context::{CommandKey, Context};
pub use cqrs_es::persist::EventUpcaster;
pub use database::{epoch, last_position, migrate, signed, unsigned};
pub use disk::{Disk, Session};
pub use duties::{Duties, Duty, StandBy};
pub use erase::{EraseError, erase, erase_rows};
pub use feed::Feed;
pub use follow::follow;
pub use log::chain;
pub use mac::{MacKey, Unproved};
pub use once::{OnceError, begin_once, forget_keys};
pub use projection::{Projection, ProjectionError};
pub use projector::{Projector, ProjectorError, ProjectorStatus};
pub use reader::ReadError;
pub use recorded::{Recorded, RecordedError, history, history_after, history_before, read_after};
pub use relaxed::{Lent, Relaxed};
pub use relay::{Relay, RelayStatus};
pub use store::{Appended, Decided, ExecuteError, Executed, Loaded, Store, StoreError};
pub use transient::is_transient;
pub use wake::{Wake, WakeListener};
