//! Parses JSON of unknown origin without what is nested deeply.
//!
//! A tree of empty objects may take a hundred times the memory of its text, and nothing reads it.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// An object, with the lists and objects in it. What these contain is kept too, except that inner lists and objects are empty.
pub(in crate::registry) fn object(json: &[u8]) -> Option<Map<String, Value>> {
    let mut json = serde_json::Deserializer::from_slice(json);
    let Value::Object(object) = Shallow { levels: 2 }.deserialize(&mut json).ok()? else { return None };
    json.end().ok().map(|()| object)
}

/// A value whose lists and objects have content on so many levels.
#[derive(Clone, Copy)]
struct Shallow {
    levels: u8,
}

impl Shallow {
    fn inner(self) -> Option<Self> {
        self.levels.checked_sub(1).map(|levels| Self { levels })
    }
}

impl<'de> DeserializeSeed<'de> for Shallow {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Shallow {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut kept = Vec::new();
        match self.inner() {
            Some(inner) => {
                while let Some(value) = list.next_element_seed(inner)? {
                    kept.push(value);
                }
            }
            None => while list.next_element::<IgnoredAny>()?.is_some() {},
        }
        Ok(Value::Array(kept))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let mut kept = Map::new();
        match self.inner() {
            Some(inner) => {
                while let Some(name) = object.next_key()? {
                    kept.insert(name, object.next_value_seed(inner)?);
                }
            }
            None => while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {},
        }
        Ok(Value::Object(kept))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(text: &str) -> Option<Value> {
        object(text.as_bytes()).map(Value::Object)
    }

    #[test]
    fn what_is_read_is_kept_and_nested_values_are_not() {
        let claims = json!({
            "iss": "https://a.example/\u{e9}\"", "exp": 1_800_000_000, "nbf": -1, "iat": 1.5, "max": u64::MAX,
            "aud": ["a", "b"], "email_verified": true, "none": null, "owner": {"id": 7}, "empty": [[], {}],
        });
        assert_eq!(parsed(&claims.to_string()), Some(claims));
        let nested = json!({"a": [{"": 0}, [[1]], "x"], "b": {"c": {"d": 1}, "e": [1]}});
        assert_eq!(parsed(&nested.to_string()), Some(json!({"a": [{}, [], "x"], "b": {"c": {}, "e": []}})));
        let deep = format!("{{\"a\":{}{},\"b\":1}}", "[".repeat(100), "]".repeat(100));
        assert_eq!(parsed(&deep), Some(json!({"a": [[]], "b": 1})));
        assert_eq!(
            parsed(r#"{"a": 1, "a": "2"}"#),
            Some(json!({"a": "2"})),
            "the last one, as serde_json takes it"
        );
    }

    #[test]
    fn what_is_no_object_is_nothing() {
        for text in
            ["", "[]", "7", "null", "{", "{} {}", "{}x", r#"{"a": [[}]}"#, r#"{"a": [[1 2]]}"#, "{1: 2}"]
        {
            assert_eq!(parsed(text), None, "{text}");
        }
    }
}
