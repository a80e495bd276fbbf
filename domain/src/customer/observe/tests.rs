use super::super::fixtures::*;
use super::*;
use crate::{CustomerCommand, FieldSet};

#[test]
fn a_customer_born_at_the_gateway_is_created_and_linked() {
    given([]).when(observed(ada(), ada())).then_expect_events(vec![born_there(), linked_later()]);
}

#[test]
fn an_edit_at_the_gateway_is_taken() {
    given([created(ada()), linked("cus_1")])
        .when(observed(ada(), ada().with(Field::Phone, text("1"))))
        .then_expect_events(vec![taken(Field::Phone, None, Some("1"))]);
}

#[test]
fn an_echo_of_our_own_change_makes_no_event() {
    given([created(ada()), linked("cus_1"), updated(Field::Phone, None, Some("1"))])
        .when(observed(ada(), ada().with(Field::Phone, text("1"))))
        .then_expect_events(vec![]);
}

#[test]
fn what_the_gateway_has_not_been_told_yet_stays() {
    given([created(ada()), linked("cus_1"), updated(Field::Phone, None, Some("1"))])
        .when(observed(ada(), ada()))
        .then_expect_events(vec![]);
}

#[test]
fn the_later_of_two_edits_wins_and_both_stay_readable() {
    let at_gateway = ada().with(Field::Phone, text("2"));
    let history = [created(ada()), linked("cus_1"), updated(Field::Phone, None, Some("1"))];
    given(history.clone()).when(observed_edit(ada(), at_gateway.clone(), Field::Phone, later())).then_expect_events(
        vec![
            contest(Field::Phone, (Some("1"), Some(at())), (Some("2"), Some(later())), Winner::Gateway),
            taken_at(Field::Phone, Some("1"), Some("2"), later()),
        ],
    );
    given(history).when(observed_edit(ada(), at_gateway, Field::Phone, earlier())).then_expect_events(vec![contest(
        Field::Phone,
        (Some("1"), Some(at())),
        (Some("2"), Some(earlier())),
        Winner::Catalog,
    )]);
}

#[test]
fn a_guessed_edit_time_is_said_to_be_guessed() {
    let customer = customer([created(ada()), linked("cus_1"), updated(Field::Phone, None, Some("1"))]);
    let observe = observation(ada(), present(ada().with(Field::Phone, text("2"))));
    assert_eq!(customer.take_in(&observe).guessed, BTreeSet::from([Field::Phone]));
    let known = observation(ada(), edited(ada().with(Field::Phone, text("2")), Field::Phone, later()));
    assert_eq!(customer.take_in(&known).guessed, BTreeSet::new());
}

#[test]
fn what_was_told_dates_an_edit_that_is_taken_and_stays_a_guess_on_a_conflict() {
    let profile = ada().with(Field::Phone, text("2"));
    let told_at = BTreeMap::from([(Field::Phone, earlier())]);
    let sight = Sight::Present { profile, edited_at: BTreeMap::new(), told_at, seen_at: later() };
    let observe = observation(ada(), sight);
    given([created(ada()), linked("cus_1")]).when(command(observe.clone())).then_expect_events(vec![taken_at(
        Field::Phone,
        None,
        Some("2"),
        earlier(),
    )]);
    let edited = customer([created(ada()), linked("cus_1"), updated(Field::Phone, None, Some("1"))]);
    assert_eq!(edited.take_in(&observe).guessed, BTreeSet::from([Field::Phone]));
}

fn asked_about(base: Profile, now: Profile) -> Observe {
    let policies = Policies { of: [(FieldSet::One(Field::Phone), Policy::Ask)].into(), ..Policies::default() };
    Observe { policies, ..observation(base, present(now)) }
}

fn asking(base: Profile, now: Profile) -> CustomerCommand {
    command(asked_about(base, now))
}

fn with_phone(phone: &str) -> Profile {
    ada().with(Field::Phone, text(phone))
}

