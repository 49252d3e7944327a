//! The field `egress`: what a private network can reach.

use crate::error::{Problem, quoted};
use crate::process::bytes;
use crate::reader::{Field, Reader};
use crate::schema;
use crate::tree::Node;
use serde_json::Value as Json;
use spawnery_model::limits::EGRESS_RULES_MAX;
use spawnery_model::{Bytes, Egress, EgressRule};
use std::net::IpAddr;

#[derive(Default)]
struct EgressDraft {
    rules: Option<Vec<EgressRule>>,
    allow: Option<Vec<EgressRule>>,
    deny: Option<Vec<EgressRule>>,
    names: Option<Vec<String>>,
    deny_by_default: Option<bool>,
    transfer: Option<Bytes>,
}

const EGRESS_FIELDS: &[Field<EgressDraft>] = &[
    Field {
        name: "allow",
        doc: "What it may reach: blocks of addresses in CIDR notation, maybe with a port or a \
              range of ports: 10.0.0.0/8:443, [2001:db8::]/32:8000-8080.",
        schema: || schema::list_of(schema::text_like("10.0.0.0/8:443")),
        read: |reader, node, draft| draft.allow = list(reader, node, Some(true)),
    },
    Field {
        name: "deny",
        doc: "What it may not reach, also if `allow` names it. Written as `allow` is.",
        schema: || schema::list_of(schema::text_like("10.0.0.0/8")),
        read: |reader, node, draft| draft.deny = list(reader, node, Some(false)),
    },
    Field {
        name: "rules",
        doc: "Instead of `allow` and `deny`: both in one list, whose first entry that fits \
              decides: [allow 10.0.0.0/8:443, deny 10.0.0.0/8].",
        schema: || schema::list_of(schema::text_like("allow 10.0.0.0/8:443")),
        read: |reader, node, draft| draft.rules = list(reader, node, None),
    },
    Field {
        name: "names",
        doc: "The only names that can be resolved, and whose addresses may be reached. \
              *.example.org is all that is below example.org. Default all names.",
        schema: || schema::list_of(schema::text_like("*.example.org")),
        read: |reader, node, draft| draft.names = names(reader, node),
    },
    Field {
        name: "default",
        doc: "Whether what is not listed may be reached: `allow` or `deny`. Default `deny` if \
              anything is allowed explicitly, else `allow`. Private ranges, and the node itself, \
              must be allowed explicitly.",
        schema: || schema::words(DEFAULTS),
        read: |reader, node, draft| draft.deny_by_default = reader.word(node, DEFAULTS),
    },
    Field {
        name: "transfer",
        doc: "The most bytes in both directions together; more ends the instance. Default no \
              limit.",
        schema: || schema::amount("10G"),
        read: |reader, node, draft| draft.transfer = bytes(reader, node, Bytes(1), "10G"),
    },
];

/// Whether what nothing allows is denied.
pub(crate) const DEFAULTS: &[(&str, bool)] = &[("allow", false), ("deny", true)];

/// The schema of an egress.
pub(crate) fn json_schema() -> Json {
    schema::object(&[EGRESS_FIELDS], &[])
}

/// Reads an egress.
pub(crate) fn egress(reader: &mut Reader, node: &Node) -> Option<Egress> {
    let mut draft = EgressDraft::default();
    let is_right = reader.fields(node, &[EGRESS_FIELDS], mend, &mut draft);
    if draft.rules.is_some() && (draft.allow.is_some() || draft.deny.is_some()) {
        let found = "`rules` beside `allow` or `deny`";
        let problem = Problem::new(node.span, found, "either `rules`, or `allow` and `deny`");
        reader.report(problem.hint("in `rules` the order decides"));
    }
    let denied = draft.deny.into_iter().flatten();
    let rules: Vec<EgressRule> = denied
        .chain(draft.allow.into_iter().flatten())
        .chain(draft.rules.into_iter().flatten())
        .collect();
    if rules.len() > EGRESS_RULES_MAX {
        let found = format!("{} rules", rules.len());
        let expected = format!("at most {EGRESS_RULES_MAX}");
        reader.report(Problem::new(node.span, found, expected));
    }
    let is_explicit = draft.names.is_some() || rules.iter().any(|rule| rule.allow);
    is_right.then(|| Egress {
        rules,
        names: draft.names,
        deny_by_default: draft.deny_by_default.unwrap_or(is_explicit),
        transfer_max: draft.transfer,
    })
}

fn mend(name: &str) -> Option<String> {
    match name {
        "domains" | "hosts" | "dns" => Some("did you mean `names`?".to_owned()),
        "policy" => Some("did you mean `default`?".to_owned()),
        "limit" | "quota" | "transfer_max" => Some("did you mean `transfer`?".to_owned()),
        _ => None,
    }
}

