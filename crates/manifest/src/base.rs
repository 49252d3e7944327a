//! The field `base` of a recipe: what an environment is put onto.

use crate::error::{Problem, quoted};
use crate::local::{self, LocalDraft, LocalKind, local};
use crate::place::Span;
use crate::process::checked_name;
use crate::reader::{Field, Reader};
use crate::schema;
use crate::tree::{Node, Value};
use serde_json::{Value as Json, json};
use spawnery_model::{Base, Local, Name};

/// The word for the node's own system folders.
pub(crate) const HOST: &str = "host";

/// Bytes of an image's reference: those that registries take, with room for a host's name.
const REFERENCE_BYTES_MAX: usize = 512;

#[derive(Default)]
struct BaseDraft {
    image: Option<Image>,
    credentials: Option<(Name, Span)>,
    debian: Option<String>,
    directory: Option<Local>,
    /// How many of the three were given, right or wrong.
    given: usize,
    locals: Vec<LocalDraft>,
}

enum Image {
    Reference(String),
    File(Local),
}

const BASE_FIELDS: &[Field<BaseDraft>] = &[
    Field {
        name: "image",
        doc: "An OCI image of a registry (debian:bookworm, registry.example.org/team/app:1.2), or \
              the path of an OCI layout or an archive beside the manifest (./app.tar).",
        schema: || local::json_schema("debian:bookworm"),
        read: |reader, node, draft| {
            draft.given += 1;
            draft.image = image(reader, node, &mut draft.locals);
        },
    },
    Field {
        name: "credentials",
        doc: "The secret that holds USER:PASSWORD or a token for the image's registry.",
        schema: || schema::text_like("registry"),
        read: |reader, node, draft| {
            let name = credentials(reader, node);
            draft.credentials = name.map(|name| (name, node.span));
        },
    },
    Field {
        name: "debian",
        doc: "A minimal system of this Debian release: bookworm.",
        schema: || schema::text_like("bookworm"),
        read: |reader, node, draft| {
            draft.given += 1;
            draft.debian = suite(reader, node);
        },
    },
    Field {
        name: "directory",
        doc: "A folder beside the manifest that is a whole root filesystem.",
        schema: || local::json_schema("./root"),
        read: |reader, node, draft| {
            draft.given += 1;
            draft.directory = local(reader, node, LocalKind::Folder, &mut draft.locals);
        },
    },
];

/// The schema of a base.
pub(crate) fn json_schema() -> Json {
    schema::any_of(&[json!({ "enum": [HOST] }), schema::object(&[BASE_FIELDS], &[])])
}

/// Reads a base.
pub(crate) fn base(reader: &mut Reader, node: &Node, locals: &mut Vec<LocalDraft>) -> Option<Base> {
    const EXPECTED: &str = "`host`, or a map with one of `image`, `debian` and `directory`";
    match &node.value {
        Value::Text(text) if text == HOST => return Some(Base::Host),
        Value::Text(text) => {
            let hint = match text.as_str() {
                _ if text.starts_with(['.', '/']) => format!("write {{directory: {text}}}"),
                "" => "write host".to_owned(),
                _ if text.contains(char::is_whitespace) => "write {image: NAME}".to_owned(),
                _ => format!("write {{image: {text}}}"),
            };
            reader.report(Problem::new(node.span, node.describe(), EXPECTED).hint(hint));
            return None;
        }
        Value::Map(_) => {}
        _ => return reader.wrong(node, EXPECTED),
    }
    let mut draft = BaseDraft::default();
    let is_right = reader.fields(node, &[BASE_FIELDS], |_| None, &mut draft);
    locals.append(&mut draft.locals);
    if !is_right {
        return None;
    }
    if draft.given != 1 {
        let found = match draft.given {
            0 => "a base without a kind",
            _ => "a base of several kinds",
        };
        reader.report(Problem::new(node.span, found, "one of `image`, `debian` and `directory`"));
        return None;
    }
    let is_of_registry = matches!(draft.image, Some(Image::Reference(_)));
    if let (Some((_, span)), false) = (&draft.credentials, is_of_registry) {
        reader.within("credentials", |reader| {
            let found = "credentials for what needs none";
            let expected = "`credentials` beside an `image` of a registry";
            reader.report(Problem::new(*span, found, expected));
        });
    }
    let credentials = draft.credentials.map(|(name, _)| name);
    Some(match (draft.image, draft.debian, draft.directory) {
        (Some(Image::Reference(reference)), ..) => Base::Image { reference, credentials },
        (Some(Image::File(local)), ..) => Base::ImageFile(local),
        (_, Some(suite), _) => Base::Debian { suite },
        (.., Some(local)) => Base::Directory(local),
        _ => return None,
    })
}

/// Reads the name of a secret that holds credentials.
pub(crate) fn credentials(reader: &mut Reader, node: &Node) -> Option<Name> {
    // What stands here by mistake may be the secret itself, so it is not repeated.
    let expected = "the name of a secret, such as registry";
    let Value::Text(text) = &node.value else {
        reader.report(Problem::new(node.span, node.value.describe_kind(), expected));
        return None;
    };
    if Name::new(text).is_err() {
        let problem = Problem::new(node.span, "text that is not the name of a secret", expected);
        reader.report(problem.hint("keep the value by `spawnery secret set NAME`"));
        return None;
    }
    checked_name(reader, node.span, text)
}

