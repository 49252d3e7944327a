//! What a root filesystem is made of: the recipe, and the lock that pins it.

use crate::id::Name;
use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// A recipe for a root filesystem. Its steps are carried out in the order of the fields.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Environment {
    /// What people call it, if the manifest names it.
    #[n(0)]
    pub name: Option<Name>,
    /// What everything else is put onto.
    #[n(1)]
    pub base: Base,
    /// Packages of Debian: a name, or `NAME=VERSION`.
    #[n(2)]
    pub apt: Vec<String>,
    /// A Python virtual environment.
    #[n(3)]
    pub python: Option<Python>,
    /// A checkout of a git repository.
    #[n(4)]
    pub source: Option<Source>,
    /// Files and folders from beside the manifest.
    #[n(5)]
    pub files: Vec<EnvironmentFile>,
    /// Shell commands that are run in the sandbox, in order, where the source is, if there is one.
    #[n(6)]
    pub build: Vec<String>,
    /// Whether the commands of `build` may reach the network.
    #[n(7)]
    pub build_network: bool,
    /// What pins everything that the recipe leaves open.
    #[n(8)]
    pub lock: Option<EnvironmentLock>,
}

impl Environment {
    /// What it takes from beside the manifest.
    pub fn locals(&self) -> impl Iterator<Item = &Local> {
        let base = match &self.base {
            Base::ImageFile(local) | Base::Directory(local) => Some(local),
            Base::Host | Base::Image { .. } | Base::Debian { .. } => None,
        };
        let requirements = self.python.as_ref().and_then(|it| it.requirements.as_ref());
        base.into_iter().chain(requirements).chain(self.files.iter().map(|it| &it.from))
    }

    /// The secrets that building it needs.
    pub fn secrets(&self) -> impl Iterator<Item = &Name> {
        let image = match &self.base {
            Base::Image { credentials, .. } => credentials.as_ref(),
            _ => None,
        };
        let python = self.python.as_ref().and_then(|it| it.credentials.as_ref());
        let source = self.source.as_ref().and_then(|it| it.credentials.as_ref());
        image.into_iter().chain(python).chain(source)
    }
}

/// What an environment is put onto.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Base {
    /// A read-only view of the node's system folders.
    #[n(0)]
    Host,
    /// An OCI image of a registry.
    #[n(1)]
    Image {
        /// As given to other tools: `debian:bookworm`, `registry.example.org/team/app@sha256:…`.
        #[n(0)]
        reference: String,
        /// The secret that holds `user:password` or a token for the registry.
        #[n(1)]
        credentials: Option<Name>,
    },
    /// An OCI layout or an archive of `docker save`, from beside the manifest.
    #[n(2)]
    ImageFile(#[n(0)] Local),
    /// A minimal system made of Debian's packages.
    #[n(3)]
    Debian {
        /// Such as `bookworm`.
        #[n(0)]
        suite: String,
    },
    /// A folder from beside the manifest that is a whole root filesystem.
    #[n(4)]
    Directory(#[n(0)] Local),
}

/// A file or folder from beside the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Local {
    /// Where it is, relative to the manifest.
    #[n(0)]
    pub path: String,
    /// The digest of its tree listing (see the crate `environment`), once the client has sent it.
    #[n(1)]
    pub tree: Option<ContentDigest>,
}

/// A file or folder from beside the manifest, and where it is put.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct EnvironmentFile {
    /// What is taken.
    #[n(0)]
    pub from: Local,
    /// Absolute path in the environment.
    #[n(1)]
    pub to: String,
    /// Whether it must be a folder (`directories`); else it must be a file (`files`).
    #[n(2)]
    pub directory: bool,
}

/// A Python virtual environment, at `/opt/venv`, first in `PATH`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Python {
    /// Such as `3.11`; without, what the base has.
    #[n(0)]
    pub version: Option<String>,
    /// Requirements, such as `requests>=2.31`.
    #[n(1)]
    pub packages: Vec<String>,
    /// A file of requirements.
    #[n(2)]
    pub requirements: Option<Local>,
    /// The package index; without, the public one.
    #[n(3)]
    pub index: Option<String>,
    /// The secret that holds `user:password` for the index.
    #[n(4)]
    pub credentials: Option<Name>,
}

/// A checkout of a git repository.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Source {
    /// The repository's URL.
    #[n(0)]
    pub git: String,
    /// What is checked out.
    #[n(1)]
    pub reference: GitReference,
    /// The secret that holds `user:password` or a token, for `https`, or a private key, for `ssh`.
    #[n(2)]
    pub credentials: Option<Name>,
    /// Absolute path in the environment.
    #[n(3)]
    pub to: String,
}

/// What of a repository is checked out.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GitReference {
    /// The repository's own default branch.
    #[n(0)]
    Default,
    /// The head of a branch.
    #[n(1)]
    Branch(#[n(0)] String),
    /// A tag.
    #[n(2)]
    Tag(#[n(0)] String),
    /// A commit, by its full id.
    #[n(3)]
    Commit(#[n(0)] String),
}

/// What a recipe was resolved to. With it, the same recipe gives the same result elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentLock {
    /// The digest of the recipe that was resolved; a lock of another recipe is not used.
    #[n(0)]
    pub recipe: String,
    /// The digest of the image's manifest, `sha256:…`.
    #[n(1)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Every Debian package that is installed for `apt`.
    #[n(2)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apt: Vec<LockedPackage>,
    /// The exact version of the interpreter.
    #[n(3)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python: Option<String>,
    /// Requirements with exact versions and hashes, one a line.
    #[n(4)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requirements: Vec<String>,
    /// The commit of the source, 40 hexadecimal digits.
    #[n(5)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Every Debian package of a base of Debian's packages.
    #[n(6)]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub base: Vec<LockedPackage>,
}

/// One Debian package, pinned.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedPackage {
    /// Its name.
    #[n(0)]
    pub name: String,
    /// Its version.
    #[n(1)]
    pub version: String,
    /// Its architecture.
    #[n(2)]
    pub architecture: String,
    /// The SHA-256 of the package file, hexadecimal.
    #[n(3)]
    pub sha256: String,
}

/// The SHA-256 of some content: 64 lower-case hexadecimal digits.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
#[cbor(transparent)]
pub struct ContentDigest(#[n(0)] String);

/// A text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a digest: expected 64 hexadecimal digits")]
pub struct DigestError {
    text: String,
}

impl ContentDigest {
    /// From the 32 bytes of a SHA-256.
    pub fn from_bytes(bytes: [u8; 32]) -> ContentDigest {
        use std::fmt::Write;
        let mut text = String::with_capacity(64);
        for byte in bytes {
            write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        }
        ContentDigest(text)
    }

    /// The 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ContentDigest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<ContentDigest, DigestError> {
        let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == 64 && text.bytes().all(is_digit) {
            Ok(ContentDigest(text))
        } else {
            Err(DigestError { text })
        }
    }
}

impl std::str::FromStr for ContentDigest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<ContentDigest, DigestError> {
        ContentDigest::try_from(text.to_owned())
    }
}

impl From<ContentDigest> for String {
    fn from(digest: ContentDigest) -> String {
        digest.0
    }
}

impl std::fmt::Display for ContentDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
