//! The fields of a customer that a call may set, their limits, and how each takes a value.

use serde_json::{Map, Value, json};

use crate::error::StripeError;
use crate::options::{AddressUpdate, EmptyLine, Settings};
use crate::params::{Param, Params, integer};

/// A JSON object as Stripe would send it.
pub(crate) type Object = Map<String, Value>;

enum Kind {
    /// At most so many characters.
    Text(usize),
    Email(usize),
    Integer,
    OneOf(&'static [&'static str]),
    Strings,
    Address,
    Shipping,
    Metadata,
}

const FIELDS: [(&str, Kind); 11] = [
    ("address", Kind::Address),
    ("balance", Kind::Integer),
    ("description", Kind::Text(350)),
    ("email", Kind::Email(512)),
    ("invoice_prefix", Kind::Text(12)),
    ("metadata", Kind::Metadata),
    ("name", Kind::Text(256)),
    ("phone", Kind::Text(20)),
    ("preferred_locales", Kind::Strings),
    ("shipping", Kind::Shipping),
    ("tax_exempt", Kind::OneOf(&["exempt", "none", "reverse"])),
];

/// Parameters that Stripe knows and this one has nothing behind.
const NOT_MODELLED: [&str; 14] = [
    "business_name",
    "cash_balance",
    "coupon",
    "default_source",
    "individual_name",
    "invoice_settings",
    "next_invoice_sequence",
    "payment_method",
    "promotion_code",
    "source",
    "tax",
    "tax_id_data",
    "test_clock",
    "validate",
];

const ADDRESS: [&str; 6] = ["city", "country", "line1", "line2", "postal_code", "state"];
const LINE_MAX: usize = 5000;
const METADATA_KEYS: usize = 50;
const METADATA_KEY_MAX: usize = 40;
const METADATA_VALUE_MAX: usize = 500;

/// Sets on `customer` what `params` say: `""` unsets, metadata keys merge. On an error `customer` is half changed: throw it away.
pub(crate) fn apply(customer: &mut Object, params: &Params, settings: &Settings) -> Result<(), StripeError> {
    let known: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).chain(NOT_MODELLED).collect();
    params.only(&known)?;
    for root in params.roots() {
        if NOT_MODELLED.contains(&root) {
            return Err(StripeError::not_modelled(root));
        }
    }
    for (name, kind) in &FIELDS {
        let sent: Vec<&Param> = params.under(name).collect();
        if sent.is_empty() {
            continue;
        }
        let old = customer.get(*name).cloned().unwrap_or(Value::Null);
        let new = match kind {
            Kind::Text(max) => text(plain(&sent)?, at_most_of(*max, settings))?,
            Kind::Email(max) => email(plain(&sent)?, at_most_of(*max, settings), settings)?,
            Kind::Integer => integer(name, &plain(&sent)?.value)?.into(),
            Kind::OneOf(allowed) => one_of(plain(&sent)?, allowed)?,
            Kind::Strings => params.list(name).into(),
            Kind::Address => address(old, 0, &sent, settings)?,
            Kind::Shipping => shipping(old, &sent, settings)?,
            Kind::Metadata => metadata(old, &sent, settings)?,
        };
        customer.insert((*name).to_owned(), new);
    }
    Ok(())
}

/// A value that has no brackets; of several the last.
fn plain<'a>(sent: &[&'a Param]) -> Result<&'a Param, StripeError> {
    match sent.last() {
        Some(param) if param.path.is_empty() => Ok(param),
        Some(param) => Err(StripeError::bad_param(&param.root, "Invalid string: a hash was given.")),
        None => Err(StripeError::missing_param("")),
    }
}

fn text(param: &Param, max: usize) -> Result<Value, StripeError> {
    at_most(param, max)?;
    Ok(if param.value.is_empty() { Value::Null } else { param.value.clone().into() })
}

/// The limit, if there are any.
fn at_most_of(limit: usize, settings: &Settings) -> usize {
    if settings.any_length { usize::MAX } else { limit }
}

