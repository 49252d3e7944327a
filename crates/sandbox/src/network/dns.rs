//! As much of the domain name system's messages as a resolver between a program and a real
//! resolver needs (RFC 1035, RFC 6891).

use std::net::IpAddr;

/// A header, `RFC 1035` 4.1.1.
const HEADER_BYTES: usize = 12;
/// Flags: a response, and the bits of a query's operation.
const RESPONSE: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const TRUNCATED: u16 = 0x0200;
const RECURSION_DESIRED: u16 = 0x0100;
const RECURSION_AVAILABLE: u16 = 0x0080;
/// Response codes.
pub(crate) const SERVER_FAILURE: u16 = 2;
pub(crate) const REFUSED: u16 = 5;
/// Types of records.
const A: u16 = 1;
const AAAA: u16 = 28;
const OPT: u16 = 41;
/// The class of the internet.
const IN: u16 = 1;
/// What a client without EDNS takes over UDP.
const UDP_BYTES_WITHOUT_EDNS: u16 = 512;

/// Types that may be asked for: what programs need to find a public server. Not among them are
/// PTR, which would tell names of private networks, and whole zones.
const TYPES_ALLOWED: &[u16] = &[
    A, AAAA, /* NS */ 2, /* CNAME */ 5, /* SOA */ 6, /* MX */ 15,
    /* TXT */ 16, /* SRV */ 33, /* NAPTR */ 35, /* DS */ 43,
    /* RRSIG */ 46, /* DNSKEY */ 48, /* TLSA */ 52, /* SVCB */ 64,
    /* HTTPS */ 65, /* CAA */ 257,
];

/// One question that a program asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    /// Chosen by the program.
    pub(crate) id: u16,
    /// In lower case, without a dot at its end.
    pub(crate) name: String,
    /// Type of the records.
    pub(crate) kind: u16,
    class: u16,
    /// The question's bytes.
    raw: Vec<u8>,
    /// What the program takes over UDP, if it speaks EDNS, and whether it wants signatures.
    edns: Option<(u16, bool)>,
}

impl Question {
    /// Whether this kind of question is forwarded at all.
    pub(crate) fn is_harmless(&self) -> bool {
        self.class == IN && TYPES_ALLOWED.contains(&self.kind)
    }

    /// The query to send to a real resolver. It is made anew, so that nothing of the program's
    /// message but name and type leaves.
    pub(crate) fn to_query(&self, id: u16) -> Vec<u8> {
        let mut out = header(id, RECURSION_DESIRED, u16::from(self.edns.is_some()));
        out.extend_from_slice(&self.raw);
        if let Some((size_bytes, signatures)) = self.edns {
            out.push(0);
            out.extend_from_slice(&OPT.to_be_bytes());
            out.extend_from_slice(&size_bytes.to_be_bytes());
            out.extend_from_slice(&[0, 0, u8::from(signatures) << 7, 0, 0, 0]);
        }
        out
    }

    /// The answer that there is none, and why.
    pub(crate) fn to_failure(&self, code: u16) -> Vec<u8> {
        let flags = RESPONSE | RECURSION_DESIRED | RECURSION_AVAILABLE | code;
        let mut out = header(self.id, flags, 0);
        out.extend_from_slice(&self.raw);
        out
    }

    /// The answer of a real resolver to the query with `id`, for the program; `None` if it is
    /// not that.
    pub(crate) fn to_answer(&self, id: u16, answer: &[u8], over_udp: bool) -> Option<Vec<u8>> {
        let is_response = number(answer, 2)? & RESPONSE != 0;
        let asked = answer.get(HEADER_BYTES..HEADER_BYTES + self.raw.len())?;
        if number(answer, 0)? != id || !is_response || !asked.eq_ignore_ascii_case(&self.raw) {
            return None;
        }
        let size_max = self.edns.map_or(UDP_BYTES_WITHOUT_EDNS, |(size, _)| size);
        let mut out = if over_udp && answer.len() > usize::from(size_max) {
            let flags = number(answer, 2)? | TRUNCATED;
            let mut out = header(id, flags, 0);
            out.extend_from_slice(&self.raw);
            out
        } else {
            answer.to_vec()
        };
        out[..2].copy_from_slice(&self.id.to_be_bytes());
        Some(out)
    }
}

