//! Settings, help and completions.

use crate::support::Home;
use serde_json::Value;

fn row(home: &Home, arguments: &[&str], variables: &[(&str, &str)], name: &str) -> Value {
    let mut command = home.command(&["config", "--json"]);
    command.args(arguments).envs(variables.iter().copied());
    let output = command.output().expect("the binary runs");
    let rows: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    let rows = rows.as_array().expect("a list").clone();
    rows.into_iter().find(|row| row["setting"] == name).expect("the setting")
}

#[test]
fn options_beat_the_environment_beats_the_file_beats_the_defaults() {
    let home = Home::new();
    let file = home.write("c.toml", "url = \"http://127.0.0.1:3\"\n");
    let check = |arguments: &[&str], variables: &[(&str, &str)], value: &str, source: &str| {
        let row = row(&home, arguments, variables, "url");
        assert_eq!((row["value"].as_str(), row["source"].as_str()), (Some(value), Some(source)));
    };
    let variable = ("SPAWNERY_URL", "http://127.0.0.1:2");
    let config = ("SPAWNERY_CONFIG", file.as_str());
    let option = ["--url", "http://127.0.0.1:1"];
    check(&option, &[variable, config], "http://127.0.0.1:1", "--url");
    check(&[], &[variable, config], "http://127.0.0.1:2", "SPAWNERY_URL");
    check(&[], &[config], "http://127.0.0.1:3", &file);
    check(&["--config", &file], &[], "http://127.0.0.1:3", &file);
    assert_eq!(row(&home, &[], &[], "url")["value"], Value::Null);
    assert_eq!(row(&home, &[], &[], "listen")["source"], "default");
}

#[test]
fn the_file_is_found_where_xdg_says() {
    let home = Home::new();
    std::fs::create_dir_all(home.path(".config/spawnery")).unwrap();
    let file = home.write(".config/spawnery/config.toml", "name = \"box\"\n");
    assert_eq!(row(&home, &[], &[], "name")["source"], file.as_str());
}

#[test]
fn secrets_are_not_shown() {
    let home = Home::new();
    let row = row(&home, &[], &[("SPAWNERY_TOKEN", "s3cret")], "access_token");
    assert_eq!(row["source"], "SPAWNERY_TOKEN");
    assert!(!row.to_string().contains("s3cret"));
}

#[test]
fn what_is_wrong_in_the_file_is_named_with_its_place() {
    let home = Home::new();
    let check = |text: &str, parts: &[&str]| {
        let file = home.write("c.toml", text);
        let mut ran = home.output(&["config", "--config", &file]).expect(2);
        for part in parts {
            ran = ran.says(part);
        }
    };
    check("urls = \"http://a:1\"", &["c.toml:1:1", "`urls`", "did you mean `url`?"]);
    check("\n  data = 3", &["c.toml:2:10", "data", "a text in quotes"]);
    check("json = \"perhaps\"", &["c.toml", "`perhaps`", "true or false"]);
    check("listen = ", &["c.toml:1:"]);
    check("colour = 1\n", &["did you mean `color`?"]);
    home.output(&["config", "--config", "none.toml"]).expect(2).says("none.toml");
}

