//! What the tests share: images made by hand, and a registry of their own.
#![allow(dead_code)] // Each test program uses a part.

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use spawnery_environment::content::digest_of;
use spawnery_environment::oci::platform::ARCHITECTURE;
use spawnery_environment::{LayerDraft, Store};
use tar::{EntryType, Header};

/// Generous: a busy machine must not fail a test.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Who may pull and push.
pub const CREDENTIALS: &str = "ann:open sesame";

/// The line of `htpasswd` for [`CREDENTIALS`], by bcrypt.
const PASSWORD_LINE: &str = "ann:$2b$04$jeRnvmjuwZXDaFmXu/8KseGc.fWt9Uby4eY9RA5PKFhec9vsZ5XB6\n";

/// The user of the images that have one.
const USER_LINE: &str = "web:x:33:44::/srv:/bin/sh\n";

/// A layer's archive.
#[derive(Default)]
pub struct Archive(Vec<u8>);

impl Archive {
    pub fn entry(
        mut self,
        kind: EntryType,
        path: &str,
        link: &str,
        mode: u32,
        data: &[u8],
    ) -> Self {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_size(data.len() as u64);
        header.set_cksum();
        self.0.extend(header.as_bytes());
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(self, path: &str, data: &[u8]) -> Self {
        self.entry(EntryType::Regular, path, "", 0o644, data)
    }

    pub fn folder(self, path: &str) -> Self {
        self.entry(EntryType::Directory, path, "", 0o755, b"")
    }

    pub fn link(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, path, target, 0o777, b"")
    }

    pub fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Link, path, target, 0o644, b"")
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

/// How layers are packed in an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    None,
    Gzip,
    Zstd,
}

impl Packing {
    pub fn pack(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Packing::None => bytes.to_vec(),
            Packing::Zstd => zstd::encode_all(bytes, 1).expect("packed"),
            Packing::Gzip => {
                let level = flate2::Compression::fast();
                let mut to = flate2::write::GzEncoder::new(Vec::new(), level);
                to.write_all(bytes).expect("packed");
                to.finish().expect("packed")
            }
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Packing::None => "",
            Packing::Gzip => "+gzip",
            Packing::Zstd => "+zstd",
        }
    }
}

/// A busybox root in two layers, the second of which hides a file of the first.
pub fn busybox_layers() -> Vec<(Vec<u8>, Packing)> {
    let busybox = fs::read("/usr/bin/busybox").expect("the package busybox-static is there");
    let base = Archive::default()
        .folder("./")
        .folder("bin/")
        .entry(EntryType::Regular, "bin/busybox", "", 0o755, &busybox)
        .hard_link("bin/sh", "bin/busybox")
        .link("bin/echo", "busybox")
        .folder("etc/")
        .file("etc/passwd", USER_LINE.as_bytes())
        .file("etc/group", b"root:x:0:\nweb:x:44:\nlog:x:5:web\n")
        .file("etc/hidden", b"hidden by the next layer")
        .end();
    let top = Archive::default()
        .folder("srv/")
        .file("srv/hello", b"hello from the image\n")
        .file("etc/.wh.hidden", b"")
        .hard_link("bin/cat", "bin/busybox")
        .end();
    vec![(base, Packing::Gzip), (top, Packing::Zstd)]
}

