//! The zoo: event logs that looked right and are wrong. Each must be caught by the test that it names.
//!
//! A variant is a switch in a build with the feature `zoo`; the test runs again as a process of its own that plays it.

use std::process::Command;

/// Each variant makes one test, which fails when the named test passes nevertheless.
macro_rules! caught {
    ($($variant:ident by $module:ident::$test:ident;)*) => {
        $(
            #[test]
            fn $variant() {
                let caught = fails(&stringify!($variant).replace('_', "-"), concat!(stringify!($module), "::", stringify!($test)));
                assert!(caught, "nobody noticed");
            }
        )*
    };
}

caught! {
    reader_above_a_cursor by relay::thirty_two_writers_with_holds_and_rollbacks_lose_and_invert_nothing;
    in_the_order_of_transactions by relay::an_event_follows_the_one_before_it_whichever_transaction_began_first;
    published_before_numbered by relay::a_position_whose_commit_failed_is_in_no_message;
    publishes_what_it_numbered by relay::killed_between_number_and_publish_the_next_one_publishes;
    cursor_of_its_own by relay::a_stream_deleted_while_running_is_made_and_filled_again;
    no_expected_sequence by relay::what_a_zombie_sends_late_is_refused;
    message_ids_instead_of_sequences by relay::messages_carry_their_names;
    two_relays_at_once by relay::a_standby_takes_over_when_the_session_of_the_active_one_breaks;
    refusal_taken_for_published by stream::a_foreign_message_stops_the_relay_until_the_stream_is_rebuilt;
    epoch_not_compared by stream::a_stream_of_another_database_is_refused;
    goes_on_behind_a_lost_history by stream::a_restored_backup_stops_the_relay_until_the_stream_is_rebuilt;
    checkpoint_before_the_effects by projector::killed_inside_its_transaction_nothing_is_lost_or_done_twice;
    checkpoint_after_the_effects by projector::two_projectors_of_one_name_do_the_work_of_one;
    unfenced_checkpoint by projector::two_projectors_of_one_name_do_the_work_of_one;
    skips_what_it_cannot_apply by projector::an_event_it_cannot_apply_stops_it_there;
    gaps_passed_over by projector::a_message_deleted_from_the_stream_is_read_from_the_database;
    reads_the_stream_alone by projector::while_nats_is_away_projections_go_on;
    mac_not_checked by forged::a_forged_message_is_never_applied;
    rebuild_keeps_checkpoints by forged::what_was_applied_beyond_the_database_is_told_and_its_position_is_read_again;
    key_after_the_rules by store::a_repeated_key_answers_as_it_did_then;
    key_apart_from_the_events by store::of_concurrent_requests_with_one_key_one_executes;
    command_in_its_callers_future by store::a_caller_that_hangs_up_cancels_nothing;
    answered_before_durable by restarts::what_was_answered_outlives_a_crash_of_postgresql;
    purged_instead_of_erased by erase::what_is_erased_is_in_no_file_of_the_stream;
}

/// Whether the test fails in a process that plays the variant.
fn fails(variant: &str, test: &str) -> bool {
    let here = std::env::current_exe().unwrap();
    let ran = Command::new(here)
        .args([test, "--exact"])
        .env(tandem_eventlog::zoo::VARIANT, variant)
        // What never comes need not be waited for as long as usual.
        .env("TANDEM_TEST_PATIENCE_S", "5")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(said.contains("running 1 test"), "{test} did not run: {said}");
    println!("{said}");
    !ran.status.success()
}
