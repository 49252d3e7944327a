//! What an instance may reach: rules, default ranges and names.

use std::net::IpAddr;

use super::address::{Block, canonical, embedded, is_special};
use crate::limits::{EGRESS_NAMES_MAX, EGRESS_RULES_MAX};
use crate::spec::EgressSpec;

/// An [`EgressSpec`] that has been read and understood.
#[derive(Debug, Clone, Default)]
pub(crate) struct Policy {
    rules: Vec<Rule>,
    names: Option<Vec<Pattern>>,
    deny_by_default: bool,
    pub(crate) transfer_bytes_max: Option<u64>,
}

#[derive(Debug, Clone)]
struct Rule {
    allow: bool,
    block: Block,
    ports: Option<(u16, u16)>,
}

impl Rule {
    /// Whether it allows the whole internet, and so neither special ranges nor the host.
    fn opens_internet(&self) -> bool {
        self.allow && self.block.is_internet()
    }
}

/// What is known of an address besides its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    /// The host would take packets for it as its own, or it is no single machine's.
    pub(crate) is_host: bool,
    /// A listed name was answered with it.
    pub(crate) is_named: bool,
}

impl Known {
    /// Of an address for which it does not matter.
    const NOTHING: Known = Known { is_host: false, is_named: false };
}

impl Policy {
    /// Reads a specification; the error names the field and what to write instead.
    pub(crate) fn new(spec: &EgressSpec) -> Result<Self, String> {
        if spec.rules.len() > EGRESS_RULES_MAX {
            return Err(format!("egress.rules: has more than {EGRESS_RULES_MAX}; join blocks"));
        }
        let rule = |(at, rule): (usize, &crate::spec::EgressRule)| {
            let block = Block::parse(&rule.block);
            let block = block.map_err(|error| format!("egress.rules[{at}].block: {error}"))?;
            match rule.ports {
                Some((first, last)) if first > last => {
                    Err(format!("egress.rules[{at}].ports: {first} is above {last}; swap them"))
                }
                ports => Ok(Rule { allow: rule.allow, block, ports }),
            }
        };
        let rules = spec.rules.iter().enumerate().map(rule).collect::<Result<_, _>>()?;
        let names = spec.names.as_ref().map(|names| {
            if names.len() > EGRESS_NAMES_MAX {
                return Err(format!("egress.names: has more than {EGRESS_NAMES_MAX}; use `*.`"));
            }
            names.iter().map(|name| Pattern::parse(name)).collect()
        });
        Ok(Self {
            rules,
            names: names.transpose()?,
            deny_by_default: spec.deny_by_default,
            transfer_bytes_max: spec.transfer_bytes_max,
        })
    }

    /// Whether an address and port may be reached. `known` is asked only if no rule decides.
    ///
    /// A rule that allows the whole internet opens no special range and not the host: that takes
    /// one which names them.
    pub(crate) fn allows(&self, address: IpAddr, port: u16, known: impl FnOnce() -> Known) -> bool {
        let address = canonical(address);
        let inner = match address {
            IpAddr::V6(it) => embedded(it).map(IpAddr::V4),
            IpAddr::V4(_) => None,
        };
        let matches = |rule: &&Rule| {
            let block = |address| rule.block.contains(address);
            (block(address) || inner.is_some_and(block))
                && rule.ports.is_none_or(|(first, last)| (first..=last).contains(&port))
        };
        let mut matching = self.rules.iter().filter(matches).peekable();
        let by_internet = matching.peek().is_some_and(|rule| rule.opens_internet());
        let decided = matching.find(|rule| !rule.opens_internet());
        if let Some(rule) = decided
            && !by_internet
        {
            return rule.allow;
        }
        let is_special = is_special(address);
        let known = if is_special { Known::NOTHING } else { known() };
        if is_special || known.is_host {
            return decided.is_some_and(|rule| rule.allow);
        }
        by_internet || known.is_named || !self.deny_by_default
    }

    /// Whether a name may be resolved.
    pub(crate) fn resolves(&self, name: &str) -> bool {
        self.names.as_ref().is_none_or(|names| names.iter().any(|it| it.covers(name)))
    }

    /// Whether the addresses of the names that may be resolved may be reached for that.
    pub(crate) fn opens_named(&self) -> bool {
        self.names.is_some()
    }
}