/// Writes an image as an OCI image layout with the tag `latest`.
pub fn write_layout(folder: &Path, layers: &[(Vec<u8>, Packing)]) {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("made");
    let put = |bytes: &[u8]| {
        let digest = digest_of(bytes);
        fs::write(blobs.join(digest.as_str()), bytes).expect("written");
        format!(r#""digest":"sha256:{digest}","size":{}"#, bytes.len())
    };
    let diff_ids: Vec<String> =
        layers.iter().map(|(archive, _)| format!(r#""sha256:{}""#, digest_of(archive))).collect();
    let has_user = layers[0].0.windows(USER_LINE.len()).any(|it| it == USER_LINE.as_bytes());
    let user = if has_user { "web" } else { "" };
    let config = format!(
        r#"{{"architecture":"{ARCHITECTURE}","os":"linux","config":{{"Env":["PATH=/bin","A=b=c"],
        "Entrypoint":["/bin/sh","-c"],"Cmd":["cat /srv/hello"],"User":"{user}","WorkingDir":"/srv",
        "ExposedPorts":{{"8080/tcp":{{}}}},"StopSignal":"SIGINT"}},
        "rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        diff_ids.join(",")
    );
    let layers: Vec<String> = layers
        .iter()
        .map(|(archive, packing)| {
            let media = format!("application/vnd.oci.image.layer.v1.tar{}", packing.suffix());
            format!(r#"{{"mediaType":"{media}",{}}}"#, put(&packing.pack(archive)))
        })
        .collect();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
        "config":{{"mediaType":"application/vnd.oci.image.config.v1+json",{}}},"layers":[{}]}}"#,
        put(config.as_bytes()),
        layers.join(",")
    );
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{
        "mediaType":"application/vnd.oci.image.manifest.v1+json",{},
        "annotations":{{"org.opencontainers.image.ref.name":"latest"}}}}]}}"#,
        put(manifest.as_bytes())
    );
    fs::write(folder.join("index.json"), index).expect("written");
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("written");
}

/// A registry on this machine's loopback, for one test.
pub struct Registry {
    pub dir: tempfile::TempDir,
    pub host: String,
    child: Child,
}

impl Registry {
    pub fn start() -> Registry {
        let until = Instant::now() + DEADLINE;
        loop {
            let dir = tempfile::tempdir().expect("a folder");
            let host = format!("127.0.0.1:{}", free_port());
            let child = run(dir.path(), &host);
            let mut registry = Registry { dir, host, child };
            if registry.answers(until) {
                return registry;
            }
            // Somebody else took the port meanwhile.
            assert!(Instant::now() < until, "the registry does not start");
        }
    }

    fn answers(&mut self, until: Instant) -> bool {
        while Instant::now() < until {
            if self.child.try_wait().expect("its state").is_some() {
                return false;
            }
            if TcpStream::connect(&self.host).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    /// Pushes an OCI image layout.
    pub fn push(&self, layout: &Path, name: &str) {
        let from = format!("oci:{}:latest", layout.display());
        let to = format!("docker://{}/{name}", self.host);
        skopeo(&["--dest-tls-verify=false", "--dest-creds", CREDENTIALS, &from, &to]);
    }

    /// Where the registry keeps some content.
    pub fn blob(&self, digest: &str) -> PathBuf {
        let blobs = self.dir.path().join("data/docker/registry/v2/blobs/sha256");
        blobs.join(&digest[..2]).join(digest).join("data")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Copies an image.
pub fn skopeo(arguments: &[&str]) {
    let output = Command::new("skopeo")
        .args(["--insecure-policy", "copy", "--quiet", "--preserve-digests"])
        .args(arguments)
        .output()
        .expect("skopeo runs");
    assert!(output.status.success(), "skopeo: {}", String::from_utf8_lossy(&output.stderr));
}

pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    listener.local_addr().expect("an address").port()
}

fn run(dir: &Path, host: &str) -> Child {
    let dir_text = dir.display();
    let config = format!(
        "version: 0.1\nlog: {{level: error}}\n\
         storage: {{filesystem: {{rootdirectory: {dir_text}/data}}}}\n\
         http: {{addr: '{host}'}}\n\
         auth: {{htpasswd: {{realm: test, path: {dir_text}/htpasswd}}}}\n"
    );
    fs::write(dir.join("config.yml"), config).expect("written");
    fs::write(dir.join("htpasswd"), PASSWORD_LINE).expect("written");
    Command::new("docker-registry")
        .arg("serve")
        .arg(dir.join("config.yml"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the package docker-registry is there")
}

/// Checks that nothing half made is in a store.
pub fn assert_no_trace(store: &Store) {
    for name in ["building", "layers", "content/incoming"] {
        let folder = store.folder().join(name);
        let names: Vec<_> =
            fs::read_dir(&folder).expect("listed").map(|it| it.expect("one").file_name()).collect();
        assert!(names.is_empty(), "{name} has {names:?}");
    }
}

/// Fills a draft with some files.
pub fn fill(draft: &LayerDraft, count: usize) {
    for number in 0..count {
        fs::write(draft.root().join(number.to_string()), [7; 4096]).expect("written");
    }
}