/// The refusal of a query that is not understood; `None` if it is no query at all.
pub(crate) fn refuse_unread(message: &[u8]) -> Option<Vec<u8>> {
    let (id, flags) = (number(message, 0)?, number(message, 2)?);
    let mut out = header(id, RESPONSE | (flags & (OPCODE | RECURSION_DESIRED)) | REFUSED, 0);
    // No question comes back with it.
    out[5] = 0;
    (flags & RESPONSE == 0 && message.len() >= HEADER_BYTES).then_some(out)
}

fn header(id: u16, flags: u16, additional: u16) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES + 64);
    for number in [id, flags, 1, 0, 0, additional] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out
}

/// Reads a program's query; `None` if it is none with exactly one question.
pub(crate) fn parse_query(message: &[u8]) -> Option<Question> {
    let flags = number(message, 2)?;
    if flags & (RESPONSE | OPCODE) != 0 || number(message, 4)? != 1 {
        return None;
    }
    let (name, after) = read_name(message, HEADER_BYTES)?;
    let (kind, class) = (number(message, after)?, number(message, after + 2)?);
    let raw = message.get(HEADER_BYTES..after + 4)?.to_vec();
    let edns = read_edns(message, after + 4);
    Some(Question { id: number(message, 0)?, name, kind, class, raw, edns })
}

/// The EDNS record of a query that has nothing else after its question.
fn read_edns(message: &[u8], at: usize) -> Option<(u16, bool)> {
    if message.get(at)? != &0 || number(message, at + 1)? != OPT {
        return None;
    }
    let size = number(message, at + 3)?.max(UDP_BYTES_WITHOUT_EDNS);
    Some((size, message.get(at + 7)? & 0x80 != 0))
}

/// The addresses in the answer section, with their time to live in seconds.
pub(crate) fn addresses(answer: &[u8]) -> Vec<(IpAddr, u32)> {
    let mut found = Vec::new();
    let _ = collect_addresses(answer, &mut found);
    found
}

fn collect_addresses(answer: &[u8], found: &mut Vec<(IpAddr, u32)>) -> Option<()> {
    let (questions, answers) = (number(answer, 4)?, number(answer, 6)?);
    let mut at = HEADER_BYTES;
    for _ in 0..questions {
        at = skip_name(answer, at)? + 4;
    }
    for _ in 0..answers {
        at = skip_name(answer, at)?;
        let (kind, class) = (number(answer, at)?, number(answer, at + 2)?);
        let ttl = u32::from_be_bytes(answer.get(at + 4..at + 8)?.try_into().ok()?);
        let length = usize::from(number(answer, at + 8)?);
        let data = answer.get(at + 10..at + 10 + length)?;
        at += 10 + length;
        match (class, kind) {
            (IN, A) => found.push((IpAddr::from(<[u8; 4]>::try_from(data).ok()?), ttl)),
            (IN, AAAA) => found.push((IpAddr::from(<[u8; 16]>::try_from(data).ok()?), ttl)),
            _ => {}
        }
    }
    Some(())
}

fn number(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?))
}

/// A name without compression, which a question's has no use for: its text, in lower case, and
/// where it ends. A name with other bytes than those of host names and `_` is refused.
fn read_name(message: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut name = String::new();
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            return Some((name, at));
        }
        let label = message.get(at..at + length).filter(|_| length < 64)?;
        let fits = |it: &u8| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_');
        if !label.iter().all(fits) || name.len() + length > 253 {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        name.extend(label.iter().map(|it| char::from(it.to_ascii_lowercase())));
        at += length;
    }
}