#[test]
fn options_of_commands_are_shown_with_their_source() {
    let home = Home::new();
    let file = home.write("c.toml", "[logs]\ntail = 7\n[run]\nenv = [\"KEY=s3cret\"]\n");
    let variables = [("SPAWNERY_CONFIG", file.as_str()), ("SPAWNERY_LOGS_FOLLOW", "1")];
    let shown = |arguments: &[&str]| {
        let mut command = home.command(&["config"]);
        command.args(arguments).envs(variables);
        let output = command.output().expect("the binary runs");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let rows: Value = serde_json::from_str(&shown(&["--json"])).expect("JSON");
    let check = |command: &str, name: &str, value: Option<&str>, source: Option<&str>| {
        let rows = rows.as_array().expect("a list");
        let is_it = |row: &&Value| row["command"] == command && row["setting"] == name;
        let row = rows.iter().find(is_it).unwrap_or_else(|| panic!("{command}.{name}"));
        assert_eq!((row["value"].as_str(), row["source"].as_str()), (value, source), "{name}");
    };
    check("logs", "tail", Some("7"), Some(&file));
    check("logs", "follow", Some("true"), Some("SPAWNERY_LOGS_FOLLOW"));
    check("logs", "process", Some("0"), Some("default"));
    check("logs", "since", None, None);
    check("run", "env", Some("********"), Some(&file));
    check("session.exec", "working_directory", None, None);
    let brief = shown(&[]);
    assert!(brief.contains("[logs]") && brief.contains("variable"), "{brief}");
    assert!(brief.contains(&format!("file: {file}")), "{brief}");
    assert!(!brief.contains("[session.exec]") && !brief.contains("s3cret"), "{brief}");
    let all = shown(&["--all"]);
    assert!(all.contains("[session.exec]") && all.contains("SPAWNERY_JOBS_RUN_WAIT"), "{all}");
    let wide = all.lines().find(|line| line.len() > 80 && !line.contains(file.as_str()));
    assert_eq!(wide, None);
}

#[test]
fn a_wrong_option_of_a_command_is_named_with_its_place() {
    let home = Home::new();
    let check = |text: &str, parts: &[&str]| {
        let file = home.write("c.toml", text);
        let mut ran = home.output(&["config", "--config", &file]).expect(2);
        for part in parts {
            ran = ran.says(part);
        }
    };
    check("[logs]\ntail = \"many\"", &["c.toml:2: logs.tail", "`many`", "a whole number"]);
    check("[logs]\ntial = 5", &["c.toml:2:1", "`tial`", "did you mean `tail`?"]);
    check("[instance]\nall = true", &["did you mean `instances`?"]);
    check("[run]\nmemory = \"1G\"", &["`memory` is a setting of its own"]);
    let mut command = home.command(&["config"]);
    let output = command.env("SPAWNERY_JOBS_RUN_WAIT", "maybe").output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("SPAWNERY_JOBS_RUN_WAIT: `maybe`"), "{said}");
    assert!(said.contains("true or false"), "{said}");
    let mut command = home.command(&["events"]);
    let output = command.env("SPAWNERY_EVENTS_AFTER", "now").output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("SPAWNERY_EVENTS_AFTER: `now`"), "{said}");
    home.output(&["logs", "--help"]).expect(0).prints("[env: SPAWNERY_LOGS_TAIL]");
}

#[test]
fn every_command_has_help_that_fits() {
    let home = Home::new();
    let help = home.output(&["--help"]).expect(0).prints("Exit codes:").prints("137");
    let list = help.stdout.split("Commands:").nth(1).expect("commands");
    let list = list.split("\n\n").next().expect("a list");
    // What begins further to the right goes on with the line before.
    let names = list.lines().filter_map(|line| line.strip_prefix("  "));
    let names = names.filter(|line| !line.starts_with(' '));
    let names: Vec<&str> = names.filter_map(|line| line.split(' ').next()).collect();
    assert!(names.len() > 15, "{names:?}");
    assert!(!names.contains(&"launcher"));
    for name in names {
        let ran = home.output(&[name, "--help"]).expect(0);
        let wide = ran.stdout.lines().find(|line| line.chars().count() > 100);
        assert_eq!(wide, None, "{name}");
    }
    home.output(&["serve"]).expect(2).says("server");
}

#[test]
fn completions_and_the_schema_are_printed() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        home.output(&["completions", shell]).expect(0).prints("journal");
    }
    let schema = home.output(&["schema"]).expect(0).stdout;
    let schema: Value = serde_json::from_str(&schema).expect("JSON");
    assert!(schema["properties"]["services"].is_object(), "{schema}");
}
