//! The `tandem` command, run as a person would, with the settings of the service beside it.

use std::process::Stdio;

use serde_json::Value;
use tandem_local::process::isolated;
use tokio::process::{Child, Command};

use crate::Tandem;
use crate::tandem::binary;

/// How a command ended.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Its exit code; none if it was killed.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it said besides.
    pub stderr: String,
}

impl Ran {
    /// What it printed, as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("no JSON: {error}\n{self:?}"))
    }
}

impl Tandem {
    /// Runs `tandem` with these arguments, to its end.
    pub async fn run(&self, arguments: &[&str]) -> Ran {
        let output = self.begin(arguments).wait_with_output().await.expect("tandem's output");
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The same, for a command that must end well.
    ///
    /// # Panics
    /// When it does not.
    pub async fn ran_well(&self, arguments: &[&str]) -> Ran {
        let ran = self.run(arguments).await;
        assert_eq!(ran.code, Some(0), "tandem {arguments:?}: {}{}", ran.stdout, ran.stderr);
        ran
    }

    /// Begins `tandem` with these arguments. Dropped, it is killed.
    pub fn begin(&self, arguments: &[&str]) -> Child {
        let mut command = Command::from(isolated(&binary()));
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command.spawn().expect("tandem")
    }
}
