use super::image::{chain_ids, document};
use crate::content::digest_of;

#[test]
fn chain_ids_are_those_of_the_specification() {
    let (a, b) = (digest_of(b"a"), digest_of(b"b"));
    let chain = chain_ids(&[a.clone(), b.clone()]);
    assert_eq!(chain[0], a);
    assert_eq!(chain[1], digest_of(format!("sha256:{a} sha256:{b}").as_bytes()));
}

#[test]
fn other_documents_are_refused_with_a_reason() {
    for (text, expected) in [
        ("{}", "neither a manifest nor an index"),
        (r#"{"schemaVersion":1}"#, "obsolete"),
        ("[", "cannot be understood"),
        (r#"{"manifests": 7}"#, "cannot be understood"),
    ] {
        let error = document(text.as_bytes(), "it").expect_err(text).to_string();
        assert!(error.contains(expected), "{error}");
    }
}
