//! `/customers` and what is under it.

pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod get;
pub(crate) mod history;
pub(crate) mod links;
pub(crate) mod list;
pub(crate) mod update;
