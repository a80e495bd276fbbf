//! The API over real HTTP, on a real PostgreSQL and a real nats-server.

#![allow(clippy::unwrap_used, reason = "a test has nothing better to do")]

mod commands;
mod connections;
mod customers;
mod document;
mod faults;
mod feed;
mod flood;
mod input;
mod keys;
mod largest;
mod lists;
mod local;
mod nats;
mod outside;
mod postgres_tls;
mod rebuild;
mod service;
mod versions;
