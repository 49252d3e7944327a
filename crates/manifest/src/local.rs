//! Files and folders beside the manifest, which an environment takes over.

use crate::Manifest;
use crate::error::{ManifestError, ManifestErrors, Problem, printable, quoted};
use crate::place::{Lines, Span};
use crate::reader::{Field, Reader};
use crate::schema;
use crate::tree::{Node, Value};
use spawnery_model::{Base, ContentDigest, Environment, Local};
use std::collections::BTreeMap;

/// A file or folder that an environment of the manifest takes over, and that is still to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalPath {
    /// Where it is, from the manifest's folder; absolute paths and `..` are allowed.
    pub path: String,
    /// What it must be.
    pub kind: LocalKind,
    /// The place in the manifest, for an error about it; found and expected are empty.
    place: ManifestError,
}

/// What a path beside the manifest must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LocalKind {
    /// A file.
    File,
    /// A folder.
    Folder,
    /// Either: an image is a folder or an archive.
    Either,
}

impl LocalKind {
    fn expected(self) -> &'static str {
        match self {
            LocalKind::File => "a readable file",
            LocalKind::Folder => "a readable folder",
            LocalKind::Either => "a readable file or folder",
        }
    }
}

/// A path beside the manifest, while its place is still a span.
pub(crate) struct LocalDraft {
    path: String,
    kind: LocalKind,
    field: String,
    span: Span,
}

impl LocalPath {
    pub(crate) fn of(draft: LocalDraft, lines: &Lines<'_>) -> LocalPath {
        let place = ManifestError::at(lines.place(draft.span), draft.field);
        LocalPath { path: draft.path, kind: draft.kind, place }
    }
}

impl Manifest {
    /// Puts in the digests of the trees of all files and folders beside the manifest. `read`
    /// finds the digest of one, or says why it cannot; it is asked once for each place that names
    /// it.
    pub fn with_trees(
        mut self,
        mut read: impl FnMut(&LocalPath) -> Result<ContentDigest, String>,
    ) -> Result<Manifest, ManifestErrors> {
        let mut digests = BTreeMap::new();
        let mut errors = Vec::new();
        for local in std::mem::take(&mut self.locals) {
            match read(&local) {
                Ok(digest) => {
                    digests.insert(local.path, digest);
                }
                Err(reason) => errors.push(ManifestError {
                    found: printable(&format!("cannot read `{}`: {reason}", local.path)),
                    expected: local.kind.expected().to_owned(),
                    ..local.place
                }),
            }
        }
        if !errors.is_empty() {
            errors.sort_by_key(|error| (error.line, error.column));
            return Err(ManifestErrors::from_errors(errors));
        }
        for environment in self.environments_mut() {
            for local in locals_of(environment) {
                if let (None, Some(digest)) = (&local.tree, digests.get(&local.path)) {
                    local.tree = Some(digest.clone());
                }
            }
        }
        Ok(self)
    }
}

/// All that an environment takes from beside the manifest.
fn locals_of(environment: &mut Environment) -> impl Iterator<Item = &mut Local> {
    let base = match &mut environment.base {
        Base::ImageFile(local) | Base::Directory(local) => Some(local),
        Base::Host | Base::Image { .. } | Base::Debian { .. } => None,
    };
    let python = environment.python.as_mut();
    let requirements = python.and_then(|python| python.requirements.as_mut());
    let files = environment.files.iter_mut().map(|file| &mut file.from);
    base.into_iter().chain(requirements).chain(files)
}

/// The schema of a path beside the manifest.
pub(crate) fn json_schema(example: &str) -> serde_json::Value {
    let map = schema::object(&[LOCAL_FIELDS], &["path"]);
    schema::any_of(&[schema::text_like(example), map])
}

#[derive(Default)]
struct SentDraft {
    path: Option<String>,
    tree: Option<ContentDigest>,
}

const LOCAL_FIELDS: &[Field<SentDraft>] = &[
    Field {
        name: "path",
        doc: "Where it is, from the manifest's folder.",
        schema: schema::text,
        read: |reader, node, draft| draft.path = path(reader, node),
    },
    Field {
        name: "tree",
        doc: "The digest of what is there, once it was sent to the server.",
        schema: schema::text,
        read: |reader, node, draft| draft.tree = digest(reader, node),
    },
];

/// Reads a path beside the manifest; one that is not sent yet is added to `locals`.
pub(crate) fn local(
    reader: &mut Reader,
    node: &Node,
    kind: LocalKind,
    locals: &mut Vec<LocalDraft>,
) -> Option<Local> {
    let mut draft = SentDraft::default();
    match &node.value {
        Value::Map(_) => {
            let is_right = reader.fields(node, &[LOCAL_FIELDS], |_| None, &mut draft);
            if draft.path.is_none() && is_right {
                reader.report(Problem::new(node.span, "no `path`", "`path`, and maybe `tree`"));
            }
        }
        _ => draft.path = path(reader, node),
    }
    let path = draft.path?;
    if draft.tree.is_none() {
        let field = reader.field();
        locals.push(LocalDraft { path: path.clone(), kind, field, span: node.span });
    }
    Some(Local { path, tree: draft.tree })
}

fn path(reader: &mut Reader, node: &Node) -> Option<String> {
    let expected = "a path from the manifest's folder, such as ./app";
    let text = reader.text(node, expected)?;
    let problem = match text {
        _ if text.trim().is_empty() => Problem::new(node.span, "found empty text", expected),
        _ if text.contains('\0') => Problem::new(node.span, "a NUL character in a path", expected),
        _ if text.starts_with('~') => {
            let found = format!("{} with a `~`, which only shells know", quoted(text));
            Problem::new(node.span, found, expected).hint("write the path out")
        }
        _ => return Some(text.to_owned()),
    };
    reader.report(problem);
    None
}

/// Reads the SHA-256 of some content.
pub(crate) fn digest(reader: &mut Reader, node: &Node) -> Option<ContentDigest> {
    let expected = "64 hexadecimal digits in lower case";
    let text = reader.text(node, expected)?;
    match text.parse() {
        Ok(digest) => Some(digest),
        Err(_) => reader.wrong(node, expected),
    }
}
