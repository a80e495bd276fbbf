//! The zoo: variants that looked right and are wrong. Each must be caught by the test that it names.
//!
//! A variant is a switch in a build with the feature `zoo`; the test runs again as a process of its own that plays it.

use std::process::Command;

/// Each variant makes one test, which fails when the named test passes nevertheless.
macro_rules! caught {
    ($($variant:ident by $module:ident::$test:ident;)*) => {
        $(
            #[test]
            fn $variant() {
                let caught = fails(&stringify!($variant).replace('_', "-"), concat!("rules::", stringify!($module), "::", stringify!($test)));
                assert!(caught, "nobody noticed");
            }
        )*
    };
}

caught! {
    every_snapshot_as_it_comes by order::an_edit_and_its_reversal_delivered_in_the_wrong_order_end_reversed;
    time_as_a_point by order::of_three_edits_within_a_second_in_any_order_the_last_made_stays;
    order_by_created by order::of_three_edits_within_a_second_in_any_order_the_last_made_stays;
    previous_attributes_order by order::a_value_used_again_is_not_taken_for_its_first_use;
    events_to_come_as_they_come by order::an_edit_of_a_time_to_come_hides_none_that_is_made_after_it;
    unfenced_writes by calls::a_worker_that_lost_its_lease_writes_nothing_however_late_it_wakes;
    no_stored_intent by calls::an_edit_in_stripe_after_a_lost_reply_survives_the_repeat;
    replay_taken_for_now by calls::an_edit_in_stripe_after_a_lost_reply_survives_the_repeat;
    create_again_after_a_lost_reply by calls::a_create_whose_reply_was_lost_is_not_made_twice;
    import_without_tandem_id by calls::the_webhook_of_our_create_may_come_before_its_reply;
    resend_after_a_saved_500 by calls::after_a_saved_500_it_looks_and_goes_on;
    new_key_without_a_look by calls::after_a_saved_500_it_looks_and_goes_on;
    key_per_version by calls::after_a_saved_500_it_looks_and_goes_on;
    key_past_its_life by calls::a_create_too_old_for_its_key_is_looked_for_in_the_list;
    search_instead_of_list by calls::a_create_too_old_for_the_list_of_events_is_looked_for_in_the_list_of_customers;
    every_event_with_our_key_dropped by calls::a_send_that_arrives_after_it_was_given_up_is_put_right;
    every_event_of_an_executed_call_dropped by calls::a_call_that_is_carried_out_once_more_after_its_key_is_forgotten_is_put_right;
    acknowledged_before_stored by calls::a_webhook_that_cannot_be_stored_is_not_acknowledged;
    acknowledged_before_durable by calls::a_webhook_is_on_disk_before_it_is_acknowledged;
    base_not_advanced_by_the_reply by conflicts::a_value_changed_back_while_the_call_was_out_is_changed_back_there_too;
    origin_suppresses_a_push by conflicts::a_later_edit_that_our_slow_push_overwrote_is_restored;
    append_before_base by conflicts::what_came_from_stripe_and_its_base_are_stored_together_or_not_at_all;
    event_id_as_command_key by conflicts::what_came_from_stripe_and_its_base_are_stored_together_or_not_at_all;
    unchecked_echoes by conflicts::an_edit_that_our_push_overwrote_is_found_by_its_echo;
    whole_records by parked::a_rejected_push_is_parked_and_a_new_edit_tries_again;
    all_in_one_line by priorities::an_edit_here_passes_those_that_a_resume_let_go;
    at_rest_as_remembered by at_once::what_another_process_saw_meanwhile_is_not_forgotten;
    adopting_over_an_edit by conflicts::a_newer_edit_here_is_not_taken_for_the_remotes_spelling_of_the_old;
}

/// Whether the test fails in a process that plays the variant.
fn fails(variant: &str, test: &str) -> bool {
    let here = std::env::current_exe().unwrap();
    let ran = Command::new(here)
        .args([test, "--exact"])
        .env(tandem_tests::VARIANT, variant)
        // What never comes need not be waited for as long as usual.
        .env("TANDEM_TEST_PATIENCE_S", "5")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(said.contains("running 1 test"), "{test} did not run: {said}");
    println!("{said}");
    // Only what failed after all was there to try it has caught anything.
    !ran.status.success() && said.contains(&format!("test {test} ... FAILED")) && said.contains(tandem_tests::READY)
}
