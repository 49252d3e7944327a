//! What is shown to a certificate authority that asks for a proof over HTTP.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

/// The path below which it asks (RFC 8555, section 8.3).
const PATH: &str = "/.well-known/acme-challenge/";

/// Answers that are under way, by their token.
#[derive(Debug, Default)]
pub struct Proofs {
    answers: RwLock<BTreeMap<String, String>>,
}

impl Proofs {
    /// None yet.
    pub fn new() -> Arc<Proofs> {
        Arc::default()
    }

    pub(crate) fn set(&self, token: &str, answer: Option<String>) {
        let mut answers = self.answers.write().expect("no holder panics");
        match answer {
            Some(answer) => answers.insert(token.to_owned(), answer),
            None => answers.remove(token),
        };
    }

    /// The answer to a request for this path, if it is one of an authority that we asked.
    pub(crate) fn answer(&self, path: &[u8]) -> Option<String> {
        let token = path.strip_prefix(PATH.as_bytes())?;
        let token = std::str::from_utf8(token).ok()?;
        self.answers.read().expect("no holder panics").get(token).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_for_is_answered() {
        let proofs = Proofs::new();
        proofs.set("abc", Some("abc.def".to_owned()));
        let answer = |path: &str| proofs.answer(path.as_bytes());
        assert_eq!(answer("/.well-known/acme-challenge/abc").as_deref(), Some("abc.def"));
        assert_eq!(answer("/.well-known/acme-challenge/abd"), None);
        assert_eq!(answer("/abc"), None);
        proofs.set("abc", None);
        assert_eq!(answer("/.well-known/acme-challenge/abc"), None);
    }
}
