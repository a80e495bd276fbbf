//! `.tandem/env`: where everything is, for a shell.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;

use super::{Places, mode};

/// Writes the file, readable by its owner only: it has a password.
pub fn write(places: &Places) -> anyhow::Result<()> {
    let path = places.folder.join("env");
    let fresh = places.folder.join("env.new");
    let what = || format!("could not write {}", path.display());
    let _ = std::fs::remove_file(&fresh);
    let mut file = File::options().create_new(true).write(true).mode(0o600).open(&fresh).with_context(what)?;
    file.write_all(text(places).as_bytes()).with_context(what)?;
    std::fs::rename(&fresh, &path).with_context(what)
}

fn text(places: &Places) -> String {
    let mut text = String::from("# Written by `make run`. In a shell: set -a; . .tandem/env; set +a\n");
    let mut set = |name: &str, value: &str| text.push_str(&format!("{name}={}\n", quoted(value)));
    set("TANDEM_URL", &places.tandem_url);
    set("NATS_URL", &places.nats_url);
    set("DATABASE_URL", &places.database_url);
    set("TANDEM_NATS__URL", &places.nats_url);
    set("TANDEM_DATABASE__URL", &places.database_url);
    match &places.stripe_url {
        Some(url) => {
            set("STRIPE_API_BASE", url);
            set("STRIPE_SECRET_KEY", mode::LOCAL_KEY);
            // With this key `tandem` asks the local Stripe; with another that is set in that shell, Stripe itself.
            set("TANDEM_LOCAL_STRIPE", url);
        }
        None => set("STRIPE_API_BASE", "https://api.stripe.com"),
    }
    // After the user's own, so that what they have installed goes first.
    let folders: Vec<String> = places.programs.iter().map(|folder| quoted(path_text(folder).as_str())).collect();
    text.push_str(&format!("PATH=\"$PATH\":{}\n", folders.join(":")));
    text
}

fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}
