//! How the stream has to be.

use crate::feed::Feed;
use async_nats::jetstream::stream::{Compression, Config, DiscardPolicy, RetentionPolicy, StorageType};
use std::time::Duration;

/// Nothing is ever thrown away by itself, and nothing is published that was not sent.
pub(super) fn settings(feed: &Feed) -> Config {
    Config {
        name: feed.stream.clone(),
        subjects: vec![feed.subjects()],
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::New,
        storage: StorageType::File,
        max_messages: -1,
        max_messages_per_subject: -1,
        max_bytes: -1,
        max_message_size: -1,
        max_consumers: -1,
        max_age: Duration::ZERO,
        allow_direct: true,
        compression: Some(Compression::S2),
        num_replicas: feed.replicas,
        ..Config::default()
    }
}

/// What of a stream's settings would break a promise. More replicas than asked for, placement and description are the
/// operator's.
pub(super) fn differences(found: &Config, feed: &Feed) -> Vec<String> {
    let needed = settings(feed);
    let mut differences = Vec::new();
    macro_rules! same {
        ($($field:ident),+) => {$(
            if found.$field != needed.$field {
                differences.push(format!(
                    concat!(stringify!($field), " is {:?}, has to be {:?}"), found.$field, needed.$field
                ));
            }
        )+};
    }
    same!(
        subjects,
        retention,
        discard,
        storage,
        max_messages,
        max_messages_per_subject,
        max_bytes,
        max_message_size,
        max_consumers,
        max_age,
        allow_direct,
        allow_rollup,
        sealed,
        no_ack,
        deny_delete,
        deny_purge,
        subject_transform,
        allow_message_ttl,
        mirror,
        sources
    );
    if found.num_replicas < needed.num_replicas {
        let (found, needed) = (found.num_replicas, needed.num_replicas);
        differences.push(format!("num_replicas is {found}, has to be {needed} at least"));
    }
    differences
}
