//! `spawnery check`: every bad manifest gets its clear error.

use crate::support::Home;

#[test]
fn the_examples_are_valid() {
    let home = Home::new();
    for name in ["tour.yaml", "fleet.toml", "jobs.json", "environment.yaml"] {
        let path = format!("{}/../../examples/{name}", env!("CARGO_MANIFEST_DIR"));
        home.output(&["check", &path]).expect(0).prints("valid");
    }
}

#[test]
fn a_bad_manifest_is_refused_with_place_reason_and_mend() {
    let home = Home::new();
    let check = |name: &str, text: &str, parts: &[&str]| {
        let path = home.write(name, text);
        let mut ran = home.output(&["check", &path]).expect(2);
        assert_eq!(ran.stdout, "");
        for part in parts {
            ran = ran.says(part);
        }
    };
    let yaml = |text: &str, parts: &[&str]| check("m.yaml", text, parts);
    yaml("services:\n  web:\n    rum: [ls]\n", &["m.yaml:3:5", "rum", "run"]);
    yaml("servces: {}\n", &["m.yaml:1:1", "servces", "services"]);
    yaml("services:\n  web: {}\n", &["web", "run"]);
    yaml("services:\n  Web: {run: [ls]}\n", &["m.yaml:2:3", "Web", "web"]);
    yaml("services:\n  a: {run: [ls]}\n  a: {run: [ls]}\n", &["m.yaml:3:3", "twice"]);
    yaml("services:\n  a: {run: [ls], memory: 512}\n", &["m.yaml:2:26", "memory", "512M"]);
    yaml("services:\n  a: {run: [ls], memory: 1X}\n", &["`1X`", "512M"]);
    yaml("services:\n  a: {run: [ls], memory: 1K}\n", &["memory", "1M"]);
    yaml("services:\n  a: {run: [ls], cpu: -1}\n", &["cpu"]);
    yaml("services:\n  a: {run: [ls], pids: 0}\n", &["pids", "1"]);
    yaml("services:\n  a: {run: [ls], ports: [70000]}\n", &["70000", "65535"]);
    yaml("services:\n  a: {run: [ls], restart: sometimes}\n", &["sometimes", "always"]);
    yaml("services:\n  a: {run: [ls], stop: {signal: TREM}}\n", &["TREM", "TERM"]);
    yaml("services:\n  a: {run: [ls], constraints: [zone is eu]}\n", &["zone is eu", "zone == eu"]);
    yaml("jobs:\n  a: {run: [ls], schedule: '61 * * * *'}\n", &["61", "0 to 59"]);
    yaml(
        "jobs:\n  a: {run: [ls], schedule: {cron: '@daily', time_zone: Europe/Zurch}}\n",
        &["Europe/Zurich"],
    );
    yaml("jobs:\n  a: {run: [ls], replicas: 2}\n", &["replicas", "service"]);
    yaml(
        "sessions:\n  a: {run: [ls], files: {/a: {source: ./none}}}\n",
        &["./none", "No such file"],
    );
    yaml("services: [", &["m.yaml:1:"]);
    yaml("", &["m.yaml", "services"]);
    check("m.toml", "[services.a]\nrun = [\"ls\"]\nmemry = \"1M\"\n", &["m.toml:3:1", "memory"]);
    check("m.json", "{\"services\": {\"a\": {\"run\": 3}}}", &["m.json:1:", "run"]);
    check("m.txt", "", &["m.txt", ".yaml"]);
    home.output(&["check", "none.yaml"]).expect(2).says("none.yaml").says("hint: ");
}

#[test]
fn errors_are_data_too() {
    let home = Home::new();
    let path = home.write("m.yaml", "services:\n  web:\n    rum: [ls]\n    memory: 1X\n");
    let ran = home.output(&["check", &path, "--json"]).expect(2);
    let found: serde_json::Value = serde_json::from_str(&ran.stdout).expect("one JSON document");
    let errors = found[0]["errors"].as_array().expect("a list");
    assert_eq!(found[0]["is_valid"], false);
    assert!(errors.iter().any(|error| error["line"] == 3 && error["column"] == 5), "{found}");
}
