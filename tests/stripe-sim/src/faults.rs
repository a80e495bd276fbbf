//! Faults that a test arms: what goes wrong with which calls.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

/// What goes wrong with one call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Waits before the work, in milliseconds.
    DelayMs(u64),
    /// Does the work, then waits before the reply, in milliseconds.
    DelayReplyMs(u64),
    /// Closes the connection before the work.
    DropRequest,
    /// Does the work and closes the connection without a reply.
    DropReply,
    /// Waits before the work until released; the idempotency key counts as in use meanwhile.
    Hang,
    /// Does the work and waits before the reply until released.
    HangReply,
    /// Answers 500 without doing the work; the answer is saved for the idempotency key.
    Fail500BeforeWork,
    /// Does the work and answers 500; the answer is saved for the idempotency key.
    Fail500AfterWork,
    /// Answers so instead of doing the work; nothing is saved.
    Status {
        /// The HTTP status.
        status: u16,
        /// Stripe's error code, such as `lock_timeout`.
        code: Option<String>,
        /// The parameter that it names, such as `email`.
        #[serde(default)]
        param: Option<String>,
        /// Headers besides the usual, such as `retry-after`.
        headers: Vec<(String, String)>,
    },
}

impl Fault {
    /// Arms the fault for the next call of this method (`*`: any) to this path, in which `*` stands for one
    /// segment and a last `**` for any number: `Fault::DropReply.on("POST", "/v1/customers/*")`.
    pub fn on(self, method: &str, path: &str) -> Rule {
        Rule { method: method.to_owned(), path: path.to_owned(), skip: 0, times: Some(1), fault: self }
    }

    /// A wait before the work.
    pub fn delay(pause: Duration) -> Self {
        Self::DelayMs(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX))
    }

    /// An answer of this status, without the work.
    pub fn status(status: u16) -> Self {
        Self::Status { status, code: None, param: None, headers: Vec::new() }
    }

    /// Adds a header to a [`Fault::Status`]; of no effect on others.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Self::Status { headers, .. } = &mut self {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// Sets Stripe's error code of a [`Fault::Status`]; of no effect on others.
    pub fn code(mut self, name: &str) -> Self {
        if let Self::Status { code, .. } = &mut self {
            *code = Some(name.to_owned());
        }
        self
    }

    /// Sets the parameter that a [`Fault::Status`] names; of no effect on others.
    pub fn param(mut self, name: &str) -> Self {
        if let Self::Status { param, .. } = &mut self {
            *param = Some(name.to_owned());
        }
        self
    }
}

/// A fault, and the calls that it befalls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// `GET`, `POST`, `DELETE`, or `*`.
    pub method: String,
    /// `*` stands for one segment, a last `**` for any number.
    pub path: String,
    /// How many matching calls go well first.
    #[serde(default)]
    pub skip: u32,
    /// How many matching calls go wrong then; `None`: all, until the faults are cleared.
    pub times: Option<u32>,
    /// What goes wrong.
    pub fault: Fault,
}

impl Rule {
    /// For so many calls instead of one.
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// For all calls, until the faults are cleared.
    pub fn always(mut self) -> Self {
        self.times = None;
        self
    }

    /// Lets so many matching calls go well first.
    pub fn skip(mut self, skip: u32) -> Self {
        self.skip = skip;
        self
    }

    fn matches(&self, method: &str, path: &str) -> bool {
        (self.method == "*" || self.method.eq_ignore_ascii_case(method)) && matches_path(&self.path, path)
    }
}

fn matches_path(pattern: &str, path: &str) -> bool {
    let mut segments = path.split('/');
    for wanted in pattern.split('/') {
        match (wanted, segments.next()) {
            ("**", _) => return true,
            ("*", Some(segment)) if !segment.is_empty() => {}
            (wanted, Some(segment)) if wanted == segment => {}
            _ => return false,
        }
    }
    segments.next().is_none()
}

/// Names one armed fault.
pub type FaultId = u64;

/// One armed fault, and what it has done so far.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FaultStatus {
    /// Its name.
    pub id: FaultId,
    /// What was armed.
    pub rule: Rule,
    /// How many calls have come to the point where it bites.
    pub reached: u32,
    /// Whether hanging calls have been let go.
    pub released: bool,
}

/// All armed faults, those that are used up among them.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    armed: Vec<Armed>,
    next_id: FaultId,
}

#[derive(Debug)]
struct Armed {
    id: FaultId,
    rule: Rule,
    seen: u32,
    reached: u32,
    release: CancellationToken,
}

/// A fault that has met its call.
#[derive(Debug, Clone)]
pub(crate) struct Met {
    pub(crate) id: FaultId,
    pub(crate) fault: Fault,
    pub(crate) release: CancellationToken,
}

impl Faults {
    pub(crate) fn arm(&mut self, rule: Rule) -> FaultId {
        self.next_id += 1;
        self.armed.push(Armed { id: self.next_id, rule, seen: 0, reached: 0, release: CancellationToken::new() });
        self.next_id
    }

    /// The first armed fault for this call, which is thereby used once.
    pub(crate) fn meet(&mut self, method: &str, path: &str) -> Option<Met> {
        for armed in self.armed.iter_mut().filter(|armed| armed.rule.matches(method, path)) {
            if armed.rule.times.is_some_and(|times| armed.seen >= armed.rule.skip.saturating_add(times)) {
                continue;
            }
            armed.seen = armed.seen.saturating_add(1);
            if armed.seen > armed.rule.skip {
                let Armed { id, rule, release, .. } = armed;
                return Some(Met { id: *id, fault: rule.fault.clone(), release: release.clone() });
            }
        }
        None
    }

    pub(crate) fn reached(&mut self, id: FaultId) {
        if let Some(armed) = self.armed.iter_mut().find(|armed| armed.id == id) {
            armed.reached += 1;
        }
    }

    /// Lets go what hangs; `false` if there is no such fault.
    pub(crate) fn release(&mut self, id: FaultId) -> bool {
        let armed = self.armed.iter().find(|armed| armed.id == id);
        armed.inspect(|armed| armed.release.cancel()).is_some()
    }

    /// Disarms everything and lets go what hangs.
    pub(crate) fn clear(&mut self) {
        for armed in self.armed.drain(..) {
            armed.release.cancel();
        }
    }

    pub(crate) fn status(&self) -> Vec<FaultStatus> {
        self.armed
            .iter()
            .map(|armed| FaultStatus {
                id: armed.id,
                rule: armed.rule.clone(),
                reached: armed.reached,
                released: armed.release.is_cancelled(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_one_segment_and_two_are_the_rest() {
        assert!(matches_path("/v1/customers/*", "/v1/customers/cus_1"));
        assert!(!matches_path("/v1/customers/*", "/v1/customers"));
        assert!(!matches_path("/v1/customers", "/v1/customers/cus_1"));
        assert!(matches_path("/v1/**", "/v1/customers/cus_1"));
    }

    #[test]
    fn a_fault_befalls_the_calls_it_was_armed_for() {
        let mut faults = Faults::default();
        faults.arm(Fault::DropReply.on("POST", "/v1/customers/*").skip(1).times(2));
        let met = |faults: &mut Faults| faults.meet("POST", "/v1/customers/cus_1").is_some();
        assert_eq!(
            [met(&mut faults), met(&mut faults), met(&mut faults), met(&mut faults)],
            [false, true, true, false]
        );
    }
}
