//! Creating, changing, deleting.

use super::*;
use stripe_sim::{AddressUpdate, EmptyLine};

#[tokio::test]
async fn a_create_is_at_stripe_with_every_field_and_our_id() -> Result<()> {
    let local = local().await?;
    let reply = local.send(&create()).await?;
    let (remote_id, seen, customer) = present(&reply.seen.object);
    assert_eq!((seen, customer, reply.replayed), (&profile(), Some(customer_id(1)), false));

    let held = local.control.get(remote_id.as_str()).await?;
    assert_eq!(held.name.as_deref(), Some("Ada & Co"));
    assert_eq!(held.address.and_then(|address| address.country).as_deref(), Some("GB"));
    assert_eq!(held.metadata["tandem_id"], customer_id(1).to_string());
    assert_eq!(local.stripe.retrieve(remote_id).await?.object, reply.seen.object);
    Ok(())
}

#[tokio::test]
async fn an_update_changes_and_clears_what_it_names_and_nothing_else() -> Result<()> {
    for address_update in [AddressUpdate::Merge, AddressUpdate::Replace] {
        for empty_line in [EmptyLine::Null, EmptyLine::Empty] {
            let settings = Settings { address_update, empty_line, ..Settings::default() };
            let local = local_with(settings, |_| {}).await?;
            let created = local.send(&create()).await?.seen.object;
            let (remote_id, ..) = present(&created);
            let address = Address { line2: Some("Flat 2".to_owned()), ..Address::default() };
            let patch = Patch::default()
                .with(Field::Name, Some(text("Ada")))
                .with(Field::Phone, None)
                .with(Field::Address, Some(Value::Address(address)))
                .with(metadata("plan"), None)
                .with(metadata("new"), Some(text("x")));

            let reply = local.send(&Write::Update { remote_id: remote_id.clone(), patch: patch.clone() }).await?;
            let (_, seen, customer) = present(&reply.seen.object);
            assert_eq!((seen, customer), (&patch.applied_to(&profile()), Some(customer_id(1))));

            let reply = local.send(&update(remote_id, Field::Address, None)).await?;
            assert_eq!(present(&reply.seen.object).1.get(&Field::Address), None);
        }
    }
    Ok(())
}

#[tokio::test]
async fn deleting_is_final() -> Result<()> {
    let local = local().await?;
    let ada = local.ada().await?;
    let gone = Object::Gone { remote_id: ada.clone() };
    assert_eq!(local.send(&delete(&ada)).await?.seen.object, gone);
    assert_eq!(local.stripe.retrieve(&ada).await?.object, gone);
    assert!(matches!(local.send(&rename(&ada, "Eda")).await, Err(CallError::Missing)));
    assert!(matches!(local.send(&delete(&ada)).await, Err(CallError::Missing)));
    Ok(())
}

#[tokio::test]
async fn a_key_is_sent_with_posts_alone() -> Result<()> {
    let local = local().await?;
    let reply = local.send(&create()).await?;
    let (remote_id, ..) = present(&reply.seen.object);
    local.send(&rename(remote_id, "Ada")).await?;
    local.send(&delete(remote_id)).await?;
    let calls = local.control.calls().await?;
    let keys: Vec<_> = calls.iter().map(|call| (call.method.as_str(), call.idempotency_key.as_deref())).collect();
    assert_eq!(keys, [("POST", Some("key-0")), ("POST", Some("key-1")), ("DELETE", None)]);
    Ok(())
}

#[tokio::test]
async fn a_rejection_names_the_field_and_keeps_the_value_to_itself() -> Result<()> {
    let local = local().await?;
    let ada = local.ada().await?;
    for (field, value, named) in [
        (Field::Email, "nobody".to_owned(), "email"),
        (Field::Phone, "nobody".repeat(10), "phone"),
        (metadata("plan"), "nobody".repeat(100), "metadata"),
    ] {
        let error = local.send(&update(&ada, field, Some(Value::Text(value)))).await.unwrap_err();
        let CallError::Rejected { field, code, reason } = &error else { panic!("{error}") };
        assert_eq!(field.as_deref(), Some(named));
        assert!(code.is_some() && reason.contains("(request req_") && !reason.contains("nobody"), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn a_key_that_comes_again_gets_its_first_answer_and_changes_nothing() -> Result<()> {
    let local = local().await?;
    let ada = local.ada().await?;
    let first = local.send_as("key", &rename(&ada, "Ada Lovelace")).await?;
    local.control.edit(ada.as_str(), &[("name", "Ada King")]).await?;

    let again = local.send_as("key", &rename(&ada, "Ada Lovelace")).await?;
    assert_eq!((again.replayed, again.seen.object), (true, first.seen.object));
    assert_eq!(local.control.get(ada.as_str()).await?.name.as_deref(), Some("Ada King"));
    Ok(())
}

#[tokio::test]
async fn a_key_that_comes_with_another_body_is_spoilt() -> Result<()> {
    let local = local().await?;
    let ada = local.ada().await?;
    local.send_as("key", &rename(&ada, "Ada Lovelace")).await?;
    let error = local.send_as("key", &rename(&ada, "Ada King")).await.unwrap_err();
    assert!(matches!(error, CallError::Failed { .. }), "{error}");
    assert_eq!(local.control.get(ada.as_str()).await?.name.as_deref(), Some("Ada Lovelace"));
    Ok(())
}
