//! Quantities with their unit in the type.

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A point in time: milliseconds since the Unix epoch, as the controller's shell saw it.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Encode,
    Decode,
    Serialize,
    Deserialize,
)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The time `duration` later; saturates at the end of time.
    pub fn plus(self, duration: DurationMs) -> Timestamp {
        Timestamp(self.0.saturating_add(duration.0))
    }

    /// How long after `earlier` this is; zero if it is before.
    pub fn since(self, earlier: Timestamp) -> DurationMs {
        DurationMs(self.0.saturating_sub(earlier.0))
    }
}

/// A length of time in milliseconds.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Encode,
    Decode,
    Serialize,
    Deserialize,
)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct DurationMs(pub u64);

impl DurationMs {
    /// A length of whole seconds.
    pub const fn from_secs(seconds: u64) -> DurationMs {
        DurationMs(seconds * 1000)
    }
}

impl fmt::Display for DurationMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ms, unit) = match self.0 {
            ms if ms < 1000 => return write!(f, "{ms}ms"),
            ms if ms < 60_000 || !ms.is_multiple_of(60_000) => (1000, "s"),
            ms if ms < 3_600_000 || !ms.is_multiple_of(3_600_000) => (60_000, "m"),
            _ => (3_600_000, "h"),
        };
        if self.0.is_multiple_of(ms) {
            write!(f, "{}{unit}", self.0 / ms)
        } else {
            write!(f, "{}.{}{unit}", self.0 / ms, (self.0 % ms) / 100)
        }
    }
}

/// An amount of memory or storage in bytes.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Encode,
    Decode,
    Serialize,
    Deserialize,
)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    /// Mebibytes (2^20 bytes).
    pub const fn mib(count: u64) -> Bytes {
        Bytes(count << 20)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 4] =
            [(1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
        for (size, unit) in UNITS {
            if self.0 >= size {
                let tenths = (u128::from(self.0) * 10 / u128::from(size)) as u64;
                return match tenths % 10 {
                    0 => write!(f, "{}{unit}", tenths / 10),
                    tenth => write!(f, "{}.{tenth}{unit}", tenths / 10),
                };
            }
        }
        write!(f, "{}B", self.0)
    }
}

/// Processor time in thousandths of a core: 1000 is one core, all of the time.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Encode,
    Decode,
    Serialize,
    Deserialize,
)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct CpuMillis(pub u32);

impl fmt::Display for CpuMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 % 1000 {
            0 => write!(f, "{}", self.0 / 1000),
            rest if rest.is_multiple_of(100) => write!(f, "{}.{}", self.0 / 1000, rest / 100),
            rest => write!(f, "{}.{rest:03}", self.0 / 1000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_as_a_person_would_write_them() {
        let check = |shown: String, expected: &str| assert_eq!(shown, expected);
        check(Bytes(0).to_string(), "0B");
        check(Bytes(1536).to_string(), "1.5K");
        check(Bytes::mib(512).to_string(), "512M");
        check(Bytes(5 << 30).to_string(), "5G");
        check(CpuMillis(1000).to_string(), "1");
        check(CpuMillis(500).to_string(), "0.5");
        check(CpuMillis(1250).to_string(), "1.250");
        check(DurationMs(20).to_string(), "20ms");
        check(DurationMs(1500).to_string(), "1.5s");
        check(DurationMs::from_secs(90).to_string(), "90s");
        check(DurationMs::from_secs(120).to_string(), "2m");
        check(DurationMs::from_secs(7200).to_string(), "2h");
    }

    #[test]
    fn time_saturates_instead_of_wrapping() {
        assert_eq!(Timestamp(u64::MAX).plus(DurationMs(5)), Timestamp(u64::MAX));
        assert_eq!(Timestamp(3).since(Timestamp(9)), DurationMs(0));
    }
}