/// Reads a list of rules. `allow` is what all of them do; without, each says it.
fn list(reader: &mut Reader, node: &Node, allow: Option<bool>) -> Option<Vec<EgressRule>> {
    let example = match allow {
        Some(_) => "[\"10.0.0.0/8:443\"]",
        None => "[\"allow 10.0.0.0/8:443\"]",
    };
    let items = reader.items(node, "rules", example, EGRESS_RULES_MAX)?;
    let mut rules = Vec::new();
    for (index, item) in items.iter().enumerate() {
        reader.within_item(index, |reader| {
            let expected = match allow {
                Some(_) => "a block of addresses such as 10.0.0.0/8 or 10.0.0.0/8:443",
                None => "`allow` or `deny` and a block such as 10.0.0.0/8:443",
            };
            let Some(text) = reader.text(item, expected) else {
                return;
            };
            let read = match allow {
                Some(allow) => rule(allow, text.trim()),
                None => rule_with_word(text.trim()),
            };
            match read {
                Ok(rule) => rules.push(rule),
                Err((found, hint)) => {
                    reader.report(Problem::new(item.span, found, expected).hint_maybe(hint));
                }
            }
        });
    }
    Some(rules)
}

type RuleError = (String, Option<String>);

fn rule_with_word(text: &str) -> Result<EgressRule, RuleError> {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or(("", text));
    match word {
        "allow" => rule(true, rest.trim()),
        "deny" => rule(false, rest.trim()),
        _ => Err((
            format!("{} without `allow` or `deny`", quoted(text)),
            Some(format!("write `allow {rest}` or `deny {rest}`")),
        )),
    }
}

fn rule(allow: bool, text: &str) -> Result<EgressRule, RuleError> {
    let no_block = |hint: Option<&str>| {
        Err((format!("{} is no block of addresses", quoted(text)), hint.map(str::to_owned)))
    };
    let (block, ports) = match split_ports(text) {
        Some(parts) => parts,
        None => return no_block(Some("write [ADDRESS]/BITS:PORT with IPv6 and a port")),
    };
    let (address, bits) = match block.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (block.as_str(), None),
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        let is_name = address.contains(|c: char| c.is_ascii_alphabetic()) && !address.contains(':');
        return no_block(is_name.then_some("names go into `names`"));
    };
    let bits_max = if address.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        None => bits_max,
        Some(bits) => match bits.parse::<u8>() {
            Ok(number) if number <= bits_max && number.to_string() == bits => number,
            _ => return no_block(Some("after the slash stands how many bits are fixed")),
        },
    };
    let network = masked(address, bits);
    if network != address {
        let found = format!("{} has bits beyond its first {bits}", quoted(text));
        return Err((found, Some(format!("write {network}/{bits}, or {address} alone"))));
    }
    let ports = match ports {
        None => None,
        Some(ports) => match parse_ports(&ports) {
            Some(ports) => Some(ports),
            None => {
                let hint = "a port is from 1 to 65535, a range such as 8000-8080";
                let found = format!("{} is no port", quoted(&ports));
                return Err((found, Some(hint.to_owned())));
            }
        },
    };
    Ok(EgressRule { allow, block: format!("{network}/{bits}"), ports })
}

/// The block and the ports of a rule: `10.0.0.0/8:443`, `2001:db8::/32`, `[2001:db8::]/32:443`,
/// `[2001:db8::/32]:443`.
fn split_ports(text: &str) -> Option<(String, Option<String>)> {
    let ports_of = |rest: &str| match rest {
        "" => Some(None),
        rest => rest.strip_prefix(':').map(|ports| Some(ports.to_owned())),
    };
    if let Some(rest) = text.strip_prefix('[') {
        let (inner, rest) = rest.split_once(']')?;
        let at = rest.find(':').unwrap_or(rest.len());
        let (bits, ports) = rest.split_at(at);
        if !bits.is_empty() && !bits.starts_with('/') {
            return None;
        }
        return Some((format!("{inner}{bits}"), ports_of(ports)?));
    }
    match text.matches(':').count() {
        0 => Some((text.to_owned(), None)),
        1 => {
            let (block, ports) = text.split_once(':')?;
            Some((block.to_owned(), Some(ports.to_owned())))
        }
        _ => {
            // Without brackets a port cannot be told from the address's last part.
            let bits = text.split_once('/').map(|(_, bits)| bits).unwrap_or_default();
            (!bits.contains(':')).then(|| (text.to_owned(), None))
        }
    }
}

fn parse_ports(text: &str) -> Option<(u16, u16)> {
    let port = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>().ok().filter(|port| is_number && *port > 0)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    (first <= last).then_some((first, last))
}

