//! The step of a Python environment: made by `uv`, in the sandbox, with pinned and hashed versions.
//!
//! A source distribution runs code of its own when it is built. So wheels alone are tried first,
//! with the node's cache, into which no foreign code can write then; only if that is not enough,
//! distributions are built, with an empty cache that is thrown away.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use spawnery_model::Python;
use spawnery_sandbox::spec::SandboxSpec;

use super::capture::capture;
use super::failure::Failure;
use super::files;
use super::sandboxed::{MOUNTS, Work, at, give, how_it_ended, mount, read_result};
use crate::layer::{Layer, LayerDraft};
use crate::recipe::{self, REQUIREMENTS_BYTES_MAX};

/// Where the environment is.
pub(super) const VENV: &str = "/opt/venv";

/// Largest answer of the resolver, in bytes.
const RESOLVED_BYTES_MAX: usize = 16 << 20;

/// Exit code of the scripts here if there is no interpreter.
const NO_INTERPRETER: i32 = 97;

/// Finds the interpreter that is wanted, by a name such as `python3.11`, and writes its exact
/// version; then resolves.
const RESOLVE: &str = r#"set -eu
python=$(command -v "$PYTHON") || exit 97
"$python" -I -S -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' > "$OUT/version"
case "$(cat "$OUT/version")" in "$VERSION"|"$VERSION".*) ;; *) [ -z "$VERSION" ] || exit 97;; esac
"$UV" pip compile --quiet --no-config --no-header --no-annotate --generate-hashes \
    --no-python-downloads --python "$python" $BUILD --output-file "$OUT/requirements" "$OUT/wanted"
"#;

/// Makes the environment. What uv writes of itself is taken out: its version, and times.
const INSTALL: &str = r#"set -eu
umask 022
python=$(command -v "$PYTHON") || exit 97
"$python" -I -S -c 'import os, sys
wanted, have = os.environ["VERSION"], "%d.%d.%d" % sys.version_info[:3]
if wanted != have:
    print("the interpreter is", have, "but the lock says", wanted)
    sys.exit(97)'
"$UV" venv --quiet --no-config --no-project --no-python-downloads --python "$python" "$VENV"
"$UV" pip install --quiet --no-config --no-python-downloads --python "$VENV" --require-hashes \
    --no-deps $BUILD --requirements "$REQUIREMENTS"
"$VENV/bin/python" -I -S -c 'import os, glob
venv = os.environ["VENV"]
path = venv + "/pyvenv.cfg"
lines = [line for line in open(path) if not line.startswith("uv =")]
open(path, "w").writelines(lines)
for name in glob.glob(venv + "/lib*/python*/site-packages/*.dist-info/uv_cache.json"):
    os.unlink(name)
    record = os.path.dirname(name) + "/RECORD"
    lines = [line for line in open(record) if "/uv_cache.json," not in line]
    open(record, "w").writelines(lines)'
"#;

/// What a Python environment is resolved to.
pub(super) struct Resolved {
    pub(super) version: String,
    pub(super) requirements: Vec<String>,
}

/// Finds out the exact versions, with the interpreter that the layers below have.
pub(super) fn resolve(work: &Work<'_>, python: &Python) -> Result<Resolved, Failure> {
    let wanted = wanted(work, python)?;
    let (_scratch, shared) = work.scratch(work.user())?;
    let list = shared.join("wanted");
    fs::write(&list, wanted).map_err(|error| at("write", &list, &error))?;
    let out = format!("{MOUNTS}/out");
    let prepare = |spec: &mut SandboxSpec| {
        mount(spec, &shared, &out, false);
        spec.env.push(("OUT".to_owned(), out.clone()));
        spec.env.push(("VERSION".to_owned(), python.version.clone().unwrap_or_default()));
    };
    let run = Run { work, python, version: python.version.as_deref(), script: RESOLVE };
    drop(run.run(&prepare)?);
    let text = |name: &str| {
        let bytes = read_result(&shared, name, RESOLVED_BYTES_MAX)?;
        String::from_utf8(bytes).map_err(Failure::of)
    };
    let version = text("version")?.trim().to_owned();
    Ok(Resolved { version, requirements: join_lines(&text("requirements")?) })
}

