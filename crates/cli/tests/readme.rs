//! Every command of the README is run, and its output compared.
//!
//! In a block that is marked `console`, a line with `$ ` before it is a command for `sh`, and the
//! lines up to the next command are what it prints. `…` stands for any characters of a line and,
//! alone in its line, for any lines; any number of spaces is as good as one. A command that ends with `&` goes on in the background, until
//! the README ends; the next one waits until it has printed what stands below it.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Far longer than anything takes on a slow and busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// The port that the README speaks of; the test takes a free one.
const PORT: &str = "9000";

#[test]
fn the_readme_is_true() {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
    let text = fs::read_to_string(readme).expect("there is a README");
    let mut tour = Tour::new();
    for step in steps(&text) {
        tour.walk(&step);
    }
}

/// A command and what it prints.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    line: usize,
    command: String,
    expected: Vec<String>,
}

/// The steps in the `console` blocks of `text`.
fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut is_inside = false;
    for (index, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            is_inside = !is_inside && line == "```console";
        } else if is_inside {
            match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => steps.push(Step {
                    line: index + 1,
                    command: command.to_owned(),
                    expected: Vec::new(),
                }),
                (None, Some(step)) => step.expected.push(line.to_owned()),
                (None, None) => panic!("line {}: output before a command", index + 1),
            }
        }
    }
    steps
}

/// Whether `printed` is what is `expected`, in full.
fn fits(expected: &[String], printed: &[&str]) -> bool {
    match expected.split_first() {
        None => printed.is_empty(),
        Some((first, rest)) if first.trim() == "…" => {
            (0..=printed.len()).any(|skipped| fits(rest, &printed[skipped..]))
        }
        Some((first, rest)) => match printed.split_first() {
            Some((line, others)) => line_fits(first, line) && fits(rest, others),
            None => false,
        },
    }
}

/// How wide a column is depends on what is in it, so any number of spaces is as good as one.
fn line_fits(expected: &str, line: &str) -> bool {
    let single = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    text_fits(&single(expected), &single(line))
}

fn text_fits(expected: &str, line: &str) -> bool {
    let Some((before, after)) = expected.split_once('…') else {
        return expected == line;
    };
    let Some(rest) = line.strip_prefix(before) else {
        return false;
    };
    let places = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
    places.into_iter().any(|at| text_fits(after, &rest[at..]))
}

/// Somebody who follows the README.
struct Tour {
    folder: TempDir,
    port: String,
    background: Vec<(Child, PathBuf)>,
}

impl Tour {
    fn new() -> Tour {
        let folder = TempDir::new().expect("a temporary folder");
        let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples");
        let link = folder.path().join("examples");
        std::os::unix::fs::symlink(examples, link).expect("a link to the examples");
        // Free now; nobody else is likely to take it at once.
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port().to_string();
        Tour { folder, port, background: Vec::new() }
    }

    fn walk(&mut self, step: &Step) {
        let port = |text: &String| text.replace(PORT, &self.port);
        let command = port(&step.command);
        let expected: Vec<String> = step.expected.iter().map(port).collect();
        let (printed, is_right) = match command.strip_suffix(" &") {
            Some(command) => self.in_background(command, &expected),
            None => self.in_foreground(&command, &expected),
        };
        let (line, expected) = (step.line, expected.join("\n"));
        assert!(
            is_right,
            "README.md:{line}: $ {command}\n--- expected\n{expected}\n--- printed\n{printed}"
        );
    }

    fn in_foreground(&self, command: &str, expected: &[String]) -> (String, bool) {
        let output = self.folder.path().join("output");
        let mut child = self.shell(command, &output);
        child.wait().expect("it is our child");
        judge(&output, expected)
    }

    fn in_background(&mut self, command: &str, expected: &[String]) -> (String, bool) {
        let output = self.folder.path().join(format!("output-{}", self.background.len()));
        let child = self.shell(&format!("exec {command}"), &output);
        self.background.push((child, output.clone()));
        // More may follow.
        let mut expected = expected.to_vec();
        expected.push("…".to_owned());
        let until = Instant::now() + DEADLINE;
        loop {
            let judged = judge(&output, &expected);
            if judged.1 || Instant::now() > until {
                return judged;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs a command in a process group of its own, with the binary first in its PATH.
    fn shell(&self, command: &str, output: &Path) -> Child {
        let binary = Path::new(env!("CARGO_BIN_EXE_spawnery"));
        let binaries = binary.parent().expect("the binary is in a folder").display();
        let path = std::env::var("PATH").unwrap_or_default();
        let file = File::create(output).expect("a file for the output");
        let errors = file.try_clone().expect("a second handle");
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).env_clear().current_dir(self.folder.path());
        shell.env("PATH", format!("{binaries}:{path}")).env("HOME", self.folder.path());
        shell.env("SPAWNERY_LISTEN", format!("127.0.0.1:{}", self.port));
        shell.env("SPAWNERY_DATA", self.folder.path().join("data"));
        shell.stdin(Stdio::null()).stdout(file).stderr(errors).process_group(0);
        shell.spawn().expect("there is a shell")
    }
}

fn judge(output: &Path, expected: &[String]) -> (String, bool) {
    let bytes = fs::read(output).unwrap_or_default();
    let printed = String::from_utf8_lossy(&bytes).into_owned();
    let lines: Vec<&str> = printed.lines().collect();
    let is_right = fits(expected, &lines);
    (printed, is_right)
}

impl Drop for Tour {
    fn drop(&mut self) {
        for (child, _) in &mut self.background {
            let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
            // It may have ended by itself.
            let _ = pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::INT));
            let _ = child.wait();
        }
        let launcher = self.folder.path().join("data/agent/launcher");
        if let Ok(mut client) = spawnery_sandbox::client::Client::connect(&launcher) {
            let stop = spawnery_sandbox::protocol::Request::Shutdown { stop_all: true };
            let _ = client.request(stop);
        }
    }
}

#[test]
fn only_console_blocks_are_steps() {
    let text = "a\n```sh\n$ no\n```\n```console\n$ one\nout\n\n$ two\n```\n$ no\n";
    let step = |line, command: &str, expected: &[&str]| Step {
        line,
        command: command.to_owned(),
        expected: expected.iter().map(|line| (*line).to_owned()).collect(),
    };
    assert_eq!(steps(text), [step(6, "one", &["out", ""]), step(9, "two", &[])]);
}

#[test]
fn an_ellipsis_stands_for_anything() {
    let check = |expected: &str, printed: &str, is_right: bool| {
        let lines: Vec<String> = expected.lines().map(str::to_owned).collect();
        let printed: Vec<&str> = printed.lines().collect();
        assert_eq!(fits(&lines, &printed), is_right, "{expected:?} {printed:?}");
    };
    check("a\nb", "a\nb", true);
    check("a", "a\nb", false);
    check("a\n…", "a\nb\nc", true);
    check("…\nc", "a\nb\nc", true);
    check("…\nc", "a\nb", false);
    check("a … c …", "a b c d", true);
    check("a…c", "abd", false);
    check("a  b", "a    b", true);
    check("", "", true);
}
