//! From where the packages of a Debian base come, and who signs them.

use std::fs;
use std::path::{Path, PathBuf};

use super::Settings;
use super::failure::Failure;
use super::sandboxed::MOUNTS;

/// The keys of Debian's archive, of the package of the same name.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

const ARCHIVE: &str = "http://deb.debian.org/debian";
const SECURITY: &str = "http://deb.debian.org/debian-security";

/// Suites that get new versions at once, so that they have no updates beside them.
const ROLLING: &[&str] = &["sid", "unstable", "testing", "experimental"];

/// A mirror of Debian for one suite.
pub(super) struct Mirror {
    suite: String,
    archive: String,
    /// Of security updates, if there are any for the suite.
    security: Option<String>,
    pub(super) keyring: PathBuf,
}

impl Mirror {
    /// The mirror that is configured, or that the node itself uses.
    pub(super) fn of(settings: &Settings, suite: &str) -> Result<Mirror, Failure> {
        let keyring = settings.debian_keyring.clone().unwrap_or_else(|| KEYRING.into());
        if !keyring.is_file() {
            return Err(Failure::new(format!(
                "there are no keys in {}, by which Debian's packages are checked: install the \
                 package `debian-archive-keyring`",
                keyring.display()
            )));
        }
        let suite = suite.to_owned();
        if let Some(archive) = settings.debian_mirror.clone() {
            return Ok(Mirror { suite, archive, security: None, keyring });
        }
        let own = own_mirrors();
        let ending = |end: &str, otherwise: &str| {
            let found = own.iter().find(|it| it.trim_end_matches('/').ends_with(end));
            found.cloned().unwrap_or_else(|| otherwise.to_owned())
        };
        let security =
            (!ROLLING.contains(&suite.as_str())).then(|| ending("/debian-security", SECURITY));
        Ok(Mirror { archive: ending("/debian", ARCHIVE), suite, security, keyring })
    }

    /// Lines for `sources.list`, signed by this keyring, or by those that the system trusts.
    pub(super) fn sources(&self, keyring: &str) -> String {
        let signed =
            if keyring.is_empty() { String::new() } else { format!("[signed-by={keyring}] ") };
        let Mirror { suite, archive, security, .. } = self;
        let mut lines = vec![format!("deb {signed}{archive} {suite} main")];
        if let Some(security) = security {
            lines.push(format!("deb {signed}{archive} {suite}-updates main"));
            lines.push(format!("deb {signed}{security} {suite}-security main"));
        }
        lines.join("\n")
    }

    /// Where the keyring is mounted.
    pub(super) fn keyring_inside(&self) -> String {
        format!("{MOUNTS}/mirror.gpg")
    }

    /// Whether it is Debian's own, which a base of Debian's packages has anyway.
    pub(super) fn keyring_is_debians(&self) -> bool {
        self.keyring == Path::new(KEYRING)
    }
}

/// The mirrors in the node's own sources of packages. Those that ask for credentials are left out.
fn own_mirrors() -> Vec<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    let more = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten();
    files.extend(more.map(|entry| entry.path()));
    files.sort();
    let texts = files.iter().filter_map(|file| fs::read_to_string(file).ok());
    texts.flat_map(|text| mirrors_in(&text)).collect()
}

/// The URLs of a file of sources, in either of its forms (`sources.list(5)`).
fn mirrors_in(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| {
        let line = line.trim_start();
        line.starts_with("deb ") || line.starts_with("deb\t") || line.starts_with("URIs:")
    });
    lines
        .flat_map(str::split_whitespace)
        .filter(|word| word.starts_with("http://") || word.starts_with("https://"))
        .filter(|word| !word.contains('@'))
        .map(|word| word.trim_end_matches('/').to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_found_in_both_forms() {
        let text = "# deb http://old.example.org/debian x main\n\
                    deb [signed-by=/k] https://a.example.org/debian/ bookworm main\n\
                    Types: deb\nURIs: http://b.example.org/debian http://c.example.org/x\n\
                    deb http://user:word@d.example.org/debian bookworm main\n";
        assert_eq!(
            mirrors_in(text),
            [
                "https://a.example.org/debian",
                "http://b.example.org/debian",
                "http://c.example.org/x"
            ]
        );
    }

    #[test]
    fn a_configured_mirror_is_all_that_is_used() {
        let keyring = std::env::current_exe().expect("this file");
        let settings = Settings {
            debian_mirror: Some("http://127.0.0.1:80/d".into()),
            debian_keyring: Some(keyring),
            ..Settings::default()
        };
        let mirror = Mirror::of(&settings, "bookworm").expect("usable");
        assert_eq!(mirror.sources("/k"), "deb [signed-by=/k] http://127.0.0.1:80/d bookworm main");
        assert_eq!(mirror.sources(""), "deb http://127.0.0.1:80/d bookworm main");
    }

    #[test]
    fn stable_suites_have_updates_and_rolling_ones_none() {
        let keyring = std::env::current_exe().ok();
        let settings = Settings { debian_keyring: keyring, ..Settings::default() };
        let lines = |suite| {
            let mirror = Mirror::of(&settings, suite).expect("usable");
            mirror.sources("").lines().count()
        };
        assert_eq!((lines("bookworm"), lines("sid")), (3, 1));
    }
}