/// The address with all but its first `bits` bits cleared.
fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4((u32::from(address) & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6((u128::from(address) & mask).into())
        }
    }
}

/// A rule as a user writes it in `rules`.
pub(crate) fn shown(rule: &EgressRule) -> String {
    let word = if rule.allow { "allow" } else { "deny" };
    let is_v6 = rule.block.contains(':');
    match rule.ports {
        None => format!("{word} {}", rule.block),
        Some((first, last)) => {
            let block = match rule.block.split_once('/') {
                Some((address, bits)) if is_v6 => format!("[{address}]/{bits}"),
                _ => rule.block.clone(),
            };
            match first == last {
                true => format!("{word} {block}:{first}"),
                false => format!("{word} {block}:{first}-{last}"),
            }
        }
    }
}

fn names(reader: &mut Reader, node: &Node) -> Option<Vec<String>> {
    let items = reader.items(node, "names", "[\"*.example.org\"]", EGRESS_RULES_MAX)?;
    let mut names = Vec::new();
    for (index, item) in items.iter().enumerate() {
        reader.within_item(index, |reader| {
            let expected = "a name such as example.org or *.example.org";
            let Some(text) = reader.text(item, expected) else {
                return;
            };
            if is_host_name(text) {
                names.push(text.to_owned());
                return;
            }
            let lower = text.to_ascii_lowercase();
            let host = lower.split_once("://").map(|(_, rest)| rest.trim_end_matches('/'));
            let hint = match host {
                Some(host) if is_host_name(host) => Some(format!("write {host}")),
                _ if is_host_name(&lower) => Some(format!("write {lower}")),
                _ if text.parse::<IpAddr>().is_ok() || text.contains('/') => {
                    Some("addresses go into `allow`".to_owned())
                }
                _ => None,
            };
            let found = format!("{} is no name", quoted(text));
            reader.report(Problem::new(item.span, found, expected).hint_maybe(hint));
        });
    }
    Some(names)
}

/// Whether `text` is a host's name (RFC 1123, section 2.1), maybe below `*.`, in lower case.
fn is_host_name(text: &str) -> bool {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let is_label = |label: &str| {
        let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| is_plain(b) || b == b'-' || b == b'_')
    };
    name.len() <= 253 && name.parse::<IpAddr>().is_err() && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_read_as_it_is_shown() {
        let check = |text: &str, expected: &str| {
            let rule = rule_with_word(text).expect(text);
            assert_eq!(shown(&rule), expected, "{text}");
            assert_eq!(rule_with_word(expected), Ok(rule), "{text}");
        };
        check("allow 10.0.0.0/8", "allow 10.0.0.0/8");
        check("deny 10.0.0.0/8:443", "deny 10.0.0.0/8:443");
        check("allow  10.1.2.3:80-90", "allow 10.1.2.3/32:80-90");
        check("allow 0.0.0.0/0", "allow 0.0.0.0/0");
        check("allow ::/0", "allow ::/0");
        check("allow ::1", "allow ::1/128");
        check("allow 2001:DB8::/32", "allow 2001:db8::/32");
        check("allow [2001:db8::]/32:443", "allow [2001:db8::]/32:443");
        check("allow [2001:db8::/32]:443", "allow [2001:db8::]/32:443");
        check("allow [::1]:1-65535", "allow [::1]/128:1-65535");
    }

    #[test]
    fn what_is_no_rule_is_refused_with_a_mend() {
        let check = |text: &str, hint: Option<&str>| {
            let (found, mend) = rule(true, text).expect_err(text);
            assert_eq!(mend.as_deref(), hint, "{text}: {found}");
        };
        let bits = Some("after the slash stands how many bits are fixed");
        let ports = Some("a port is from 1 to 65535, a range such as 8000-8080");
        check("10.0.0.5/8", Some("write 10.0.0.0/8, or 10.0.0.5 alone"));
        check("2001:db8::1/32", Some("write 2001:db8::/32, or 2001:db8::1 alone"));
        check("10.0.0.0/33", bits);
        check("10.0.0.0/+8", bits);
        check("10.0.0.0/08", bits);
        check("::/129", bits);
        check("10.0.0.0/8:0", ports);
        check("10.0.0.0/8:65536", ports);
        check("10.0.0.0/8:90-80", ports);
        check("10.0.0.0/8:", ports);
        check("example.org", Some("names go into `names`"));
        check("example.org:443", Some("names go into `names`"));
        check("2001:db8::/32:443", Some("write [ADDRESS]/BITS:PORT with IPv6 and a port"));
        check("[::1", Some("write [ADDRESS]/BITS:PORT with IPv6 and a port"));
        check("[::1]443", Some("write [ADDRESS]/BITS:PORT with IPv6 and a port"));
        check("10.0.0", None);
        check("", None);
    }
}
