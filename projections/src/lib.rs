#![doc = include_str!("../README.md")]

mod conflicts;
mod customers;
mod database;
mod lag;

pub use conflicts::{ConflictRow, ConflictSearch, ConflictsError, conflict, conflicts};
pub use customers::{
    Cursor, CustomerRow, Customers, InvalidCursor, Page, ReadError, RebuildError, Search, Sort, State,
    customers_rebuild, shows, version_shown,
};
pub use database::migrate;
pub use lag::{FeedLag, Lag, lag};
