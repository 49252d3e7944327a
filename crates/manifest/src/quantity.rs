//! Amounts with a unit, as people write them.

use crate::error::quoted;
use spawnery_model::limits::{CPU_MAX, DURATION_MAX, MEMORY_MAX};
use spawnery_model::{Bytes, CpuMillis, DurationMs};

/// Why a text is no amount: what was found, and how to mend it where that is clear.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found}{}", hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default())]
pub struct AmountError {
    /// What was found.
    pub found: String,
    /// How to mend it, where that is clear.
    pub hint: Option<String>,
}

impl AmountError {
    fn new(found: impl Into<String>) -> AmountError {
        AmountError { found: found.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> AmountError {
        self.hint = Some(hint.into());
        self
    }
}

/// Reads an amount of memory or storage: `512M`, `1.5G`, `64KiB`, plain bytes.
///
/// Units are powers of 1024 with or without `i` and `B`, in any case, as in Docker and systemd.
pub fn bytes(text: &str) -> Result<Bytes, AmountError> {
    let (number, unit) = split(text)?;
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "ki" | "kib" => 10,
        "m" | "mb" | "mi" | "mib" => 20,
        "g" | "gb" | "gi" | "gib" => 30,
        "t" | "tb" | "ti" | "tib" => 40,
        _ => {
            let found = format!("{} has the unknown unit {}", quoted(text), quoted(unit));
            return Err(AmountError::new(found).hint("the units are B, K, M, G and T"));
        }
    };
    match number.times(1 << shift) {
        Some(bytes) if bytes <= u128::from(MEMORY_MAX.0) => Ok(Bytes(bytes as u64)),
        _ => Err(AmountError::new(format!(
            "{} is more than {}, the most that can be asked for",
            quoted(text),
            whole_bytes(MEMORY_MAX)
        ))),
    }
}

/// Reads a number of cores: `2`, `0.5`.
pub fn cores(text: &str) -> Result<CpuMillis, AmountError> {
    let (number, unit) = split(text)?;
    match unit {
        "" => {}
        "m" => {
            let error = AmountError::new(format!("{} is in thousandths", quoted(text)));
            return Err(match number.times(1).map(|millis| millis.min(1 << 30) as u32) {
                Some(millis) => error.hint(format!("write {}", CpuMillis(millis))),
                None => error,
            });
        }
        _ => {
            let found = format!("{} has a unit", quoted(text));
            return Err(AmountError::new(found).hint("write the number of cores alone"));
        }
    }
    if number.scaled(1000).is_some_and(|(_, rest)| rest != 0) {
        let found = format!("{} has more than three digits after the point", quoted(text));
        return Err(AmountError::new(found).hint("round it to thousandths of a core"));
    }
    match number.times(1000) {
        Some(0) => Err(AmountError::new("no processor share at all")),
        Some(millis) if millis <= u128::from(CPU_MAX.0) => Ok(CpuMillis(millis as u32)),
        _ => Err(AmountError::new(format!(
            "{} is more than {CPU_MAX} cores, the most that can be asked for",
            quoted(text)
        ))),
    }
}

/// Reads a length of time: `500ms`, `10s`, `5m`, `1h30m`, `2d`.
pub fn duration(text: &str) -> Result<DurationMs, AmountError> {
    let mut rest = text.trim();
    let mut sum = 0u128;
    loop {
        let (number, after) = Decimal::take(rest).ok_or_else(|| no_number(text))?;
        let after = after.trim_start();
        let unit_length = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_length);
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "" => {
                let error = AmountError::new(format!("{} has no unit", quoted(text)));
                let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
                let hint = format!("write {text}s if seconds are meant");
                return Err(if is_number { error.hint(hint) } else { error });
            }
            _ => {
                let found = format!("{} has the unknown unit {}", quoted(text), quoted(unit));
                return Err(AmountError::new(found).hint("the units are ms, s, m, h and d"));
            }
        };
        sum = sum.saturating_add(number.times(unit_ms).unwrap_or(u128::MAX));
        rest = after.trim_start();
        if rest.is_empty() {
            break;
        }
    }
    if sum > u128::from(DURATION_MAX.0) {
        return Err(AmountError::new(format!(
            "{} is more than {} days, the longest time that can be asked for",
            quoted(text),
            DURATION_MAX.0 / 86_400_000
        )));
    }
    Ok(DurationMs(sum as u64))
}

/// Writes bytes so that [`bytes`] reads exactly the same back.
pub(crate) fn whole_bytes(bytes: Bytes) -> String {
    let units = [(40, "T"), (30, "G"), (20, "M"), (10, "K")];
    let whole = |(shift, _): &&(u32, &str)| bytes.0 != 0 && bytes.0.trailing_zeros() >= *shift;
    match units.iter().find(whole) {
        Some((shift, unit)) => format!("{}{unit}", bytes.0 >> shift),
        None => format!("{}B", bytes.0),
    }
}