/// Makes a layer with the environment.
pub(super) fn install(
    work: &Work<'_>,
    draft: LayerDraft,
    python: &Python,
    version: &str,
    requirements: &[String],
) -> Result<Layer, Failure> {
    let (_scratch, shared) = work.scratch(work.user())?;
    let list = shared.join("requirements.txt");
    let mut text = requirements.join("\n");
    text.push('\n');
    fs::write(&list, text).map_err(|error| at("write", &list, &error))?;
    let inside = format!("{MOUNTS}/requirements.txt");
    let prepare = |spec: &mut SandboxSpec| {
        mount(spec, &list, &inside, true);
        spec.env.push(("REQUIREMENTS".to_owned(), inside.clone()));
        spec.env.push(("VENV".to_owned(), VENV.to_owned()));
        spec.env.push(("VERSION".to_owned(), version.to_owned()));
    };
    let run = Run { work, python, version: Some(version), script: INSTALL };
    let ended = run.run(&prepare)?;
    let kept = ended.layer.clone().ok_or_else(|| Failure::new("the sandbox kept no layer"))?;
    capture(draft, &kept, &[], &work.output.finish())
}

/// The requirements of a recipe, one a line.
fn wanted(work: &Work<'_>, python: &Python) -> Result<String, Failure> {
    let mut lines = python.packages.clone();
    if let Some(local) = &python.requirements {
        let bytes = files::file_of(work, local, REQUIREMENTS_BYTES_MAX)?;
        let text = String::from_utf8(bytes)
            .map_err(|_| Failure::new(format!("`{}` is not text", local.path)))?;
        lines.extend(join_lines(&text));
    }
    for line in &lines {
        let option_free = line.split(" --hash=").next().unwrap_or_default();
        recipe::check_requirement(option_free).map_err(Failure::new)?;
    }
    lines.push(String::new());
    Ok(lines.join("\n"))
}

/// The lines of a file of requirements: continued ones joined, comments and empty ones left out.
fn join_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = String::new();
    for line in text.lines() {
        // As pip does: a comment begins a line, or follows a space.
        let line = match line.find(" #") {
            _ if line.trim_start().starts_with('#') => "",
            Some(at) => &line[..at],
            None => line,
        };
        let (part, continues) = match line.trim_end().strip_suffix('\\') {
            Some(part) => (part, true),
            None => (line, false),
        };
        if !part.trim().is_empty() {
            if !open.is_empty() {
                open.push(' ');
            }
            open.push_str(part.trim());
        }
        if !continues && !open.is_empty() {
            lines.push(std::mem::take(&mut open));
        }
    }
    lines.extend(Some(open).filter(|open| !open.is_empty()));
    lines
}

/// One of the scripts, with what both need.
struct Run<'a> {
    work: &'a Work<'a>,
    python: &'a Python,
    version: Option<&'a str>,
    script: &'a str,
}

