//! All of Tandem, on real servers. One program: it is linked once, and no processor waits for the last test of a part.

#![allow(clippy::unwrap_used, reason = "a test has nothing better to do, in its helper functions neither")]

mod accounts;
mod backup;
mod canary;
mod conflicts;
mod convergence;
mod copies;
mod crashes;
mod deletions;
mod erase;
mod faults;
mod fields;
mod isolation;
mod later;
mod outside;
mod pause;
mod paused_inbound;
mod plan;
mod processes;
mod retention;
mod rules;
mod stalls;
mod sweep;
mod sync;
mod twins;
mod unreadable;
mod verify;
mod webhooks;