/// Writes a time so that [`duration`] reads exactly the same back.
pub(crate) fn whole_duration(duration: DurationMs) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
    let whole = |(ms, _): &&(u64, &str)| duration.0 != 0 && duration.0.is_multiple_of(*ms);
    match units.iter().find(whole) {
        Some((ms, unit)) => format!("{}{unit}", duration.0 / ms),
        None => format!("{}ms", duration.0),
    }
}

/// Splits `1.5 G` into its number and its unit.
fn split(text: &str) -> Result<(Decimal, &str), AmountError> {
    let (number, unit) = Decimal::take(text.trim()).ok_or_else(|| no_number(text))?;
    Ok((number, unit.trim_start()))
}

fn no_number(text: &str) -> AmountError {
    let found = match text.trim() {
        "" => "empty text".to_owned(),
        negative if negative.starts_with('-') => format!("{} is negative", quoted(text)),
        _ => format!("{} does not start with a number", quoted(text)),
    };
    AmountError::new(found)
}

/// A number without sign and exponent, exact.
#[derive(Debug, Clone, Copy)]
struct Decimal {
    /// All digits, those after the point too.
    digits: u128,
    /// Ten to the power of how many of them stand after the point.
    divisor: u128,
    /// Whether it is larger than anything that can be asked for.
    is_huge: bool,
}

impl Decimal {
    /// Takes a number from the start of `text`.
    fn take(text: &str) -> Option<(Decimal, &str)> {
        let digits_in = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let (whole, mut rest) = text.split_at(digits_in(text));
        if whole.is_empty() {
            return None;
        }
        let mut fraction = "";
        if let Some(after) = rest.strip_prefix('.') {
            (fraction, rest) = after.split_at(digits_in(after));
            if fraction.is_empty() {
                return None;
            }
        }
        // 20 + 12 digits times any unit stay within 128 bits.
        let whole = whole.trim_start_matches('0');
        let fraction = fraction.trim_end_matches('0');
        let fraction = &fraction[..fraction.len().min(12)];
        let is_huge = whole.len() > 20;
        let digits = match is_huge {
            true => 0,
            false => format!("0{whole}{fraction}").parse().ok()?,
        };
        let divisor = 10u128.pow(fraction.len() as u32);
        let decimal = Decimal { digits, divisor, is_huge };
        Some((decimal, rest))
    }

    /// The number times `unit`, rounded down; nothing when it is huge.
    fn times(self, unit: u64) -> Option<u128> {
        Some(self.scaled(unit)?.0)
    }

    /// The number times `unit` and what rounding cut off.
    fn scaled(self, unit: u64) -> Option<(u128, u128)> {
        if self.is_huge {
            return None;
        }
        let product = self.digits.checked_mul(u128::from(unit))?;
        Some((product / self.divisor, product % self.divisor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts_are_read_exactly() {
        let check = |text: &str, expected: u64| assert_eq!(bytes(text), Ok(Bytes(expected)));
        check("0", 0);
        check("1", 1);
        check("1024", 1024);
        check("512M", 512 << 20);
        check("512m", 512 << 20);
        check("512 MiB", 512 << 20);
        check("512MB", 512 << 20);
        check("512Mi", 512 << 20);
        check("1.5G", 3 << 29);
        check("0.1K", 102);
        check("1024T", 1 << 50);
        check("007B", 7);
        let check = |text: &str, expected: u32| assert_eq!(cores(text), Ok(CpuMillis(expected)));
        check("1", 1000);
        check("0.5", 500);
        check("0.001", 1);
        check("1.2500", 1250);
        check("10000", 10_000_000);
        let check = |text: &str, ms: u64| assert_eq!(duration(text), Ok(DurationMs(ms)));
        check("0s", 0);
        check("500ms", 500);
        check("10s", 10_000);
        check("1.5s", 1500);
        check("1h30m", 5_400_000);
        check("1h 30m", 5_400_000);
        check("2d", 172_800_000);
        check("10 s", 10_000);
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in ["", "M", "-1M", "1.G", ".5G", "1X", "1e3", "99999999999999999999999999M"] {
            assert!(bytes(text).is_err(), "{text}");
        }
        for text in ["", "0", "0.0", "-1", "0.0001", "1e3", "500m", "50%", "10001", "1 core"] {
            assert!(cores(text).is_err(), "{text}");
        }
        for text in ["", "10", "10S", "s", "-1s", "10 minutes", "1h30", "4000d", "1s;"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(amount in 0..=MEMORY_MAX.0, ms in 0..=DURATION_MAX.0) {
            prop_assert_eq!(bytes(&whole_bytes(Bytes(amount))), Ok(Bytes(amount)));
            let ms = DurationMs(ms);
            prop_assert_eq!(duration(&whole_duration(ms)), Ok(ms));
        }

        #[test]
        fn rubbish_is_refused_without_a_panic(text in "[0-9.]{0,60}[a-zA-Z ]{0,3}\\PC{0,3}") {
            let _ = (bytes(&text), cores(&text), duration(&text));
        }
    }
}
