//! Lists, a page at a time.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The items, in the order of their ids or names.
    pub items: Vec<T>,
    /// Give this as `after` to get the next page; none when this was the last.
    pub next: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_a_later_version_is_skipped() {
        let page: Page<u32> = serde_json::from_str(r#"{"items":[1],"total":9}"#).unwrap();
        let expected = Page { items: vec![1], next: None };
        assert_eq!(page, expected);
    }
}