fn image(reader: &mut Reader, node: &Node, locals: &mut Vec<LocalDraft>) -> Option<Image> {
    let is_path = |text: &str| ["./", "../", "/"].iter().any(|start| text.starts_with(start));
    let text = match &node.value {
        Value::Text(text) if !is_path(text) && text != "." && text != ".." => text,
        Value::Text(_) | Value::Map(_) => {
            let local = local(reader, node, LocalKind::Either, locals)?;
            return Some(Image::File(local));
        }
        _ => return reader.wrong(node, "an image such as debian:bookworm, or a path"),
    };
    match reference_problem(text) {
        None => Some(Image::Reference(text.clone())),
        Some((found, hint)) => {
            let expected = "an image such as debian:bookworm, or a path such as ./app.tar";
            reader.report(Problem::new(node.span, found, expected).hint_maybe(hint));
            None
        }
    }
}

/// Why `text` is no reference to an image (the grammar of the distribution project), and the mend.
fn reference_problem(text: &str) -> Option<(String, Option<String>)> {
    let shown = quoted(text);
    let no_image = || Some((format!("{shown} is no image"), None));
    if text.len() > REFERENCE_BYTES_MAX {
        return Some((format!("an image's name of {} bytes", text.len()), None));
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let found = format!("an image's name with the scheme {}", quoted(scheme));
        let hint = (!rest.contains('@')).then(|| format!("write {}", rest.trim_matches('/')));
        return Some((found, hint));
    }
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (text, None),
    };
    let digits = digest.map(|digest| digest.strip_prefix("sha256:").unwrap_or_default());
    let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if digits.is_some_and(|digits| digits.len() != 64 || !digits.bytes().all(is_digit)) {
        let hint = "a digest is `sha256:` and 64 hexadecimal digits";
        return Some((format!("{shown} with a wrong digest"), Some(hint.to_owned())));
    }
    let (folder, last) = name.rsplit_once('/').unwrap_or(("", name));
    let (last, tag) = match last.split_once(':') {
        Some((last, tag)) => (last, Some(tag)),
        None => (last, None),
    };
    let is_tag_byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if tag.is_some_and(|tag| {
        tag.is_empty()
            || tag.len() > 128
            || tag.starts_with(['.', '-'])
            || !tag.bytes().all(is_tag_byte)
    }) {
        return Some((format!("{shown} with a wrong tag"), None));
    }
    let mut parts: Vec<&str> = folder.split('/').filter(|_| !folder.is_empty()).collect();
    if parts.first().is_some_and(|first| first.contains(['.', ':']) || *first == "localhost") {
        let host = parts.remove(0);
        let is_host_byte =
            |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b':' | b'-' | b'[' | b']');
        if !host.bytes().all(is_host_byte) {
            return no_image();
        }
    }
    parts.push(last);
    let is_part = |part: &&str| {
        let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let ends = [part.bytes().next(), part.bytes().last()];
        ends.iter().all(|end| end.is_some_and(is_plain))
            && part.bytes().all(|b| is_plain(b) || matches!(b, b'.' | b'_' | b'-'))
    };
    if parts.iter().all(is_part) {
        return None;
    }
    let lower = text.to_ascii_lowercase();
    match text == lower {
        true => no_image(),
        false => {
            let hint = "names of images are in lower case".to_owned();
            Some((format!("{shown} is no image"), Some(hint)))
        }
    }
}

fn suite(reader: &mut Reader, node: &Node) -> Option<String> {
    let expected = "the name of a Debian release, such as bookworm";
    let text = match &node.value {
        Value::Text(text) => text,
        Value::Number(number) => {
            let problem = Problem::new(node.span, node.describe(), expected);
            let hint = match number.as_str() {
                "11" => Some("write bullseye"),
                "12" => Some("write bookworm"),
                "13" => Some("write trixie"),
                _ => None,
            };
            reader.report(problem.hint_maybe(hint.map(str::to_owned)));
            return None;
        }
        _ => return reader.wrong(node, expected),
    };
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let is_right = text.len() <= 64
        && text.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
        && text.bytes().all(is_plain);
    if is_right {
        return Some(text.clone());
    }
    let lower = text.to_ascii_lowercase();
    let hint = (lower != *text && lower.bytes().all(is_plain)).then(|| format!("write {lower}"));
    let found = format!("{} is no Debian release", quoted(text));
    reader.report(Problem::new(node.span, found, expected).hint_maybe(hint));
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_to_an_image_is_known() {
        let check = |text: &str, is_right: bool| {
            assert_eq!(reference_problem(text).is_none(), is_right, "{text}");
        };
        check("debian", true);
        check("debian:bookworm", true);
        check("library/debian:12.5-slim", true);
        check("registry.example.org/team/app", true);
        check("registry.example.org:5000/team/app:1", true);
        check("localhost:5000/app", true);
        check("[::1]:5000/app", true);
        check(&format!("app@sha256:{}", "0a".repeat(32)), true);
        check(&format!("app:1@sha256:{}", "0a".repeat(32)), true);
        check("app@sha256:00", false);
        check("app@md5:00", false);
        check("Debian", false);
        check("debian:", false);
        check("debian:-x", false);
        check("debian:a b", false);
        check("https://example.org/app", false);
        check("team//app", false);
        check("team/app/", false);
        check("-app", false);
        check("app_", false);
        check("ex ample.org/app", false);
        check("", false);
    }
}