#[test]
fn where_a_person_shall_decide_each_side_keeps_its_value() {
    let history = [created(ada()), linked("cus_1"), updated(Field::Phone, None, Some("1"))];
    let open = opened(Field::Phone, Some("1"), Some("2"));
    given(history.clone()).when(asking(ada(), with_phone("2"))).then_expect_events(vec![open.clone()]);
    // The other fields go on; seen again, it is no news.
    let [first, second, third] = history;
    given([first, second, third, open])
        .when(asking(with_phone("2"), with_phone("2").with(Field::Name, text("Ada L."))))
        .then_expect_events(vec![taken(Field::Name, Some("Ada"), Some("Ada L."))]);
}

#[test]
fn a_conflict_that_waits_follows_the_gateway_and_ends_when_both_agree() {
    let history = [
        created(ada()),
        linked("cus_1"),
        updated(Field::Phone, None, Some("1")),
        opened(Field::Phone, Some("1"), Some("2")),
    ];
    given(history.clone()).when(asking(with_phone("2"), with_phone("3"))).then_expect_events(vec![opened(
        Field::Phone,
        Some("1"),
        Some("3"),
    )]);
    given(history).when(asking(with_phone("2"), with_phone("1"))).then_expect_events(vec![asked(
        Field::Phone,
        "1",
        "2",
        Winner::Catalog,
    )]);
}

/// The same by the policy `catalog`: nobody was asked.
fn unasked(event: CustomerEvent) -> CustomerEvent {
    match event {
        CustomerEvent::ConflictResolved(contest) => {
            CustomerEvent::ConflictResolved(Box::new(Contest { policy: Policy::Catalog, ..*contest }))
        }
        other => other,
    }
}

#[test]
fn a_person_is_asked_about_an_unseen_edit_that_we_wrote_over() {
    let policies = Policies { of: [(FieldSet::One(Field::Name), Policy::Ask)].into(), ..Policies::default() };
    let asked = OpenContest {
        gateway: stripe(),
        field: Field::Name,
        catalog: Side { value: Some(text("Ada")), edited_at: Some(at()) },
        remote: Side { value: Some(text("Ada L.")), edited_at: Some(later()) },
        overwritten: true,
        at: later(),
    };
    given([created(ada()), linked("cus_1")])
        .when(command(Observe { policies, ..overwrote(Some(later())) }))
        .then_expect_events(vec![CustomerEvent::ConflictOpened(Box::new(asked))]);
}

#[test]
fn an_unseen_edit_is_not_taken_back_where_it_was_edited_since() {
    // Elsewhere there, though what we wrote stands here as it was.
    let observe = Observe { sight: present(ada().with(Field::Name, text("Eve"))), ..overwrote(Some(later())) };
    let customer = customer([created(ada()), linked("cus_1")]);
    let names: Vec<_> = customer
        .take_in(&observe)
        .events
        .into_iter()
        .filter_map(|event| match event {
            CustomerEvent::Updated { mut changes, .. } => changes.remove(&Field::Name),
            _ => None,
        })
        .map(|change| change.after)
        .collect();
    assert_eq!(names, [Some(text("Eve"))]);
}

#[test]
fn an_unseen_edit_that_we_wrote_over_does_not_take_the_place_of_what_is_asked() {
    let history = [created(ada()), linked("cus_1"), updated(Field::Phone, None, Some("3"))];
    let mut observe = asked_about(with_phone("1"), with_phone("2"));
    let unseen = |phone: &str| Overwritten {
        field: Field::Phone,
        sent: Some(text("1")),
        held: Some(text("1")),
        sent_edited_at: Some(earlier()),
        previous: Side { value: Some(text(phone)), edited_at: Some(earlier()) },
    };
    let told = |phone| {
        let (ours, theirs) = ((Some("1"), Some(earlier())), (Some(phone), Some(earlier())));
        unasked(contest(Field::Phone, ours, theirs, Winner::Catalog))
    };
    observe.overwritten = vec![unseen("8"), unseen("9")];
    given(history).when(command(observe)).then_expect_events(vec![
        opened(Field::Phone, Some("3"), Some("2")),
        told("8"),
        told("9"),
    ]);
}

