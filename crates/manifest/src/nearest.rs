//! The valid name that somebody probably meant.

/// Names that other systems have for our fields.
const SYNONYMS: &[(&str, &str)] = &[
    ("args", "run"),
    ("autorestart", "restart"),
    ("cmd", "run"),
    ("command", "run"),
    ("concurrency", "overlap"),
    ("concurrencypolicy", "overlap"),
    ("constraint", "constraints"),
    ("count", "replicas"),
    ("cpus", "cpu"),
    ("cron", "schedule"),
    ("cwd", "working_directory"),
    ("deadline", "start_deadline"),
    ("environmentvariables", "env"),
    ("networks", "network"),
    ("exec", "run"),
    ("execstart", "run"),
    ("instances", "replicas"),
    ("maxduration", "duration"),
    ("mem", "memory"),
    ("memalloc", "memory"),
    ("memlimit", "memory"),
    ("networkmode", "network"),
    ("pidslimit", "pids"),
    ("retries", "attempts"),
    ("scale", "replicas"),
    ("startingdeadlineseconds", "start_deadline"),
    ("stopgraceperiod", "stop"),
    ("stopsignal", "stop"),
    ("ttl", "duration"),
    ("tz", "time_zone"),
    ("workdir", "working_directory"),
    ("workingdir", "working_directory"),
];

/// Asks whether the nearest of `names` was meant, if one is near enough to `name`.
pub(crate) fn nearest(name: &str, names: &[&str]) -> Option<String> {
    let meant = nearest_name(name, names)?;
    Some(format!("did you mean `{meant}`?"))
}

fn nearest_name<'n>(name: &str, names: &[&'n str]) -> Option<&'n str> {
    // What is long is no slip of a finger, and comparing costs the product of the lengths.
    const LENGTH_MAX: usize = 64;
    if name.len() > LENGTH_MAX {
        return None;
    }
    let name = folded(name);
    let synonym = SYNONYMS.iter().find(|(foreign, _)| *foreign == name);
    if let Some(found) = names.iter().find(|own| synonym.is_some_and(|(_, ours)| ours == *own)) {
        return Some(found);
    }
    let distance = |own: &str| strsim::damerau_levenshtein(&name, &folded(own));
    let (found, distance) =
        names.iter().map(|own| (*own, distance(own))).min_by_key(|(_, distance)| *distance)?;
    let distance_max = (name.chars().count().max(found.len()) / 3).max(1);
    (distance <= distance_max && distance < name.chars().count().max(2)).then_some(found)
}

/// Without what spellings differ in: case, hyphens and underscores.
fn folded(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '-' | '_')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not() {
        const NAMES: &[&str] = &["run", "env", "memory", "working_directory", "cpu", "cpuShares"];
        let check = |name, expected| assert_eq!(nearest_name(name, NAMES), expected, "{name}");
        check("memmory", Some("memory"));
        check("memroy", Some("memory"));
        check("MEMORY", Some("memory"));
        check("memAlloc", Some("memory"));
        check("workingDirectory", Some("working_directory"));
        check("working-dir", Some("working_directory"));
        check("rum", Some("run"));
        check("cpu_shares", Some("cpuShares"));
        check("tty", None);
        check("image", None);
        check("", None);
        check(&"x".repeat(1000), None);
    }
}
