//! Names that people give and ids that Spawnery gives.

use crate::limits::NAME_LENGTH_MAX;
use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The name of a workload, a node or a port: a DNS label, because it becomes part of host names.
///
/// Lower-case letters, digits and hyphens, starting and ending with a letter or digit, at most
/// [`NAME_LENGTH_MAX`] characters (RFC 1123, section 2.1).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Serialize, Deserialize)]
#[cbor(transparent)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// Checks `text` and makes a name of it.
    pub fn new(text: impl Into<String>) -> Result<Name, NameError> {
        let text = text.into();
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > NAME_LENGTH_MAX {
            return Err(NameError::TooLong { length: text.len() });
        }
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if let Some(character) = text.chars().find(|c| !allowed(*c)) {
            return Err(NameError::Character { character });
        }
        if text.starts_with('-') || text.ends_with('-') {
            return Err(NameError::Hyphen);
        }
        Ok(Name(text))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is not a [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was written.
    #[error("a name cannot be empty")]
    Empty,
    /// Longer than a DNS label may be.
    #[error("a name has at most {NAME_LENGTH_MAX} characters, this one has {length}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// A character that a DNS label cannot have.
    #[error("a name has lower-case letters, digits and hyphens only, not {character:?}")]
    Character {
        /// The first such character.
        character: char,
    },
    /// A hyphen at either end.
    #[error("a name starts and ends with a letter or a digit, not a hyphen")]
    Hyphen,
}

impl TryFrom<String> for Name {
    type Error = NameError;
    fn try_from(text: String) -> Result<Name, NameError> {
        Name::new(text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}

impl FromStr for Name {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Name, NameError> {
        Name::new(text)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<'b, C> Decode<'b, C> for Name {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Name, minicbor::decode::Error> {
        Name::new(d.str()?).map_err(minicbor::decode::Error::message)
    }
}

/// The digits of Crockford's base 32: no `i`, `l`, `o` or `u`, so that ids survive being read out.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// An id of 80 random bits, shown as 16 characters.
///
/// Ids come from the shell (or the simulator's seed), never from the core, and never recur.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id(u128);

impl Id {
    const BITS: u32 = 80;
    const LENGTH: usize = 16;

    /// The id made of the lowest 80 bits of `bits`.
    pub const fn from_bits(bits: u128) -> Id {
        Id(bits & ((1 << Id::BITS) - 1))
    }

    /// The 80 bits.
    pub const fn bits(self) -> u128 {
        self.0
    }

    /// The first eight characters: enough to tell instances apart in a table.
    pub fn short(self) -> String {
        self.to_string()[..8].to_owned()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; Id::LENGTH];
        for (place, digit) in text.iter_mut().enumerate() {
            let shift = 5 * (Id::LENGTH - 1 - place);
            *digit = DIGITS[((self.0 >> shift) & 31) as usize];
        }
        f.pad(std::str::from_utf8(&text).expect("the digits are ASCII"))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an id: an id has 16 characters of 0-9 and a-z without i, l, o and u")]
pub struct IdParseError {
    text: String,
}

impl FromStr for Id {
    type Err = IdParseError;
    fn from_str(text: &str) -> Result<Id, IdParseError> {
        let error = || IdParseError { text: text.chars().take(40).collect() };
        if text.len() != Id::LENGTH {
            return Err(error());
        }
        let mut bits = 0u128;
        for byte in text.bytes() {
            let digit = DIGITS.iter().position(|d| *d == byte).ok_or_else(error)?;
            bits = (bits << 5) | digit as u128;
        }
        Ok(Id(bits))
    }
}

impl TryFrom<String> for Id {
    type Error = IdParseError;
    fn try_from(text: String) -> Result<Id, IdParseError> {
        text.parse()
    }
}

impl From<Id> for String {
    fn from(id: Id) -> String {
        id.to_string()
    }
}

impl<C> Encode<C> for Id {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.0.to_be_bytes()[6..])?;
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for Id {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Id, minicbor::decode::Error> {
        let bytes = d.bytes()?;
        if bytes.len() != 10 {
            return Err(minicbor::decode::Error::message("an id has ten bytes"));
        }
        Ok(Id(bytes.iter().fold(0, |bits, byte| (bits << 8) | u128::from(*byte))))
    }
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize,
            Deserialize,
        )]
        #[cbor(transparent)]
        #[serde(transparent)]
        pub struct $name(pub Id);

        impl $name {
            /// The first eight characters, for tables.
            pub fn short(self) -> String {
                self.0.short()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = IdParseError;
            fn from_str(text: &str) -> Result<$name, IdParseError> {
                text.parse().map($name)
            }
        }
    };
}

id_type! {
    /// One execution of a workload on one node. A session is an instance, so this is its id too.
    InstanceId
}
id_type! {
    /// A machine on which an agent runs; kept for as long as the agent keeps its data.
    NodeId
}
id_type! {
    /// One occurrence of a job; its attempts are instances.
    RunId
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_dns_labels() {
        let check = |text: &str, error: Option<NameError>| {
            assert_eq!(Name::new(text).err(), error, "{text:?}");
        };
        check("web", None);
        check("web-2", None);
        check("0", None);
        check(&"a".repeat(63), None);
        check("", Some(NameError::Empty));
        check(&"a".repeat(64), Some(NameError::TooLong { length: 64 }));
        check("Web", Some(NameError::Character { character: 'W' }));
        check("a.b", Some(NameError::Character { character: '.' }));
        check("-a", Some(NameError::Hyphen));
        check("a-", Some(NameError::Hyphen));
    }

    proptest! {
        #[test]
        fn an_id_survives_both_encodings(bits: u128) {
            let id = Id::from_bits(bits);
            prop_assert_eq!(id.to_string().parse::<Id>().unwrap(), id);
            let encoded = minicbor::to_vec(id).unwrap();
            prop_assert_eq!(minicbor::decode::<Id>(&encoded).unwrap(), id);
        }

        #[test]
        fn rubbish_is_refused_as_an_id_or_reads_back_the_same(text: String) {
            if let Ok(id) = text.parse::<Id>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