fn spelled() -> Spellings {
    Spellings::from([(Field::Email, Spelling { sent: Some(text("Ada@X.example")), held: Some(text("ada@x.example")) })])
}

fn with_email(email: &str) -> Profile {
    ada().with(Field::Email, text(email))
}

#[test]
fn the_gateways_spelling_is_adopted_with_the_time_of_the_edit() {
    let customer = customer([created(with_email("Ada@X.example")), linked("cus_1")]);
    let mut observe = observation(ada(), present(with_email("ada@x.example")));
    observe.spellings = spelled();
    let change = Change {
        before: Some(text("Ada@X.example")),
        after: Some(text("ada@x.example")),
        edited_at: at(),
        adopted: true,
    };
    let adopted = CustomerEvent::Updated { changes: Changes::from([(Field::Email, change)]), at: later() };
    let intake = customer.take_in(&observe);
    assert_eq!(intake.events, vec![adopted]);
    assert_eq!(intake.spellings, Spellings::new());
}

#[test]
fn a_second_gateways_spelling_is_kept_on_its_link() {
    let mut customer = customer([created(with_email("ada@X.example")), linked("cus_1")]);
    let change = Change {
        before: Some(text("ada@X.example")),
        after: Some(text("Ada@X.example")),
        edited_at: at(),
        adopted: true,
    };
    cqrs_es::Aggregate::apply(
        &mut customer,
        CustomerEvent::Updated { changes: Changes::from([(Field::Email, change)]), at: at() },
    );
    let mut observe = observation(ada(), present(with_email("ada@x.example")));
    observe.spellings = spelled();
    let intake = customer.take_in(&observe);
    assert_eq!(intake.events, vec![]);
    assert_eq!(intake.spellings, spelled());
}

#[test]
fn an_edit_made_while_the_call_was_out_is_not_replaced_by_the_gateways_spelling() {
    let customer = customer([
        created(with_email("Ada@X.example")),
        linked("cus_1"),
        updated(Field::Email, Some("Ada@X.example"), Some("ada@y.example")),
    ]);
    let mut observe = observation(ada(), present(with_email("ada@x.example")));
    observe.spellings = spelled();
    assert_eq!(customer.take_in(&observe).events, vec![]);
}

fn overwrote(previous_edited_at: Option<DateTime<Utc>>) -> Observe {
    let mut observe = observation(ada(), present(ada()));
    observe.overwritten = vec![Overwritten {
        field: Field::Name,
        sent: Some(text("Ada")),
        held: Some(text("Ada")),
        sent_edited_at: Some(at()),
        previous: Side { value: Some(text("Ada L.")), edited_at: previous_edited_at },
    }];
    observe
}

#[test]
fn an_unseen_edit_that_was_later_than_ours_is_taken_back() {
    given([created(ada()), linked("cus_1")]).when(command(overwrote(Some(later())))).then_expect_events(vec![
        contest(Field::Name, (Some("Ada"), Some(at())), (Some("Ada L."), Some(later())), Winner::Gateway),
        taken_at(Field::Name, Some("Ada"), Some("Ada L."), later()),
    ]);
}

#[test]
fn an_unseen_edit_that_was_earlier_than_ours_is_recorded() {
    given([created(ada()), linked("cus_1")]).when(command(overwrote(Some(earlier())))).then_expect_events(vec![
        contest(Field::Name, (Some("Ada"), Some(at())), (Some("Ada L."), Some(earlier())), Winner::Catalog),
    ]);
}

#[test]
fn an_unseen_edit_is_not_taken_back_over_a_newer_one_here() {
    let newer = CustomerEvent::Updated {
        changes: Changes::from([(Field::Name, Change::edit(Some(text("Ada")), Some(text("Countess")), later()))]),
        at: later(),
    };
    given([created(ada()), linked("cus_1"), newer]).when(command(overwrote(Some(later())))).then_expect_events(vec![
        contest(Field::Name, (Some("Ada"), Some(at())), (Some("Ada L."), Some(later())), Winner::Catalog),
    ]);
}

