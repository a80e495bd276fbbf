//! A history: who edits what, and what goes wrong.

use std::fmt;

use super::wrong::Wrong;

/// A history to play.
#[derive(Clone, Debug)]
pub struct History {
    /// Who wins conflicts.
    pub policy: &'static str,
    /// What is done about a deletion there, and about one here.
    pub deletes: [&'static str; 2],
    /// Of each account at Stripe, whether it spells emails its own way.
    pub normalises: Vec<bool>,
    /// Whether connections can be cut.
    pub wires: bool,
    /// Whether PostgreSQL and nats-server are its own, to kill.
    pub own_servers: bool,
    pub steps: Vec<Step>,
}

/// Where people edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Catalog,
    /// In the account of that number.
    Stripe(usize),
}

/// How a person asks the catalog for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// By the paths that Tandem began with, where they know the field.
    pub first_paths: bool,
    /// Hangs up after so many milliseconds, and asks again later, with the same idempotency key.
    pub unheard_after_ms: Option<u64>,
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub enum Step {
    /// A person edits the `who`th customer; `None` clears the field.
    Edit {
        side: Side,
        who: usize,
        field: &'static str,
        value: Option<String>,
        way: Way,
    },
    Create {
        side: Side,
        name: String,
        way: Way,
    },
    Delete {
        side: Side,
        who: usize,
        way: Way,
    },
    /// The `which`th request is sent again with its key, heard or not.
    AskAgain {
        which: usize,
    },
    PauseMs(u64),
    /// With the account of that number, or between it and Tandem.
    Wrong(Wrong, usize),
}

impl History {
    /// Whether a deletion may leave one side alone.
    pub fn unlinks(&self) -> bool {
        self.deletes != ["delete"; 2]
    }

    pub fn faults(&self) -> usize {
        let wrong = |step: &&Step| matches!(step, Step::Wrong(..) | Step::AskAgain { .. });
        self.steps.iter().filter(wrong).count()
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let accounts: Vec<_> =
            self.normalises.iter().map(|does| if *does { "normalising" } else { "verbatim" }).collect();
        let Self { policy, deletes: [there, here], wires, own_servers, .. } = self;
        writeln!(
            f,
            "policy {policy}, deletes there {there} and here {here}, {}, wires {wires}, own servers {own_servers}",
            accounts.join(" and ")
        )?;
        self.steps.iter().enumerate().try_for_each(|(n, step)| writeln!(f, "{n:3} {step:?}"))
    }
}
