//! Lists, a page at a time, and their conditions.

use crate::common::Api;
use std::collections::BTreeSet;

#[tokio::test]
async fn the_pages_of_a_list_hold_each_item_once() {
    let api = Api::with_manifest().await;
    let mut created = BTreeSet::new();
    for _ in 0..25 {
        created.insert(api.session().await);
    }
    for limit in [1, 7, 25, 26] {
        let mut seen = Vec::new();
        let mut path = format!("/v1/sessions?limit={limit}");
        loop {
            let page = api.get(&path).await.expect(200);
            let items = page["items"].as_array().unwrap();
            assert!(items.len() <= limit);
            seen.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
            let Some(next) = page["next"].as_str() else {
                break;
            };
            path = format!("/v1/sessions?limit={limit}&after={next}");
        }
        assert_eq!(seen.len(), created.len(), "limit {limit}");
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), created);
    }
}

#[tokio::test]
async fn workloads_are_listed_by_name_a_page_at_a_time() {
    let api = Api::start().await;
    let jobs: Vec<String> = (0..5).map(|n| format!(r#""j{n}":{{"run":"date"}}"#)).collect();
    let manifest =
        format!(r#"{{"jobs":{{{}}},"services":{{"j5":{{"run":"a"}}}}}}"#, jobs.join(","));
    api.put("/v1/manifest", &manifest).await.expect(200);
    let first = api.get("/v1/jobs?limit=3").await.expect(200);
    assert_eq!(first["next"], "j2");
    let second = api.get("/v1/jobs?limit=3&after=j2").await.expect(200);
    let names: Vec<_> = second["items"].as_array().unwrap().iter().map(|j| &j["name"]).collect();
    assert_eq!(names, ["j3", "j4"]);
    assert!(second["next"].is_null());
}

#[tokio::test]
async fn conditions_hold_together() {
    let api = Api::with_manifest().await;
    api.session().await;
    let inline = r#"{"session":{"run":["a"]},"name":"other"}"#;
    api.post("/v1/sessions", inline).await.expect(201);
    let check = async |query: &str, count: usize| {
        let page = api.get(&format!("/v1/instances?{query}")).await.expect(200);
        assert_eq!(page["items"].as_array().unwrap().len(), count, "{query}");
    };
    check("", 3).await;
    check("kind=session", 2).await;
    check("kind=service", 1).await;
    check("kind=job", 0).await;
    check("workload=shell", 1).await;
    check("workload=shell&kind=service", 0).await;
    check("owner=admin", 2).await;
    check("owner=nobody", 0).await;
    check("state=live", 3).await;
    check("state=pending&workload=other", 1).await;
    check("state=ended", 0).await;
}