#[test]
fn an_unseen_edit_is_taken_back_over_an_older_one_here() {
    let older = CustomerEvent::Updated {
        changes: Changes::from([(Field::Name, Change::edit(Some(text("Ada")), Some(text("Countess")), later()))]),
        at: later(),
    };
    let latest = later() + chrono::TimeDelta::seconds(1);
    let there = (Some("Ada L."), Some(latest));
    given([created(ada()), linked("cus_1"), older]).when(command(overwrote(Some(latest)))).then_expect_events(vec![
        contest(Field::Name, (Some("Countess"), Some(later())), there, Winner::Gateway),
        taken_at(Field::Name, Some("Countess"), Some("Ada L."), latest),
    ]);
}

#[test]
fn a_value_chosen_anew_here_is_not_taken_for_the_one_that_was_sent() {
    let at_later = |before: &str, after: &str| CustomerEvent::Updated {
        changes: Changes::from([(Field::Name, Change::edit(Some(text(before)), Some(text(after)), later()))]),
        at: later(),
    };
    given([created(ada()), linked("cus_1"), at_later("Ada", "Countess"), at_later("Countess", "Ada")])
        .when(command(overwrote(Some(later()))))
        .then_expect_events(vec![contest(
            Field::Name,
            (Some("Ada"), Some(at())),
            (Some("Ada L."), Some(later())),
            Winner::Catalog,
        )]);
}

/// What a call of ours wrote, spelled by the gateway in its own way, over an edit of [`later`].
fn overwrote_spelled() -> Observe {
    let mut observe = observation(ada(), present(with_email("ada@x.example")));
    observe.overwritten = vec![Overwritten {
        field: Field::Email,
        sent: Some(text("Ada@X.example")),
        held: Some(text("ada@x.example")),
        sent_edited_at: Some(at()),
        previous: Side { value: Some(text("eve@x.example")), edited_at: Some(later()) },
    }];
    observe
}

fn restored(intake: &Intake) -> Option<&Change> {
    intake.events.iter().find_map(|event| match event {
        CustomerEvent::Updated { changes, .. } => changes.get(&Field::Email),
        _ => None,
    })
}

#[test]
fn an_unseen_edit_is_taken_back_whichever_spelling_of_ours_stands_here() {
    let back = |before: &str| Change::edit(Some(text(before)), Some(text("eve@x.example")), later());
    let mut as_sent = overwrote_spelled();
    as_sent.spellings = spelled();
    let unadopted = customer([created(with_email("Ada@X.example")), linked("cus_1")]);
    assert_eq!(restored(&unadopted.take_in(&as_sent)), Some(&back("Ada@X.example")));

    let as_held = Observe { base: with_email("ada@x.example"), ..overwrote_spelled() };
    let adopted = customer([created(with_email("ada@x.example")), linked("cus_1")]);
    assert_eq!(restored(&adopted.take_in(&as_held)), Some(&back("ada@x.example")));
}

#[test]
fn an_unseen_edit_is_taken_back_over_another_gateways_spelling_of_ours() {
    let (before, after) = (Some(text("Ada@X.example")), Some(text("ADA@X.EXAMPLE")));
    let adopted = Change { before, after, edited_at: at(), adopted: true };
    let changes = Changes::from([(Field::Email, adopted)]);
    let history =
        [created(with_email("Ada@X.example")), linked("cus_1"), CustomerEvent::Updated { changes, at: later() }];
    let observe = Observe { base: with_email("ada@x.example"), ..overwrote_spelled() };
    let back = Change::edit(Some(text("ADA@X.EXAMPLE")), Some(text("eve@x.example")), later());
    assert_eq!(restored(&customer(history).take_in(&observe)), Some(&back));
}

