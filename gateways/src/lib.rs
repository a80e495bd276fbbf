//! What keeps other systems in step.

mod gateway;
pub mod stripe;

pub use gateway::{
    Call, CallError, ChangeKind, Gateway, Notice, Object, RemoteChange, Reply, Seen, WebhookError, Write,
};
