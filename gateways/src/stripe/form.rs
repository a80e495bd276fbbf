//! What we ask Stripe for: the form-encoded body of a write.
//!
//! async-stripe's own `CreateCustomer` and `UpdateCustomer` write metadata in a different order each time, and cannot
//! unset an address; a body that an idempotency key goes with must be the same bytes for ever.

use tandem_domain::{Field, Patch, Profile, Value};
use url::form_urlencoded::Serializer;

use super::translate::TANDEM_ID;
use crate::Write;

/// Most keys of an object's metadata ("Metadata"). Ours is one of them, and gives way to a user's.
const METADATA_KEYS: usize = 50;

/// The body for an object that was last seen to hold that, its fields in the order of [`Field`]. `""` unsets a field.
pub(super) fn of(write: &Write, held: &Profile) -> String {
    let mut form = Serializer::new(String::new());
    match write {
        Write::Create { customer, profile } => {
            for (field, value) in profile.iter() {
                match value {
                    Value::Text(text) => form.append_pair(&param(field), text),
                    Value::Address(address) => form.extend_pairs(
                        address
                            .parts()
                            .into_iter()
                            .filter_map(|(part, text)| Some((format!("address[{part}]"), text?))),
                    ),
                    Value::Other(_) => continue,
                };
            }
            if profile.metadata().count() < METADATA_KEYS {
                form.append_pair(&format!("metadata[{TANDEM_ID}]"), &customer.to_string());
            }
        }
        Write::Update { patch, .. } => {
            for (field, value) in patch.iter() {
                match value {
                    None => form.append_pair(&param(field), ""),
                    Some(Value::Text(text)) => form.append_pair(&param(field), text),
                    // All parts: whether an update of some keeps the others, Stripe does not say.
                    Some(Value::Address(address)) => form.extend_pairs(
                        address.parts().map(|(part, text)| (format!("address[{part}]"), text.unwrap_or_default())),
                    ),
                    Some(Value::Other(_)) => continue,
                };
            }
            if takes_the_last_key(patch, held) {
                form.append_pair(&format!("metadata[{TANDEM_ID}]"), "");
            }
        }
        Write::Claim { customer, .. } => {
            form.append_pair(&format!("metadata[{TANDEM_ID}]"), &customer.to_string());
        }
        Write::Delete { .. } => {}
    }
    form.finish()
}

/// Whether a change adds metadata, and leaves no key for our id.
fn takes_the_last_key(patch: &Patch, held: &Profile) -> bool {
    let is_key = |field: &Field| matches!(field, Field::Metadata(_));
    let adds = patch.iter().any(|(field, value)| is_key(field) && value.is_some() && held.get(field).is_none());
    adds && patch.applied_to(held).metadata().count() >= METADATA_KEYS
}

/// The field that one of Stripe's parameters belongs to, as we write it: `metadata[plan]` is `metadata.plan`. A
/// parameter that is none of ours stays as it is.
pub(super) fn field_of(param: &str) -> String {
    let Some((outer, inner)) = param.strip_suffix(']').and_then(|param| param.split_once('[')) else {
        return param.to_owned();
    };
    match outer {
        "metadata" => Field::Metadata(inner.to_owned()).to_string(),
        "address" => Field::Address.to_string(),
        _ => param.to_owned(),
    }
}

