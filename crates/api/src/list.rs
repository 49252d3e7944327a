//! Lists, a page at a time.

use crate::failure::Answer;
use crate::limits::{PAGE_ITEMS_DEFAULT, PAGE_ITEMS_MAX};
use crate::parameters::invalid;
use serde::Deserialize;
use spawnery_wire::api::Page;
use utoipa::IntoParams;

/// Which page of a list.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageParameters {
    /// At most so many items; 100 when it is left out.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// The `next` of the page before.
    after: Option<String>,
}

impl PageParameters {
    /// The limit and the place to start after.
    pub(crate) fn checked(self) -> Answer<(usize, Option<String>)> {
        Ok((limit(self.limit)?, self.after))
    }
}

/// A page's limit, checked.
pub(crate) fn limit(limit: Option<usize>) -> Answer<usize> {
    match limit.unwrap_or(PAGE_ITEMS_DEFAULT) {
        limit @ 1..=PAGE_ITEMS_MAX => Ok(limit),
        _ => Err(invalid(format!("`limit` is a number from 1 to {PAGE_ITEMS_MAX}"))),
    }
}

/// The first `limit` of `items`, which start after the place that was asked for.
pub(crate) fn page<T, V>(
    items: impl Iterator<Item = T>,
    limit: usize,
    mut view: impl FnMut(T) -> V,
    key: impl Fn(&V) -> String,
) -> Page<V> {
    let mut items = items.peekable();
    let page: Vec<V> = items.by_ref().take(limit).map(&mut view).collect();
    let next = items.peek().and(page.last()).map(key);
    Page { items: page, next }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_without_hole_or_overlap() {
        let check = |count: u32, limit: usize, pages: usize| {
            let mut seen = Vec::new();
            let mut after: Option<u32> = None;
            for number in 1.. {
                let items = (0..count).filter(|item| after.is_none_or(|after| *item > after));
                let page = page(items, limit, |item| item, u32::to_string);
                seen.extend(page.items);
                let Some(next) = page.next else {
                    assert_eq!(number, pages);
                    break;
                };
                after = Some(next.parse().unwrap());
            }
            assert_eq!(seen, (0..count).collect::<Vec<_>>());
        };
        check(0, 3, 1);
        check(3, 3, 1);
        check(4, 3, 2);
        check(9, 3, 3);
    }

    #[test]
    fn a_limit_beyond_the_range_is_refused() {
        let check = |asked, got: Option<usize>| assert_eq!(limit(asked).ok(), got);
        check(None, Some(PAGE_ITEMS_DEFAULT));
        check(Some(1), Some(1));
        check(Some(PAGE_ITEMS_MAX), Some(PAGE_ITEMS_MAX));
        check(Some(0), None);
        check(Some(PAGE_ITEMS_MAX + 1), None);
    }
}