/// A name, or all names below one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    name: String,
    below: bool,
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        let below = text.starts_with("*.");
        let name = text.strip_prefix("*.").unwrap_or(text);
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-' || it == b'_')
        };
        if name.len() > 253 || !name.split('.').all(label) {
            return Err(format!(
                "egress.names: `{text}` is no name such as example.org, *.example.org"
            ));
        }
        Ok(Self { name, below })
    }

    /// `name` is in lower case, without a dot at its end.
    fn covers(&self, name: &str) -> bool {
        if self.below {
            name.strip_suffix(&self.name).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        } else {
            name == self.name
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::EgressRule;

    const NOTHING: Known = Known::NOTHING;
    const HOST: Known = Known { is_host: true, is_named: false };
    const NAMED: Known = Known { is_host: false, is_named: true };
    const NAMED_HOST: Known = Known { is_host: true, is_named: true };

    fn rule(allow: bool, block: &str, ports: Option<(u16, u16)>) -> EgressRule {
        EgressRule { allow, block: block.into(), ports }
    }

    fn check(spec: &EgressSpec, address: &str, port: u16, known: Known, expected: bool) {
        let policy = Policy::new(spec).expect("a policy");
        let address = address.parse().expect("an address");
        assert_eq!(policy.allows(address, port, || known), expected, "{spec:?} {address} {port}");
    }

    #[test]
    fn without_rules_the_internet_is_open_and_all_else_closed() {
        let spec = EgressSpec::default();
        check(&spec, "198.51.100.1", 80, NOTHING, true);
        check(&spec, "2001:db8::1", 80, NOTHING, true);
        check(&spec, "198.51.100.1", 80, HOST, false);
        check(&spec, "10.0.0.1", 80, NOTHING, false);
        check(&spec, "10.0.0.1", 80, NAMED, false);
        check(&spec, "169.254.169.254", 80, NAMED, false);
        check(&spec, "::ffff:10.0.0.1", 80, NOTHING, false);
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rules = vec![
            rule(false, "198.51.100.8/29", None),
            rule(true, "10.1.0.0/16", Some((443, 444))),
            rule(true, "198.51.100.0/24", None),
            rule(false, "0.0.0.0/0", None),
        ];
        let spec = EgressSpec { rules, ..EgressSpec::default() };
        check(&spec, "198.51.100.9", 80, NAMED, false);
        check(&spec, "198.51.100.1", 80, HOST, true);
        check(&spec, "10.1.2.3", 443, NOTHING, true);
        check(&spec, "10.1.2.3", 445, NOTHING, false);
        check(&spec, "203.0.113.1", 80, NAMED, false);
        check(&spec, "64:ff9b::10.1.2.3", 443, NOTHING, true);
        check(&spec, "64:ff9b::203.0.113.1", 443, NOTHING, false);
        check(&spec, "2002:c633:6409::1", 443, NOTHING, false);
        check(&spec, "2001:db8::1", 443, NOTHING, true);
    }

    #[test]
    fn a_rule_that_allows_the_internet_opens_neither_special_ranges_nor_the_host() {
        let rules = vec![
            rule(true, "0.0.0.0/0", None),
            rule(true, "10.1.0.0/16", None),
            rule(true, "::/0", None),
        ];
        let spec = EgressSpec { rules, deny_by_default: true, ..EgressSpec::default() };
        check(&spec, "198.51.100.1", 80, NOTHING, true);
        check(&spec, "2001:db8::1", 80, NOTHING, true);
        check(&spec, "169.254.169.254", 80, NOTHING, false);
        check(&spec, "127.0.0.1", 80, NOTHING, false);
        check(&spec, "::ffff:127.0.0.1", 80, NOTHING, false);
        check(&spec, "fe80::1", 80, NOTHING, false);
        check(&spec, "198.51.100.1", 80, HOST, false);
        check(&spec, "10.1.2.3", 80, NOTHING, true);
        check(&spec, "10.2.2.3", 80, NOTHING, false);
    }

    #[test]
    fn what_is_denied_by_default_is_opened_by_a_name_unless_it_is_special() {
        let spec = EgressSpec {
            names: Some(vec!["example.org".into()]),
            deny_by_default: true,
            ..EgressSpec::default()
        };
        check(&spec, "198.51.100.1", 80, NOTHING, false);
        check(&spec, "198.51.100.1", 80, NAMED, true);
        check(&spec, "198.51.100.1", 80, NAMED_HOST, false);
        check(&spec, "192.168.1.1", 80, NAMED, false);
    }

    #[test]
    fn names_are_covered_as_written() {
        let names = |list: &[&str]| EgressSpec {
            names: Some(list.iter().map(|it| (*it).to_owned()).collect()),
            ..EgressSpec::default()
        };
        let table = [
            ("example.org", "example.org", true),
            ("Example.ORG.", "example.org", true),
            ("example.org", "www.example.org", false),
            ("*.example.org", "www.example.org", true),
            ("*.example.org", "a.b.example.org", true),
            ("*.example.org", "example.org", false),
            ("*.example.org", "badexample.org", false),
            ("*.example.org", ".example.org", false),
        ];
        for (pattern, name, expected) in table {
            let policy = Policy::new(&names(&[pattern])).expect("a policy");
            assert_eq!(policy.resolves(name), expected, "{pattern} {name}");
        }
        assert!(Policy::default().resolves("anything.at.all"));
        assert!(!Policy::new(&names(&[])).expect("a policy").resolves("example.org"));
        for wrong in ["", "*", "*.", "a..b", "a b", "ex*mple.org", "-/x"] {
            let error = Policy::new(&names(&[wrong])).expect_err(wrong);
            assert!(error.starts_with("egress.names:"), "{error}");
        }
    }

    #[test]
    fn a_rule_that_is_wrong_is_named() {
        let spec = |rule| EgressSpec { rules: vec![rule], ..EgressSpec::default() };
        let error = Policy::new(&spec(rule(true, "10.0.0.1/8", None))).expect_err("refused");
        assert!(error.starts_with("egress.rules[0].block:"), "{error}");
        let error =
            Policy::new(&spec(rule(true, "10.0.0.0/8", Some((2, 1))))).expect_err("refused");
        assert!(error.starts_with("egress.rules[0].ports:"), "{error}");
    }
}
