//! The API describes itself.

use crate::common::Api;
use serde_json::Value;

#[tokio::test]
async fn the_description_is_complete() {
    let api = Api::start().await;
    let description = api.get("/openapi.json").await.expect(200);
    assert!(description["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut ids = std::collections::BTreeSet::new();
    for (path, item) in description["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let place = format!("{method} {path}");
            assert!(operation["summary"].is_string(), "{place} has no summary");
            assert_eq!(operation["tags"].as_array().map(Vec::len), Some(1), "{place}");
            assert!(ids.insert(operation["operationId"].to_string()), "{place}");
            let problem = &operation["responses"]["default"]["$ref"];
            assert_eq!(problem, "#/components/responses/Problem", "{place}");
            for name in path.split('{').skip(1).map(|rest| rest.split('}').next().unwrap()) {
                let parameters = operation["parameters"].as_array().unwrap();
                let found = parameters.iter().any(|p| p["name"] == name && p["in"] == "path");
                assert!(found, "{place} does not describe {name}");
            }
        }
    }
    let problem = &description["components"]["responses"]["Problem"]["content"];
    let examples = &problem["application/problem+json"]["examples"];
    assert!(examples["workload-unknown"].is_object(), "{problem}");
    assert!(ids.len() >= 35, "{ids:?}");
    references(&description, &mut |reference| {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(description.pointer(pointer).is_some(), "{reference} leads nowhere");
    });
}

#[tokio::test]
async fn every_path_of_the_description_is_there() {
    let api = Api::start().await;
    let description = serde_json::to_value(spawnery_api::description()).unwrap();
    for (path, item) in description["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let path = path.replace("{id}", "0000000000000000");
            let path = path.replace("{name}", "nope").replace("{node}", "nope");
            if path == "/v1/events" {
                continue;
            }
            let answer = api.send(&method.to_uppercase(), &path, "").await;
            let problem: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            for code in ["route-unknown", "method-unknown"] {
                let kind = format!("urn:spawnery:problem:{code}");
                assert_ne!(problem["type"], kind, "{method} {path}: {problem}");
            }
        }
    }
}

fn references(value: &Value, seen: &mut impl FnMut(&str)) {
    match value {
        Value::Object(fields) => {
            if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
                seen(reference);
            }
            fields.values().for_each(|value| references(value, seen));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, seen)),
        _ => {}
    }
}
