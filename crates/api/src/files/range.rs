//! Parts of files, in headers (RFC 9110, section 14).

use crate::failure::Answer;
use crate::parameters::invalid;
use axum::http::{HeaderMap, header};
use spawnery_sandbox::files::protocol::FileRange;

/// The part that is asked for. What is not understood, and several parts at once, are ignored, as the
/// standard allows: then all is sent.
pub(super) fn wanted(headers: &HeaderMap) -> Option<FileRange> {
    let text = headers.get(header::RANGE)?.to_str().ok()?;
    let (first, last) = text.strip_prefix("bytes=")?.trim().split_once('-')?;
    match (first, last) {
        ("", last) => Some(FileRange::Last { length_max: number(last)? }),
        (first, "") => Some(FileRange::From { offset: number(first)?, length_max: None }),
        (first, last) => {
            let (offset, last) = (number(first)?, number(last)?);
            let length_max = Some(last.checked_sub(offset)?.saturating_add(1));
            Some(FileRange::From { offset, length_max })
        }
    }
}

/// Where the part begins that is sent.
pub(super) fn written(headers: &HeaderMap) -> Answer<Option<u64>> {
    let Some(value) = headers.get(header::CONTENT_RANGE) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default();
    let first = text.strip_prefix("bytes ").and_then(|rest| rest.split_once('-'));
    let first = first.and_then(|(first, _)| number(first));
    let wrong = || invalid("Content-Range is not like `bytes 0-99/*`");
    first.map(Some).ok_or_else(wrong)
}

fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(name: header::HeaderName, text: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, text.parse().unwrap());
        headers
    }

    #[test]
    fn one_range_of_bytes_is_understood() {
        let check = |text: &str, expected: Option<FileRange>| {
            assert_eq!(wanted(&headers(header::RANGE, text)), expected, "{text}");
        };
        let from = |offset, length_max| Some(FileRange::From { offset, length_max });
        check("bytes=0-0", from(0, Some(1)));
        check("bytes=5-", from(5, None));
        check("bytes=-3", Some(FileRange::Last { length_max: 3 }));
        check("bytes=5-4", None);
        check("bytes=0-1,3-4", None);
        check("bytes=+1-2", None);
        check("lines=0-1", None);
        check("bytes=-", None);
        check("bytes=99999999999999999999-", None);
        assert_eq!(wanted(&HeaderMap::new()), None);
    }

    #[test]
    fn a_part_that_is_sent_says_where_it_begins() {
        let check = |text: &str, expected: Option<u64>| {
            let found = written(&headers(header::CONTENT_RANGE, text));
            assert_eq!(found.ok().flatten(), expected, "{text}");
        };
        check("bytes 10-19/*", Some(10));
        check("bytes 10-19/20", Some(10));
        check("bytes */20", None);
        check("10-19", None);
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(text in "[bytes=0-9, ]{0,30}") {
            let _ = wanted(&headers(header::RANGE, &text));
            let _ = written(&headers(header::CONTENT_RANGE, &text));
        }
    }
}
