//! `deploy/bootstrap`, as far as it goes without a network.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

use tandem_local::{Scratch, workspace};

#[test]
fn a_rust_that_is_too_old_is_told_before_anything_is_downloaded() {
    for (cargo, told) in [
        (Some("echo cargo 1.65.0"), "needs Rust 1.89 or later, and finds cargo 1.65.0"),
        (Some("exit 1"), "needs Rust 1.89 or later, and finds none"),
        (None, "needs Rust 1.89 or later, and finds none"),
    ] {
        let (checkout, programs) = (Scratch::new().unwrap(), Scratch::new().unwrap());
        let root = checkout.path();
        std::fs::create_dir(root.join("deploy")).unwrap();
        for file in ["Cargo.toml", "deploy/bootstrap"] {
            std::fs::copy(workspace().unwrap().join(file), root.join(file)).unwrap();
        }
        if let Some(does) = cargo {
            program(&programs.path().join("cargo"), does);
        }
        for tool in ["sh", "dirname", "sed"] {
            let script = format!("PATH=/usr/bin:/bin exec {tool} \"$@\"");
            program(&programs.path().join(tool), &script);
        }
        let output = Command::new("/bin/sh").arg(root.join("deploy/bootstrap")).env("PATH", programs.path()).output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains(told) && said.contains("rustup"), "{output:?}");
        assert!(!root.join(".tandem").exists());
    }
}

#[test]
fn the_rust_at_hand_will_do() {
    // Nothing is left to install.
    let output = Command::new(workspace().unwrap().join("deploy/bootstrap"))
        .env("TANDEM_NATS_BIN", "/nowhere")
        .env("TANDEM_PG_BIN", "/nowhere")
        .output()
        .unwrap();
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
}

fn program(path: &Path, script: &str) {
    // By a program of its own: what the other test starts meanwhile would inherit a file that is open here to be written, and nobody
    // can start that then.
    let write = "printf '#!/bin/sh\\n%s\\n' \"$2\" >\"$1\" && chmod 755 \"$1\"";
    let written = Command::new("/bin/sh").args(["-c", write, "sh"]).arg(path).arg(script).status();
    assert!(written.unwrap().success());
}