/// Where a name ends that may be compressed.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match usize::from(*message.get(at)?) {
            0 => return Some(at + 1),
            length @ 1..64 => at += 1 + length,
            0xc0.. => return Some(at + 2),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn query(name: &str, kind: u16, edns: bool) -> Vec<u8> {
        let mut out = header(77, RECURSION_DESIRED, u16::from(edns));
        for label in name.split('.') {
            out.push(label.len() as u8);
            out.extend_from_slice(label.as_bytes());
        }
        out.push(0);
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&IN.to_be_bytes());
        if edns {
            out.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0]);
        }
        out
    }

    /// A response with a name that points to the question's, an alias and two addresses.
    fn response(question: &Question, id: u16) -> Vec<u8> {
        let mut out = question.to_query(id);
        out.truncate(HEADER_BYTES + question.raw.len());
        out[2] |= 0x80;
        out[7] = 3;
        out[11] = 0;
        out.extend_from_slice(&[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 3, 1, b'x', 0]);
        out.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 198, 51, 100, 7]);
        out.extend_from_slice(&[1, b'x', 0, 0, 1, 0, 1, 0, 0, 1, 0, 0, 4, 10, 0, 0, 1]);
        out
    }

    #[test]
    fn a_query_is_read_and_made_anew() {
        let question = parse_query(&query("WWW.Example.org", A, true)).expect("a query");
        assert_eq!(question.name, "www.example.org");
        assert!(question.is_harmless());
        let again = parse_query(&question.to_query(5)).expect("a query");
        assert_eq!(again, Question { id: 5, ..question.clone() });
        let mut longer = query("www.example.org", A, false);
        longer.extend_from_slice(b"smuggled");
        let plain = parse_query(&longer).expect("a query");
        assert!(!plain.to_query(1).ends_with(b"smuggled"));
    }

    #[test]
    fn questions_that_are_not_harmless_are_known() {
        for kind in [/* PTR */ 12, /* AXFR */ 252, /* ANY */ 255] {
            let question = parse_query(&query("example.org", kind, false)).expect("a query");
            assert!(!question.is_harmless(), "{kind}");
        }
        let with_slash = query("exa/mple.org", A, false);
        assert_eq!(parse_query(&with_slash), None);
        let mut answer = query("example.org", A, false);
        answer[2] |= 0x80;
        assert_eq!(parse_query(&answer), None);
    }

    #[test]
    fn an_answer_gives_its_addresses_and_gets_the_id_of_the_program() {
        let question = parse_query(&query("www.example.org", A, true)).expect("a query");
        let answer = response(&question, 9);
        let found = addresses(&answer);
        let expected: [(IpAddr, u32); 2] =
            [([198, 51, 100, 7].into(), 60), ([10, 0, 0, 1].into(), 256)];
        assert_eq!(found, expected);
        let passed = question.to_answer(9, &answer, true).expect("it is the answer");
        assert_eq!(number(&passed, 0), Some(77));
        assert_eq!(question.to_answer(8, &answer, true), None, "another id");
        let other = parse_query(&query("other.example.org", A, true)).expect("a query");
        assert_eq!(other.to_answer(9, &answer, true), None, "another name");
    }

    #[test]
    fn an_answer_that_is_too_long_is_cut() {
        let question = parse_query(&query("www.example.org", A, false)).expect("a query");
        let mut answer = response(&question, 9);
        answer.resize(600, 0);
        let cut = question.to_answer(9, &answer, true).expect("it is the answer");
        assert_eq!(number(&cut, 2).map(|flags| flags & TRUNCATED), Some(TRUNCATED));
        assert!(cut.len() < 512);
        assert_eq!(question.to_answer(9, &answer, false).map(|it| it.len()), Some(600));
    }

    #[test]
    fn a_refusal_repeats_the_question() {
        let question = parse_query(&query("www.example.org", A, false)).expect("a query");
        let refusal = question.to_failure(REFUSED);
        assert_eq!(number(&refusal, 2).map(|flags| flags & 0x800f), Some(0x8005));
        assert_eq!(&refusal[HEADER_BYTES..], &question.raw[..]);
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(refuse_unread(&bytes).is_none_or(|it| it.len() == HEADER_BYTES));
            if let Some(question) = parse_query(&bytes) {
                prop_assert!(question.raw.len() <= bytes.len());
                let _ = question.to_answer(0, &bytes, true);
            }
            prop_assert!(addresses(&bytes).len() <= bytes.len());
        }
    }
}