#[test]
fn where_the_gateway_wins_an_unseen_edit_is_taken_back_unless_it_was_touched_here_since() {
    let policies = Policies::all(Policy::Gateway);
    let observe = Observe { policies, base: with_email("ada@x.example"), ..overwrote_spelled() };
    for (here, back) in [("Ada@X.example", true), ("ada@x.example", true), ("countess@x.example", false)] {
        let intake = customer([created(with_email(here)), linked("cus_1")]).take_in(&observe);
        assert_eq!(restored(&intake).is_some(), back, "{here}");
    }
}

#[test]
fn an_unseen_edit_of_unknown_time_is_said_to_be_guessed_where_times_decide() {
    let customer = customer([created(ada()), linked("cus_1")]);
    assert_eq!(customer.take_in(&overwrote(None)).guessed, BTreeSet::from([Field::Name]));
    assert_eq!(customer.take_in(&overwrote(Some(later()))).guessed, BTreeSet::new());
    let catalog = Observe { policies: Policies::all(Policy::Catalog), ..overwrote(None) };
    assert_eq!(customer.take_in(&catalog).guessed, BTreeSet::new());
}

#[test]
fn of_two_edits_of_one_instant_the_catalogs_stays() {
    let customer = customer([created(ada()), linked("cus_1"), updated(Field::Phone, None, Some("1"))]);
    let there = edited(ada().with(Field::Phone, text("2")), Field::Phone, at());
    assert_eq!(
        customer.take_in(&observation(ada(), there)).events,
        vec![contest(Field::Phone, (Some("1"), Some(at())), (Some("2"), Some(at())), Winner::Catalog)]
    );
}

#[test]
fn a_deletion_at_the_gateway_is_final() {
    given([created(ada()), linked("cus_1")])
        .when(gone(ada(), Some(ada())))
        .then_expect_events(vec![deleted_at(later())]);
    given([created(ada()), linked("cus_1"), deleted()]).when(gone(ada(), Some(ada()))).then_expect_events(vec![]);
}

#[test]
fn an_edit_here_that_the_deleter_had_not_seen_becomes_a_conflict() {
    given([created(ada()), linked("cus_1"), updated(Field::Phone, None, Some("1"))])
        .when(gone(ada(), Some(ada())))
        .then_expect_events(vec![
            contest(Field::Phone, (Some("1"), Some(at())), (None, None), Winner::Deletion),
            deleted_at(later()),
        ]);
}

#[test]
fn an_edit_there_that_our_deleter_had_not_seen_becomes_a_conflict() {
    given([created(ada()), linked("cus_1"), deleted()])
        .when(gone(ada(), Some(ada().with(Field::Phone, text("2")))))
        .then_expect_events(vec![contest(Field::Phone, (None, None), (Some("2"), None), Winner::Deletion)]);
}

#[test]
fn each_unseen_edit_is_told_of_after_a_deletion_though_several_were_of_one_field() {
    let mut observe = overwrote(Some(earlier()));
    let second = Side { value: Some(text("Countess")), edited_at: Some(later()) };
    observe.overwritten.push(Overwritten { previous: second.clone(), ..observe.overwritten[0].clone() });
    let lost = |theirs: Side| {
        let there = (theirs.value.as_ref().and_then(Value::as_text), theirs.edited_at);
        contest(Field::Name, (Some("Ada"), Some(at())), there, Winner::Deletion)
    };
    let first = observe.overwritten[0].previous.clone();
    given([created(ada()), linked("cus_1"), deleted()])
        .when(command(observe))
        .then_expect_events(vec![lost(first), lost(second)]);
}

#[test]
fn nothing_comes_back_to_life() {
    given([created(ada()), linked("cus_1"), deleted()]).when(observed(ada(), ada())).then_expect_events(vec![]);
}

#[test]
fn an_object_that_was_gone_before_it_was_known_stays_unknown() {
    given([]).when(gone(Profile::default(), None)).then_expect_events(vec![]);
}
