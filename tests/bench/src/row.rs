//! One measured number, and what it is held against.

use serde::Serialize;

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Which part of the run.
    pub part: &'static str,
    /// What was measured.
    pub what: String,
    /// The number.
    pub measured: f64,
    /// Its unit.
    pub unit: &'static str,
    /// The same of the bare parts, in the same unit.
    pub bare: Option<f64>,
    /// Measured by bare.
    pub ratio: Option<f64>,
    /// What is aimed at.
    pub target: Option<String>,
    /// Whether it is reached.
    pub ok: Option<bool>,
}

impl Row {
    /// A number by itself.
    pub fn new(part: &'static str, what: impl Into<String>, measured: f64, unit: &'static str) -> Self {
        Self { part, what: what.into(), measured, unit, bare: None, ratio: None, target: None, ok: None }
    }

    /// Held against what the bare parts do.
    pub fn against(mut self, bare: f64) -> Self {
        self.bare = Some(bare);
        self.ratio = Some(self.measured / bare);
        self
    }

    /// At least so many times what the bare parts do.
    pub fn at_least(self, times: f64) -> Self {
        let ok = self.ratio.map(|ratio| ratio >= times);
        Self { target: Some(format!("≥ {times}x")), ok, ..self }
    }

    /// At most so many times what the bare parts take.
    pub fn at_most(self, times: f64) -> Self {
        let ok = self.ratio.map(|ratio| ratio <= times);
        Self { target: Some(format!("≤ {times}x")), ok, ..self }
    }

    /// Less than this, in its own unit.
    pub fn below(self, limit: f64) -> Self {
        let target = Some(format!("< {limit} {}", self.unit));
        let ok = Some(self.measured < limit);
        Self { target, ok, ..self }
    }
}
