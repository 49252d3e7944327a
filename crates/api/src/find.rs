//! From what a path says to what it means: names, ids and the beginnings of ids.

use crate::asker::{Asker, forbidden};
use crate::failure::{Answer, Failure, code};
use crate::limits::ID_PREFIX_LENGTH_MIN;
use crate::parameters::invalid;
use spawnery_cluster::State;
use spawnery_cluster::state::{NodeEntry, Run};
use spawnery_model::{Id, Instance, InstanceId, Name, Origin};

/// Digits of a whole id.
const ID_LENGTH: usize = 16;

/// What `text` is as a name.
pub(crate) fn name(text: &str) -> Answer<Name> {
    Name::new(text).map_err(|error| invalid(format!("{:?} is not a name: {error}", shown(text))))
}

/// The instance that `text` means, an id or the beginning of one, of those that `asker` may see.
pub(crate) fn instance<'a>(state: &'a State, text: &str, asker: &Asker) -> Answer<&'a Instance> {
    let prefix = Prefix::parse(text)?;
    let from = state.instances_from(InstanceId(prefix.first));
    let from = from.take_while(|instance| prefix.matches(instance.id.0));
    let mut found = from.filter(|instance| asker.may_see(instance));
    only(text, "instance", found.next(), found.next().is_some()).map_err(|failure| {
        let failure = failure.unwrap_or(Failure::new(
            code::INSTANCE_UNKNOWN,
            format!("there is no instance {}", shown(text)),
        ));
        failure.hint("list what there is: GET /v1/instances")
    })
}

/// The same, of one that `asker` may use.
pub(crate) fn instance_to_use<'a>(
    state: &'a State,
    text: &str,
    asker: &Asker,
) -> Answer<&'a Instance> {
    usable(instance(state, text, asker)?, asker)
}

/// The same, of a session that `asker` may use.
pub(crate) fn session_to_use<'a>(
    state: &'a State,
    text: &str,
    asker: &Asker,
) -> Answer<&'a Instance> {
    usable(session(state, text, asker)?, asker)
}

fn usable<'a>(found: &'a Instance, asker: &Asker) -> Answer<&'a Instance> {
    match asker.may_touch(found) {
        true => Ok(found),
        false => Err(forbidden(format!("{} is not yours: you may only see it", found.id))),
    }
}

/// The session that `text` means, of those that `asker` may see.
pub(crate) fn session<'a>(state: &'a State, text: &str, asker: &Asker) -> Answer<&'a Instance> {
    let found = instance(state, text, asker)?;
    if matches!(found.origin, Origin::Session { .. }) {
        return Ok(found);
    }
    let detail = format!("{} is an instance of {}, not a session", found.id, found.workload);
    Err(Failure::new(code::INSTANCE_UNKNOWN, detail).hint("use /v1/instances instead"))
}

/// The run that `text` means.
pub(crate) fn run<'a>(state: &'a State, text: &str) -> Answer<&'a Run> {
    let prefix = Prefix::parse(text)?;
    let mut found = state.runs().filter(|run| prefix.matches(run.id.0));
    only(text, "run", found.next(), found.next().is_some()).map_err(|failure| {
        let detail = format!("there is no run {}", shown(text));
        let failure = failure.unwrap_or(Failure::new(code::RUN_UNKNOWN, detail));
        failure.hint("list what there is: GET /v1/runs")
    })
}

/// The node that `text` means: a name, an id or the beginning of one. A name goes first.
pub(crate) fn node<'a>(state: &'a State, text: &str) -> Answer<&'a NodeEntry> {
    if let Ok(name) = Name::new(text)
        && let Some(entry) = state.node_named(&name)
    {
        return Ok(entry);
    }
    let mut found = Prefix::parse(text).ok().into_iter().flat_map(|prefix| {
        let nodes = state.nodes();
        nodes.filter(move |entry| prefix.matches(entry.node.id.0))
    });
    only(text, "node", found.next(), found.next().is_some()).map_err(|failure| {
        let detail = format!("there is no node {}", shown(text));
        let failure = failure.unwrap_or(Failure::new(code::NODE_UNKNOWN, detail));
        failure.hint("list what there is: GET /v1/nodes")
    })
}

/// The only one that was found. `Err(None)` if there is none.
fn only<T>(text: &str, what: &str, first: Option<T>, several: bool) -> Result<T, Option<Failure>> {
    if several {
        let detail = format!("the id of more than one {what} begins with {}", shown(text));
        return Err(Some(Failure::new(code::ID_AMBIGUOUS, detail)));
    }
    first.ok_or(None)
}

/// The beginning of an id, or all of it.
struct Prefix {
    /// The lowest id that begins so.
    first: Id,
    /// How many bits of an id follow it.
    bits_free: u32,
}

impl Prefix {
    fn parse(text: &str) -> Answer<Prefix> {
        let length = text.len();
        let padded = format!("{text:0<ID_LENGTH$}");
        match padded.parse() {
            Ok(first) if length >= ID_PREFIX_LENGTH_MIN => {
                Ok(Prefix { first, bits_free: 5 * (ID_LENGTH - length) as u32 })
            }
            _ => Err(invalid(format!(
                "{:?} is not an id: an id has {ID_LENGTH} characters of 0-9 and a-z without i, l, \
                 o and u, of which the first {ID_PREFIX_LENGTH_MIN} or more may stand for it",
                shown(text)
            ))),
        }
    }

    fn matches(&self, id: Id) -> bool {
        id.bits() >> self.bits_free == self.first.bits() >> self.bits_free
    }
}

/// As much of a client's text as an error repeats.
fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_beginning_of_an_id_matches_it(bits: u128, length in ID_PREFIX_LENGTH_MIN..=ID_LENGTH) {
            let id = Id::from_bits(bits);
            let prefix = Prefix::parse(&id.to_string()[..length]).unwrap();
            prop_assert!(prefix.matches(id));
            prop_assert!(prefix.first <= id);
        }

        #[test]
        fn an_id_matches_only_beginnings_of_its_own(bits: u128, text in "[0-9a-hjkmnp-tv-z]{4,16}") {
            let id = Id::from_bits(bits);
            let matches = Prefix::parse(&text).unwrap().matches(id);
            prop_assert_eq!(matches, id.to_string().starts_with(&text));
        }

        #[test]
        fn rubbish_is_no_id(text: String) {
            if let Ok(prefix) = Prefix::parse(&text) {
                prop_assert!(prefix.first.to_string().starts_with(&text));
            }
        }
    }
}
