//! All of Tandem, on real servers. One program: it is linked once, and no processor waits for the last test of a part.

mod accounts;
mod backup;
mod conflicts;
mod convergence;
mod crashes;
mod deletions;
mod erase;
mod faults;
mod pause;
mod plan;
mod retention;
mod rules;
mod stalls;
mod sweep;
mod sync;
mod twins;
mod verify;