fn at_most(param: &Param, max: usize) -> Result<(), StripeError> {
    let chars: Vec<char> = param.value.chars().collect();
    if chars.len() <= max {
        return Ok(());
    }
    let shown = match chars.len() {
        length if length > 25 => {
            let (head, tail): (String, String) = (chars[..10].iter().collect(), chars[length - 10..].iter().collect());
            format!("{head}...{tail}")
        }
        _ => param.value.clone(),
    };
    Err(StripeError::bad_param(&param.key, format!("Invalid string: {shown}; must be at most {max} characters")))
}

fn email(param: &Param, max: usize, settings: &Settings) -> Result<Value, StripeError> {
    let mut param = param.clone();
    if settings.normalise_email {
        param.value = param.value.trim().to_lowercase();
    }
    let value = text(&param, max)?;
    let plausible = param.value.is_empty()
        || (!param.value.contains(|c: char| c.is_whitespace() || c.is_control())
            && matches!(param.value.split_once('@'), Some((local, domain))
                if !local.is_empty() && !domain.is_empty() && !domain.contains('@')));
    if plausible { Ok(value) } else { Err(StripeError::bad_email(&param.value)) }
}

fn one_of(param: &Param, allowed: &[&str]) -> Result<Value, StripeError> {
    if allowed.contains(&param.value.as_str()) {
        return Ok(param.value.clone().into());
    }
    let message = format!("Invalid {}: must be one of {}", param.key, allowed.join(", "));
    Err(StripeError::bad_param(&param.key, message))
}

/// `depth` is how many brackets stand before the address's own.
fn address(old: Value, depth: usize, sent: &[&Param], settings: &Settings) -> Result<Value, StripeError> {
    let blank = || ADDRESS.iter().map(|line| ((*line).to_owned(), Value::Null)).collect::<Object>();
    let mut address = match (settings.address_update, old) {
        (AddressUpdate::Merge, Value::Object(old)) => old,
        _ => blank(),
    };
    let mut unset = false;
    for param in sent {
        match param.path.get(depth..) {
            Some([]) if param.value.is_empty() => {
                address = blank();
                unset = true;
            }
            Some([]) => return Err(StripeError::bad_param(&param.key, "Invalid hash")),
            Some([line]) if ADDRESS.contains(&line.as_str()) => {
                let value = match (text(param, at_most_of(LINE_MAX, settings))?, settings.empty_line) {
                    (Value::Null, EmptyLine::Empty) => "".into(),
                    (value, _) => value,
                };
                address.insert(line.clone(), value);
                unset = false;
            }
            _ => return Err(StripeError::unknown_params(&[&param.key])),
        }
    }
    Ok(if unset { Value::Null } else { Value::Object(address) })
}

fn shipping(old: Value, sent: &[&Param], settings: &Settings) -> Result<Value, StripeError> {
    if let [param] = sent
        && param.path.is_empty()
        && param.value.is_empty()
    {
        return Ok(Value::Null);
    }
    let mut shipping = match old {
        Value::Object(old) => old,
        _ => Object::from_iter([
            ("address".into(), Value::Null),
            ("name".into(), Value::Null),
            ("phone".into(), Value::Null),
        ]),
    };
    let lines: Vec<&Param> =
        sent.iter().copied().filter(|param| param.path.first().is_some_and(|key| key == "address")).collect();
    if !lines.is_empty() {
        let old = shipping.remove("address").unwrap_or_default();
        shipping.insert("address".into(), address(old, 1, &lines, settings)?);
    }
    for param in sent {
        match param.path.as_slice() {
            [key, ..] if key == "address" => {}
            [key] if key == "name" => drop(shipping.insert(key.clone(), text(param, LINE_MAX)?)),
            [key] if key == "phone" => drop(shipping.insert(key.clone(), text(param, 20)?)),
            [] => return Err(StripeError::bad_param(&param.key, "Invalid hash")),
            _ => return Err(StripeError::unknown_params(&[&param.key])),
        }
    }
    Ok(Value::Object(shipping))
}

