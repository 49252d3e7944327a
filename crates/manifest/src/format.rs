//! The formats of a manifest.

use crate::error::Problem;
use crate::tree::Node;
use std::path::Path;

/// How a manifest is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// YAML 1.2: `.yaml`, `.yml`.
    Yaml,
    /// TOML: `.toml`.
    Toml,
    /// JSON: `.json`.
    Json,
}

/// A file name does not say in which format the manifest is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{file_name}` is no manifest by its name: name it .yaml, .yml, .toml or .json")]
pub struct FormatError {
    /// The file's name.
    pub file_name: String,
}

impl Format {
    /// The format of the file at `path`, by the ending of its name.
    pub fn of_path(path: &Path) -> Result<Format, FormatError> {
        let ending = path.extension().and_then(|ending| ending.to_str());
        match ending.map(str::to_ascii_lowercase).as_deref() {
            Some("yaml" | "yml") => Ok(Format::Yaml),
            Some("toml") => Ok(Format::Toml),
            Some("json") => Ok(Format::Json),
            _ => Err(FormatError { file_name: path.display().to_string() }),
        }
    }

    /// Reads a text into a tree; what is wrong is added to `problems`.
    pub(crate) fn tree(self, text: &str, problems: &mut Vec<Problem>) -> Option<Node> {
        match self {
            Format::Yaml => crate::yaml::parse(text, problems),
            Format::Toml => crate::toml::parse(text, problems),
            Format::Json => crate::json::parse(text, problems),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_of_a_name_decides() {
        let check = |name: &str, format| {
            assert_eq!(Format::of_path(Path::new(name)).ok(), format, "{name}");
        };
        check("tour.yaml", Some(Format::Yaml));
        check("a/b.yml", Some(Format::Yaml));
        check("B.JSON", Some(Format::Json));
        check("fleet.toml", Some(Format::Toml));
        check("fleet", None);
        check("fleet.txt", None);
        check(".yaml", None);
    }
}