impl Run<'_> {
    /// Runs it with wheels alone, and if that fails again with distributions that are built.
    fn run(&self, prepare: &dyn Fn(&mut SandboxSpec)) -> Result<super::executor::Ended, Failure> {
        let uv = find_uv(self.work.settings.uv.as_deref())?;
        let mut builds = false;
        loop {
            let mut spec = self.spec(&uv, builds)?;
            prepare(&mut spec);
            let ended = self.work.run(spec)?;
            let Some(how) = how_it_ended(&ended) else { return Ok(ended) };
            if ended.exit.code == Some(NO_INTERPRETER) {
                let wanted = self.version.map_or_else(String::new, |it| format!(" {it}"));
                return Err(self.work.failed(format!(
                    "the base has no Python{wanted}: add `python3` to `packages.apt`, choose \
                     an image that has it, or ask for another version and lock again"
                )));
            }
            let output = self.work.output.finish();
            if builds || !needs_build(&output) {
                return Err(self.work.failed(format!("uv {how}")));
            }
            self.work.output.write(b"[no wheels for all packages: building the others]\n");
            builds = true;
        }
    }

    fn spec(&self, uv: &Path, builds: bool) -> Result<SandboxSpec, Failure> {
        let work = self.work;
        let mut spec = work.spec(["/bin/sh", "-c", self.script]);
        spec.network = if builds { work.settings.network } else { work.fetch_network() };
        let inside = format!("{MOUNTS}/uv");
        mount(&mut spec, uv, &inside, true);
        let name = self.version.map_or("python3".to_owned(), |version| {
            // `3.11.2` is found as `python3.11`.
            let short: Vec<&str> = version.split('.').take(2).collect();
            format!("python{}", short.join("."))
        });
        let mut set = vec![
            ("UV", inside),
            ("PYTHON", name),
            ("BUILD", if builds { "" } else { "--no-build" }.to_owned()),
            ("UV_LINK_MODE", "copy".to_owned()),
            ("UV_NO_PROGRESS", "1".to_owned()),
            ("UV_PYTHON_PREFERENCE", "only-system".to_owned()),
            ("UV_KEYRING_PROVIDER", "disabled".to_owned()),
        ];
        let cache = format!("{MOUNTS}/cache");
        set.push(("UV_CACHE_DIR", cache.clone()));
        if !builds {
            mount(&mut spec, &self.cache()?, &cache, false);
        }
        if let Some(index) = self.index() {
            set.push(("UV_DEFAULT_INDEX", format!("recipe={index}")));
        }
        spec.env.extend(set.into_iter().map(|(name, value)| (name.to_owned(), value)));
        if let Some((user, password)) = self.credentials()? {
            let secret = spec.secret_env.get_or_insert_default();
            secret.push(("UV_INDEX_RECIPE_USERNAME".to_owned(), user));
            secret.push(("UV_INDEX_RECIPE_PASSWORD".to_owned(), password));
        }
        Ok(spec)
    }

    fn index(&self) -> Option<&str> {
        self.python.index.as_deref().or(self.work.settings.python_index.as_deref())
    }

    fn credentials(&self) -> Result<Option<(String, String)>, Failure> {
        let Some(name) = &self.python.credentials else { return Ok(None) };
        let secret = self.work.secrets.text(name).map_err(Failure::new)?;
        Ok(Some(match secret.split_once(':') {
            Some((user, password)) => (user.to_owned(), password.to_owned()),
            // What PyPI and its likes expect with a token.
            None => ("__token__".to_owned(), secret),
        }))
    }

    /// The node's cache for this index as this user sees it: who has no credentials gets nothing
    /// that was fetched with them.
    fn cache(&self) -> Result<PathBuf, Failure> {
        let mut hash = Sha256::new();
        hash.update(self.work.user().to_le_bytes());
        hash.update(self.index().unwrap_or_default());
        if let Some((user, password)) = self.credentials()? {
            hash.update(format!("\0{user}\0{password}"));
        }
        let digits: String =
            hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let folder = self.work.store.folder().join("cache/uv").join(digits);
        fs::create_dir_all(&folder).map_err(|error| at("make", &folder, &error))?;
        give(&folder, self.work.user())?;
        Ok(folder)
    }
}

/// Whether uv says that it would have to build something.
fn needs_build(output: &[u8]) -> bool {
    let text = String::from_utf8_lossy(output);
    ["--no-build", "no usable wheels", "building source distributions is disabled", "no wheels"]
        .iter()
        .any(|words| text.contains(words))
}

/// The `uv` of the node: as configured, beside this program, or on the `PATH`.
fn find_uv(configured: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(path) = configured {
        if path.is_file() {
            return Ok(path.to_owned());
        }
        let path = path.display();
        return Err(Failure::new(format!("{path}, configured as `uv`, is not a file")));
    }
    let beside = std::env::current_exe().ok().and_then(|it| Some(it.parent()?.join("uv")));
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&paths).map(|folder| folder.join("uv"));
    beside.into_iter().chain(on_path).find(|path| path.is_file()).ok_or_else(|| {
        Failure::new(
            "there is no `uv` on this node, which makes Python environments: install it, for \
             example by `pip install uv`",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_joined_and_comments_left_out() {
        let text = "# made by uv\nsix==1 \\\n    --hash=sha256:a \\\n    --hash=sha256:b\n\
                    \nrequests>=2 # why\nurl#fragment\n  # more\nlast==1 \\\n";
        assert_eq!(
            join_lines(text),
            ["six==1 --hash=sha256:a --hash=sha256:b", "requests>=2", "url#fragment", "last==1",]
        );
    }

    #[test]
    fn a_missing_uv_is_said_with_the_mend() {
        let Err(Failure::Step { reason, .. }) = find_uv(Some(Path::new("/nonexistent/uv"))) else {
            panic!("it is not there");
        };
        assert!(reason.contains("/nonexistent/uv"), "{reason}");
    }
}
