//! Servers on loopback that environments are fetched from, and images for them.

use crate::support::{Home, wait_for};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// Who may pull from the registry.
pub const CREDENTIALS: &str = "ann:open sesame";

/// The line of `htpasswd` for them, by bcrypt.
const PASSWORD_LINE: &str = "ann:$2b$04$jeRnvmjuwZXDaFmXu/8KseGc.fWt9Uby4eY9RA5PKFhec9vsZ5XB6\n";

/// A server that ends with the test.
pub struct Served {
    pub port: u16,
    child: Child,
    _dir: TempDir,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One of the programs of the environments' own tests, which writes its port first.
fn serve(program: &str, folder: &Path, dir: TempDir) -> Served {
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../environment/tests/programs");
    let mut command = Command::new("/usr/bin/python3");
    command.arg(programs.join(program)).arg(folder);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("python3 is there");
    let mut line = String::new();
    let output = child.stdout.take().expect("a pipe");
    BufReader::new(output).read_line(&mut line).expect("a line");
    Served { port: line.trim().parse().expect("a port"), child, _dir: dir }
}

/// An index with the packages `spawn-alpha` and `spawn-beta`.
pub fn package_index() -> Served {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path().to_owned();
    serve("index_server.py", &folder, dir)
}

/// The repositories of a folder, by git's own server program.
pub fn git_server(folder: &Path) -> Served {
    serve("git_server.py", folder, tempfile::tempdir().expect("a folder"))
}

/// A registry that asks for [`CREDENTIALS`].
pub fn registry() -> Served {
    let dir = tempfile::tempdir().expect("a folder");
    let port = free_port();
    let place = dir.path().display();
    let config = format!(
        "version: 0.1\nlog: {{level: error}}\n\
         storage: {{filesystem: {{rootdirectory: {place}/data}}}}\n\
         http: {{addr: '127.0.0.1:{port}'}}\n\
         auth: {{htpasswd: {{realm: test, path: {place}/htpasswd}}}}\n"
    );
    let file = dir.path().join("config.yml");
    fs::write(&file, config).expect("written");
    fs::write(dir.path().join("htpasswd"), PASSWORD_LINE).expect("written");
    let mut command = Command::new("docker-registry");
    command.arg("serve").arg(file).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().expect("the package docker-registry is there");
    let served = Served { port, child, _dir: dir };
    wait_for("the registry", || TcpStream::connect(("127.0.0.1", port)).ok());
    served
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    listener.local_addr().expect("an address").port()
}

/// Makes an image in the folder `name` of a home: see `programs/image.py`.
pub fn image(home: &Home, name: &str, what: &str) -> PathBuf {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/image.py");
    let folder = home.path(name);
    let mut command = Command::new("/usr/bin/python3");
    let status = command.arg(program).arg(&folder).arg(what).status().expect("python3 is there");
    assert!(status.success());
    folder
}

/// Pushes an image to a registry.
pub fn push(layout: &Path, registry: &Served, name: &str) {
    let from = format!("oci:{}:latest", layout.display());
    let to = format!("docker://127.0.0.1:{}/{name}", registry.port);
    run(
        "skopeo",
        &[
            "--insecure-policy",
            "copy",
            "--quiet",
            "--dest-tls-verify=false",
            "--dest-creds",
            CREDENTIALS,
            &from,
            &to,
        ],
    );
}

/// Runs another program to its good end, and gives its output.
#[track_caller]
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect(program);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The option for the `uv` that `cargo xtask test` has put into the build folder, if there is none
/// on the `PATH`.
pub fn uv() -> Vec<String> {
    let here = std::env::current_exe().expect("our own path");
    let found = here.ancestors().nth(3).expect("a build folder").join("tools/uv/bin/uv");
    match found.is_file() {
        true => vec!["--uv".to_owned(), found.display().to_string()],
        false => Vec::new(),
    }
}