/// `metadata=` unsets all, `metadata[key]=` one, `metadata[key]=value` sets one and keeps the others.
pub(crate) fn metadata(old: Value, sent: &[&Param], settings: &Settings) -> Result<Value, StripeError> {
    let refuse = |message: String| Err(StripeError::bad_param("metadata", message));
    let mut metadata = match old {
        Value::Object(old) => old,
        _ => Object::new(),
    };
    for param in sent {
        match param.path.as_slice() {
            [] if param.value.is_empty() => metadata.clear(),
            [key] if key.is_empty() => return refuse("Metadata keys can't be empty.".to_owned()),
            [key] if key.contains(['[', ']']) => {
                return refuse(format!("Metadata keys can't contain square brackets. Invalid key: {key}"));
            }
            [key] if key.chars().count() > at_most_of(METADATA_KEY_MAX, settings) => {
                return refuse(format!(
                    "Metadata keys can have up to {METADATA_KEY_MAX} characters, but you passed in a key that is {} \
                     characters. Invalid key: {key}",
                    key.chars().count()
                ));
            }
            [_] if param.value.chars().count() > at_most_of(METADATA_VALUE_MAX, settings) => {
                return refuse(format!(
                    "Metadata values can have up to {METADATA_VALUE_MAX} characters, but you passed in a value that \
                     is {} characters. Invalid value: {}",
                    param.value.chars().count(),
                    param.value
                ));
            }
            [key] if param.value.is_empty() => drop(metadata.remove(key)),
            [key] => drop(metadata.insert(key.clone(), param.value.clone().into())),
            _ => {
                return refuse(format!(
                    "Invalid val: {} must be a string under {METADATA_VALUE_MAX} characters",
                    param.key
                ));
            }
        }
    }
    if metadata.len() > at_most_of(METADATA_KEYS, settings) {
        return refuse(format!(
            "Metadata can have up to {METADATA_KEYS} keys, but this would be {} keys.",
            metadata.len()
        ));
    }
    Ok(Value::Object(metadata))
}

/// A customer before anything is set.
pub(crate) fn blank(id: &str, created: i64, invoice_prefix: &str) -> Object {
    let blank = json!({
        "id": id,
        "object": "customer",
        "address": null,
        "balance": 0,
        "created": created,
        "currency": null,
        "default_source": null,
        "delinquent": false,
        "description": null,
        "discount": null,
        "email": null,
        "invoice_prefix": invoice_prefix,
        "invoice_settings": {
            "custom_fields": null,
            "default_payment_method": null,
            "footer": null,
            "rendering_options": null,
        },
        "livemode": false,
        "metadata": {},
        "name": null,
        "next_invoice_sequence": 1,
        "phone": null,
        "preferred_locales": [],
        "shipping": null,
        "tax_exempt": "none",
        "test_clock": null,
    });
    match blank {
        Value::Object(blank) => blank,
        _ => Object::new(),
    }
}

/// What `new` changed of `old`, with the old values: Stripe's `previous_attributes`. Of hashes the changed keys only.
pub(crate) fn previous(old: &Object, new: &Object) -> Object {
    let mut changed = Object::new();
    for key in old.keys().chain(new.keys().filter(|key| !old.contains_key(*key))) {
        let (was, is) = (old.get(key), new.get(key));
        if was == is {
            continue;
        }
        let was = match (was, is) {
            (Some(Value::Object(was)), Some(Value::Object(is))) => Value::Object(previous(was, is)),
            (was, _) => was.cloned().unwrap_or(Value::Null),
        };
        changed.insert(key.clone(), was);
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(pairs: &[(&str, &str)]) -> Result<Object, StripeError> {
        let mut customer = blank("cus_1", 1, "PREFIX");
        let params = Params::from_pairs(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        apply(&mut customer, &params, &Settings::default()).map(|()| customer)
    }

    #[test]
    fn previous_attributes_name_only_what_changed() {
        let old = edited(&[("metadata[a]", "1"), ("metadata[b]", "2"), ("address[city]", "Paris")]).unwrap();
        let mut new = old.clone();
        let params = [("metadata[a]", ""), ("metadata[c]", "3"), ("address[city]", "Rome"), ("name", "Ada")];
        let params = Params::from_pairs(params.map(|(k, v)| (k.to_owned(), v.to_owned())));
        apply(&mut new, &params, &Settings::default()).unwrap();
        assert_eq!(
            Value::Object(previous(&old, &new)),
            json!({ "metadata": { "a": "1", "c": null }, "address": { "city": "Paris" }, "name": null })
        );
    }

    #[test]
    fn limits_count_characters_not_bytes() {
        assert!(edited(&[("name", &"é".repeat(256))]).is_ok());
        let error = edited(&[("name", &"é".repeat(257))]).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("name"));
    }
}