/// The parameter of a field.
fn param(field: &Field) -> String {
    match field {
        Field::Metadata(key) => format!("metadata[{key}]"),
        Field::Name | Field::Email | Field::Phone | Field::Address | Field::Other(_) => field.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use tandem_domain::{Address, CustomerId, RemoteId};

    use super::*;

    /// The body, one readable pair a line.
    fn lines(write: &Write) -> Vec<String> {
        let body = of(write, &Profile::default());
        url::form_urlencoded::parse(body.as_bytes()).map(|(name, value)| format!("{name}={value}")).collect()
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    fn metadata(key: &str) -> Field {
        Field::Metadata(key.to_owned())
    }

    fn update(patch: Patch) -> Write {
        Write::Update { remote_id: RemoteId::from("cus_1".to_owned()), patch }
    }

    #[test]
    fn a_create_carries_every_field_and_our_id() {
        let address =
            Address { line1: Some("1 Main St".to_owned()), country: Some("GB".to_owned()), ..Address::default() };
        let profile = Profile::default()
            .with(metadata("seats"), text("3"))
            .with(metadata("plan"), text("pro"))
            .with(Field::Address, Value::Address(address))
            .with(Field::Email, text("ada@old.example"))
            .with(Field::Name, text("Ada & Co"));
        let customer: CustomerId = "0192d3a4-0000-7000-8000-000000000001".parse().unwrap();
        assert_eq!(
            lines(&Write::Create { customer, profile }),
            [
                "name=Ada & Co",
                "email=ada@old.example",
                "address[line1]=1 Main St",
                "address[country]=GB",
                "metadata[plan]=pro",
                "metadata[seats]=3",
                "metadata[tandem_id]=0192d3a4-0000-7000-8000-000000000001",
            ]
        );
    }

    #[test]
    fn an_update_carries_the_changed_fields_and_unsets_with_nothing() {
        let patch = Patch::default()
            .with(metadata("plan"), None)
            .with(Field::Address, None)
            .with(Field::Phone, None)
            .with(Field::Name, Some(text("Ada")));
        assert_eq!(lines(&update(patch)), ["name=Ada", "phone=", "address=", "metadata[plan]="]);
    }

    #[test]
    fn a_changed_address_carries_all_its_parts() {
        let address = Address { line1: Some("1 Main St".to_owned()), ..Address::default() };
        let patch = Patch::default().with(Field::Address, Some(Value::Address(address)));
        assert_eq!(
            lines(&update(patch)),
            [
                "address[line1]=1 Main St",
                "address[line2]=",
                "address[city]=",
                "address[state]=",
                "address[postal_code]=",
                "address[country]=",
            ]
        );
    }

    #[test]
    fn our_id_gives_way_to_a_users_last_key() {
        let keys = |count: usize| (0..count).map(|n| (metadata(&format!("key{n}")), text("x"))).collect::<Profile>();
        let customer: CustomerId = "0192d3a4-0000-7000-8000-000000000001".parse().unwrap();
        let carries_ours = |count| {
            let lines = lines(&Write::Create { customer, profile: keys(count) });
            lines.iter().any(|line| line.starts_with("metadata[tandem_id]="))
        };
        assert!(carries_ours(49) && !carries_ours(50));

        let unsets_ours = |held: usize, field: Field, value: Option<&str>| {
            let patch = Patch::default().with(field, value.map(text));
            of(&update(patch), &keys(held)).ends_with("metadata%5Btandem_id%5D=")
        };
        assert!(unsets_ours(49, metadata("plan"), Some("pro")));
        assert!(!unsets_ours(48, metadata("plan"), Some("pro")));
        assert!(!unsets_ours(50, metadata("key1"), Some("y")));
        assert!(!unsets_ours(50, metadata("key1"), None));
        assert!(!unsets_ours(50, Field::Name, Some("Ada")));
    }

    #[test]
    fn the_bytes_are_pinned() {
        let patch =
            Patch::default().with(Field::Name, Some(text("Ädä+ &=%"))).with(metadata("a b"), Some(text("x\ny")));
        assert_eq!(of(&update(patch), &Profile::default()), "name=%C3%84d%C3%A4%2B+%26%3D%25&metadata%5Ba+b%5D=x%0Ay");
    }

    #[test]
    fn a_delete_says_nothing() {
        assert_eq!(of(&Write::Delete { remote_id: RemoteId::from("cus_1".to_owned()) }, &Profile::default()), "");
    }

    #[test]
    fn parameters_are_named_as_our_fields() {
        for (param, field) in [
            ("email", "email"),
            ("metadata[plan]", "metadata.plan"),
            ("metadata", "metadata"),
            ("address[country]", "address"),
            ("tax[ip_address]", "tax[ip_address]"),
        ] {
            assert_eq!(field_of(param), field);
        }
    }
}
