//! Paths inside an instance.

use crate::error::{Problem, quoted};
use crate::place::Span;
use crate::placed::is_below;
use crate::reader::Reader;
use crate::tree::Node;

/// Bytes in a path, the final NUL excluded (`PATH_MAX`, `limits.h(0p)`).
const PATH_LENGTH_MAX: usize = 4095;

/// Why a path cannot be used.
pub(crate) struct PathProblem {
    found: String,
    hint: Option<String>,
}

impl PathProblem {
    /// The problem, at its place.
    pub(crate) fn at(self, span: Span) -> Problem {
        Problem::new(span, self.found, "an absolute path such as /etc/app.conf")
            .hint_maybe(self.hint)
    }
}

/// Checks that `path` is absolute and names one thing in one way.
pub(crate) fn absolute_path(path: &str) -> Result<(), PathProblem> {
    let shown = quoted(path);
    let problem = |found: String, hint: Option<String>| Err(PathProblem { found, hint });
    if path.contains('\0') {
        return problem("a NUL character in a path".to_owned(), None);
    }
    if path.len() > PATH_LENGTH_MAX {
        return problem(format!("a path of {} bytes", path.len()), None);
    }
    let Some(rest) = path.strip_prefix('/') else {
        let hint = format!("write `/{}`", path.trim_start_matches("./"));
        return problem(format!("{shown} is not absolute"), Some(hint));
    };
    if rest.is_empty() {
        return problem("`/` is the root folder".to_owned(), None);
    }
    for segment in rest.split('/') {
        let hint = match segment {
            "" => "remove the slash that is too much",
            "." => "remove `.`",
            ".." => "write the path without `..`",
            _ => continue,
        };
        let found = match segment {
            "" => format!("{shown} has an empty part"),
            segment => format!("{shown} has the part `{segment}`"),
        };
        return problem(found, Some(hint.to_owned()));
    }
    Ok(())
}

/// Folders that the kernel fills, and where secrets lie: nothing can be put there.
const RESERVED: &[&str] = &["/proc", "/sys", "/dev", "/run/secrets"];

/// Checks that something can be put at `path` inside an instance, and reports why not.
pub(crate) fn check_target(reader: &mut Reader, span: Span, path: &str) -> bool {
    if let Err(problem) = absolute_path(path) {
        reader.report(problem.at(span));
        return false;
    }
    let is_in = |folder: &&str| path == *folder || is_below(path, folder);
    if let Some(folder) = RESERVED.iter().find(|folder| is_in(folder)) {
        let found = format!("{} lies in `{folder}`, which Spawnery fills", quoted(path));
        reader.report(Problem::new(span, found, "a path elsewhere, such as /srv/app"));
        return false;
    }
    true
}

/// Reads the path at which something is put inside an instance.
pub(crate) fn target_path(reader: &mut Reader, node: &Node) -> Option<String> {
    let text = reader.text(node, "an absolute path such as /srv/app")?;
    check_target(reader, node.span, text).then(|| text.to_owned())
}
