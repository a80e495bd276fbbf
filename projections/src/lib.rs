#![doc = include_str!("../README.md")]

mod customers;
mod database;
mod lag;

pub use customers::{
    Cursor, CustomerRow, Customers, InvalidCursor, Page, ReadError, RebuildError, Search, Sort, State,
    customers_rebuild, version_shown,
};
pub use database::migrate;
pub use lag::{FeedLag, Lag, lag};
