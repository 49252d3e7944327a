//! JSON Schema (draft 2020-12), made from the tables that the reader uses.

use crate::reader::Field;
use serde_json::{Map, Value, json};

/// The JSON Schema of a manifest, for editors: the fields, their kinds and what they mean.
///
/// What only the reader can check (names that must differ, amounts within limits) is not in it.
pub fn schema() -> String {
    let mut schema = object(&[crate::top::FIELDS], &[]);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("Spawnery manifest");
    schema["description"] = json!("Services, jobs and session templates, as Spawnery runs them.");
    let mut text = serde_json::to_string_pretty(&schema).expect("a schema is plain JSON");
    text.push('\n');
    text
}

/// A map with the fields of `tables`.
pub(crate) fn object<D>(tables: &[&[Field<D>]], required: &[&str]) -> Value {
    let fields = tables.iter().flat_map(|table| table.iter());
    let properties: Map<String, Value> = fields
        .map(|field| {
            let mut schema = (field.schema)();
            schema["description"] = json!(field.doc);
            (field.name.to_owned(), schema)
        })
        .collect();
    let mut object = json!({
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    object
}

/// A map from any name to `value`.
pub(crate) fn map_of(value: Value) -> Value {
    json!({ "type": "object", "additionalProperties": value })
}

/// A list of `items`.
pub(crate) fn list_of(items: Value) -> Value {
    json!({ "type": "array", "items": items })
}

/// Any of `schemas`.
pub(crate) fn any_of(schemas: &[Value]) -> Value {
    json!({ "anyOf": schemas })
}

/// Text.
pub(crate) fn text() -> Value {
    json!({ "type": "string" })
}

/// Text like `example`.
pub(crate) fn text_like(example: &str) -> Value {
    json!({ "type": "string", "examples": [example] })
}

/// Text, a number, true or false: what becomes text.
pub(crate) fn scalar() -> Value {
    json!({ "type": ["string", "number", "boolean"] })
}

/// Text with a unit, or a number.
pub(crate) fn amount(example: &str) -> Value {
    json!({ "type": ["string", "number"], "examples": [example] })
}

/// True or false.
pub(crate) fn boolean() -> Value {
    json!({ "type": "boolean" })
}

/// A whole number from `least` to `most`.
pub(crate) fn whole(least: u64, most: u64) -> Value {
    json!({ "type": "integer", "minimum": least, "maximum": most })
}

/// One of a few words.
pub(crate) fn words<T>(words: &[(&str, T)]) -> Value {
    let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    json!({ "enum": words })
}
