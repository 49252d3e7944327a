//! The limits of a token: how they are written in it, and read.

use serde_json::{Map, Number, Value, json};
use spawnery_manifest::{AmountError, parse_bytes, parse_cores, parse_duration};
use spawnery_model::{Bytes, CpuMillis, DurationMs, OwnerLimits};

/// A limit that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// The limits are not an object.
    #[error("it is not an object of limits")]
    Kind,
    /// There is no such limit. It is refused, because whoever wrote it meant to limit something.
    #[error("there is no limit called `{0}`")]
    Unknown(String),
    /// Its value does not fit.
    #[error("`{name}`: {reason}")]
    Value {
        /// The limit.
        name: String,
        /// What is wrong.
        reason: String,
    },
}

/// Reads limits: an object with `memory`, `disk` and `transfer` (text as in a manifest, such as
/// `512M`, or a number of bytes), `cpu` (cores), `duration` and `idle_timeout` (text such as `10m`,
/// or a number of seconds), `pids`, `clients`, `sessions` and `creates_per_minute` (numbers).
pub fn parse(limits: &Value) -> Result<OwnerLimits, LimitError> {
    let fields = limits.as_object().ok_or(LimitError::Kind)?;
    let mut read = OwnerLimits::default();
    for (name, value) in fields {
        let set = match name.as_str() {
            "memory" => bytes(value).map(|it| read.memory = Some(it)),
            "cpu" => cores(value).map(|it| read.cpu = Some(it)),
            "disk" => bytes(value).map(|it| read.disk = Some(it)),
            "pids" => count(value).map(|it| read.pids = Some(it)),
            "clients" => count(value).map(|it| read.clients = Some(it)),
            "duration" => duration(value).map(|it| read.duration = Some(it)),
            "idle_timeout" => duration(value).map(|it| read.idle_timeout = Some(it)),
            "transfer" => bytes(value).map(|it| read.transfer = Some(it)),
            "sessions" => count(value).map(|it| read.sessions = Some(it)),
            "creates_per_minute" => count(value).map(|it| read.creates_per_minute = Some(it)),
            _ => return Err(LimitError::Unknown(name.chars().take(40).collect())),
        };
        set.map_err(|reason| LimitError::Value { name: name.clone(), reason })?;
    }
    Ok(read)
}

/// Writes limits so that [`parse`] reads exactly the same back.
pub fn to_json(limits: &OwnerLimits) -> Value {
    let bytes = |amount: &Option<Bytes>| amount.map(|it| json!(it.0));
    let count = |count: &Option<u32>| count.map(|it| json!(it));
    let duration = |time: &Option<DurationMs>| time.map(|it| json!(format!("{}ms", it.0)));
    let cores = |cpu: &CpuMillis| json!(format!("{}.{:03}", cpu.0 / 1000, cpu.0 % 1000));
    let fields = [
        ("memory", bytes(&limits.memory)),
        ("cpu", limits.cpu.as_ref().map(cores)),
        ("disk", bytes(&limits.disk)),
        ("pids", count(&limits.pids)),
        ("clients", count(&limits.clients)),
        ("duration", duration(&limits.duration)),
        ("idle_timeout", duration(&limits.idle_timeout)),
        ("transfer", bytes(&limits.transfer)),
        ("sessions", count(&limits.sessions)),
        ("creates_per_minute", count(&limits.creates_per_minute)),
    ];
    let given = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(given.collect::<Map<_, _>>())
}

fn bytes(value: &Value) -> Result<Bytes, String> {
    amount(value, "an amount such as 512M or a number of bytes", parse_bytes, Number::to_string)
}

fn cores(value: &Value) -> Result<CpuMillis, String> {
    amount(value, "a number of cores such as 0.5", parse_cores, Number::to_string)
}

fn duration(value: &Value) -> Result<DurationMs, String> {
    let expected = "a time such as 10m or a number of seconds";
    amount(value, expected, parse_duration, |seconds| format!("{seconds}s"))
}

fn amount<T>(
    value: &Value,
    expected: &str,
    parse: impl Fn(&str) -> Result<T, AmountError>,
    write: impl Fn(&Number) -> String,
) -> Result<T, String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => write(number),
        _ => return Err(format!("expected {expected}")),
    };
    parse(&text).map_err(|error| format!("{error}; expected {expected}"))
}

fn count(value: &Value) -> Result<u32, String> {
    let number = match value {
        Value::Number(number) => number.as_u64().and_then(|number| number.try_into().ok()),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    number.ok_or_else(|| "expected a number".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::option::of;
    use proptest::prelude::*;
    use spawnery_model::limits::{CPU_MAX, DURATION_MAX, MEMORY_MAX};

    #[test]
    fn limits_are_texts_as_in_a_manifest_or_numbers() {
        let check =
            |limits: Value, expected: Result<OwnerLimits, &str>| match (parse(&limits), expected) {
                (Ok(read), Ok(expected)) => assert_eq!(read, expected, "{limits}"),
                (Err(error), Err(part)) => {
                    let error = error.to_string();
                    assert!(error.contains(part), "{error:?} does not say {part:?}");
                }
                (read, expected) => panic!("{limits}: {read:?} instead of {expected:?}"),
            };
        let none = OwnerLimits::default;
        check(json!({}), Ok(none()));
        check(
            json!({"memory": "512M", "cpu": 0.5, "sessions": 3, "duration": "1h"}),
            Ok(OwnerLimits {
                memory: Some(Bytes(512 << 20)),
                cpu: Some(CpuMillis(500)),
                sessions: Some(3),
                duration: Some(DurationMs::from_secs(3600)),
                ..none()
            }),
        );
        let numbers = OwnerLimits {
            memory: Some(Bytes(1024)),
            cpu: Some(CpuMillis(2000)),
            idle_timeout: Some(DurationMs::from_secs(90)),
            ..none()
        };
        check(json!({"memory": 1024, "cpu": "2", "idle_timeout": 90}), Ok(numbers));
        check(json!({"memroy": "1G"}), Err("no limit called `memroy`"));
        check(json!({"memory": "1X"}), Err("`memory`"));
        check(json!({"memory": -1}), Err("`memory`"));
        check(json!({"memory": true}), Err("an amount such as"));
        check(json!({"sessions": -1}), Err("`sessions`: expected a number"));
        check(json!({"sessions": 5_000_000_000u64}), Err("`sessions`"));
        check(json!({"pids": 1.5}), Err("`pids`"));
        check(json!({"duration": "soon"}), Err("`duration`"));
        check(json!(["memory"]), Err("not an object"));
        check(json!(null), Err("not an object"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            memory in of(0..=MEMORY_MAX.0),
            cpu in of(1..=CPU_MAX.0),
            duration in of(0..=DURATION_MAX.0),
            sessions: Option<u32>,
        ) {
            let limits = OwnerLimits {
                memory: memory.map(Bytes),
                cpu: cpu.map(CpuMillis),
                duration: duration.map(DurationMs),
                sessions,
                ..OwnerLimits::default()
            };
            prop_assert_eq!(parse(&to_json(&limits)), Ok(limits));
        }
    }
}
