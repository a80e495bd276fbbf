#![doc = include_str!("../README.md")]

mod customer;
mod ids;
mod interval;
mod merge;
mod profile;

pub use customer::{
    Change, Changes, Contest, Create, Customer, CustomerCommand, CustomerError, CustomerEvent, Delete, Intake, Link,
    Observe, Overwritten, Side, Sight, Stamp, Unlink, Update, Winner, upcasters,
};
pub use ids::{CustomerId, GatewayName, InvalidId, RemoteId};
pub use interval::{Interval, Order};
pub use merge::{Merged, Policy, Spelling, Spellings, differences, merge};
pub use profile::{ADDRESS_PARTS, Address, Field, InvalidField, METADATA_KEYS, Patch, Profile, Value};
