//! The zoo in the model: wrong variants that it must catch, and the seed that does. TESTING.md names those that it does not.

use std::process::Command;

use tandem_eventlog::zoo::VARIANT;

use super::{SEEDS, first_failure};

/// Seeds that are played before a variant is said to be unnoticed.
const ENOUGH: u64 = 20_000;

/// Each with its test: it fails if the model notices nothing.
macro_rules! caught {
    ($($variant:ident)*) => {
        $(
            #[test]
            fn $variant() {
                let variant = stringify!($variant).replace('_', "-");
                let ran = Command::new(std::env::current_exe().unwrap())
                    .args(["model::zoo::plays_the_variant", "--exact", "--nocapture", "--ignored"])
                    .env(VARIANT, &variant)
                    .output()
                    .unwrap();
                let said = String::from_utf8_lossy(&ran.stdout);
                println!("{variant}: {said}");
                assert!(said.contains("caught by seed"), "nobody noticed {variant}: {said}");
            }
        )*
    };
}

caught! {
    every_snapshot_as_it_comes
    time_as_a_point
    order_by_created
    previous_attributes_order
    unfenced_writes
    replay_taken_for_now
    create_again_after_a_lost_reply
    import_without_tandem_id
    resend_after_a_saved_500
    new_key_without_a_look
    key_per_version
    key_past_its_life
    search_instead_of_list
    base_not_advanced_by_the_reply
    origin_suppresses_a_push
    append_before_base
    event_id_as_command_key
    unchecked_echoes
    whole_records
    adopting_over_an_edit
    at_rest_as_remembered
    events_to_come_as_they_come
}

/// Run by the others, in a process of its own that plays a variant.
#[test]
#[ignore = "run by the other tests of the zoo"]
fn plays_the_variant() {
    let seeds = super::asked().unwrap_or(0..ENOUGH);
    match first_failure(seeds) {
        Some((seed, why)) => println!("caught by seed {seed}: {why}"),
        None => println!("not caught; {SEEDS} asks for more"),
    }
}
