//! The settings: their names, meanings and checks. Everything else about them follows from here.

use spawnery_controller::access::KeySource;
use spawnery_model::Name;
use std::net::{SocketAddr, ToSocketAddrs};

/// Something that can be set by an option, in the environment or in the configuration file.
pub(crate) struct Setting {
    /// Its name in the file, and as the id of its option.
    pub(crate) name: &'static str,
    /// Its option; none for what must not be in a process list.
    pub(crate) flag: Option<&'static str>,
    /// Its environment variable.
    pub(crate) variable: &'static str,
    /// Whether it is a list.
    pub(crate) is_list: bool,
    /// Whether it is never shown.
    pub(crate) is_secret: bool,
    /// What is wrong with a value: what would be right.
    pub(crate) check: fn(&str) -> Result<(), String>,
}

/// All settings.
pub(crate) const SETTINGS: &[Setting] = &[
    one("data", Some("--data"), "SPAWNERY_DATA", any),
    one("listen", Some("--listen"), "SPAWNERY_LISTEN", address),
    one("link_listen", Some("--link-listen"), "SPAWNERY_LINK_LISTEN", address),
    Setting {
        is_list: true,
        ..one("trusted_proxies", Some("--trusted-proxy"), "SPAWNERY_TRUSTED_PROXIES", networks)
    },
    secret("jwt_secret", Some("--jwt-secret"), "SPAWNERY_JWT_SECRET"),
    one("jwt_secret_file", Some("--jwt-secret-file"), "SPAWNERY_JWT_SECRET_FILE", any),
    Setting { is_list: true, ..one("jwks", Some("--jwks"), "SPAWNERY_JWKS", key_source) },
    one("jwt_issuer", Some("--jwt-issuer"), "SPAWNERY_JWT_ISSUER", any),
    one("jwt_audience", Some("--jwt-audience"), "SPAWNERY_JWT_AUDIENCE", any),
    one("tls_listen", Some("--tls-listen"), "SPAWNERY_TLS_LISTEN", address),
    one("redirect_listen", Some("--redirect-listen"), "SPAWNERY_REDIRECT_LISTEN", address),
    Setting { is_list: true, ..one("tls_cert", Some("--tls-cert"), "SPAWNERY_TLS_CERT", any) },
    Setting { is_list: true, ..one("tls_key", Some("--tls-key"), "SPAWNERY_TLS_KEY", any) },
    Setting { is_list: true, ..one("domains", Some("--domain"), "SPAWNERY_DOMAINS", domain) },
    Setting { is_list: true, ..one("acme", Some("--acme"), "SPAWNERY_ACME", certificate_name) },
    one("acme_proof", Some("--acme-proof"), "SPAWNERY_ACME_PROOF", proof),
    one("acme_hook", Some("--acme-hook"), "SPAWNERY_ACME_HOOK", any),
    one("acme_directory", Some("--acme-directory"), "SPAWNERY_ACME_DIRECTORY", web_address),
    Setting {
        is_list: true,
        ..one("acme_contacts", Some("--acme-contact"), "SPAWNERY_ACME_CONTACTS", contact)
    },
    one("acme_root", Some("--acme-root"), "SPAWNERY_ACME_ROOT", any),
    one("agent", Some("--no-agent"), "SPAWNERY_AGENT", boolean),
    one("name", Some("--name"), "SPAWNERY_NAME", name),
    Setting { is_list: true, ..one("labels", Some("--label"), "SPAWNERY_LABELS", label) },
    one("allow_host_network", Some("--allow-host-network"), "SPAWNERY_ALLOW_HOST_NETWORK", boolean),
    Setting {
        is_list: true,
        ..one("allow_devices", Some("--allow-device"), "SPAWNERY_ALLOW_DEVICES", device)
    },
    Setting {
        is_list: true,
        ..one("allow_mounts", Some("--allow-mount"), "SPAWNERY_ALLOW_MOUNTS", folder)
    },
    one("memory_total", Some("--memory-total"), "SPAWNERY_MEMORY_TOTAL", memory),
    one("cpu_total", Some("--cpu-total"), "SPAWNERY_CPU_TOTAL", cpu),
    one("duration_warning", Some("--duration-warning"), "SPAWNERY_DURATION_WARNING", duration),
    one("idle_warning", Some("--idle-warning"), "SPAWNERY_IDLE_WARNING", duration),
    one("stale_period", Some("--stale-period"), "SPAWNERY_STALE_PERIOD", duration),
    one("default_runtime", Some("--default-runtime"), "SPAWNERY_DEFAULT_RUNTIME", runtime),
    one("oci_runtime", Some("--oci-runtime"), "SPAWNERY_OCI_RUNTIME", any),
    one("docker_socket", Some("--docker-socket"), "SPAWNERY_DOCKER_SOCKET", folder),
    one("environments_size", Some("--environments-size"), "SPAWNERY_ENVIRONMENTS_SIZE", memory),
    one("build_network", Some("--build-network"), "SPAWNERY_BUILD_NETWORK", build_network),
    one("debian_mirror", Some("--debian-mirror"), "SPAWNERY_DEBIAN_MIRROR", web_address),
    one("python_index", Some("--python-index"), "SPAWNERY_PYTHON_INDEX", web_address),
    one("uv", Some("--uv"), "SPAWNERY_UV", any),
    Setting {
        is_list: true,
        ..one("http_registries", Some("--http-registry"), "SPAWNERY_HTTP_REGISTRIES", any)
    },
    Setting {
        is_list: true,
        ..one("git_folders", Some("--git-folder"), "SPAWNERY_GIT_FOLDERS", folder)
    },
    one("join", Some("--join"), "SPAWNERY_JOIN", any),
    secret("join_token", Some("--token"), "SPAWNERY_JOIN_TOKEN"),
    one("url", Some("--url"), "SPAWNERY_URL", url),
    // In the file, `token` is the table of the command.
    secret("access_token", None, "SPAWNERY_TOKEN"),
    one("log_level", Some("--log-level"), "SPAWNERY_LOG_LEVEL", log_level),
    one("json", Some("--json"), "SPAWNERY_JSON", boolean),
    one("color", Some("--color"), "SPAWNERY_COLOR", color),
    one("memory", Some("--memory"), "SPAWNERY_MEMORY", memory),
    one("cpu", Some("--cpu"), "SPAWNERY_CPU", cpu),
    one("pids", Some("--pids"), "SPAWNERY_PIDS", pids),
    one("network", Some("--network"), "SPAWNERY_NETWORK", network),
];

type Check = fn(&str) -> Result<(), String>;

const fn one(
    name: &'static str,
    flag: Option<&'static str>,
    variable: &'static str,
    check: Check,
) -> Setting {
    Setting { name, flag, variable, is_list: false, is_secret: false, check }
}

const fn secret(name: &'static str, flag: Option<&'static str>, variable: &'static str) -> Setting {
    let setting = one(name, flag, variable, any);
    Setting { is_secret: true, ..setting }
}

/// The setting with this name.
pub(crate) fn setting(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

fn any(text: &str) -> Result<(), String> {
    match text.is_empty() {
        true => Err("something that is not empty".to_owned()),
        false => Ok(()),
    }
}

fn address(text: &str) -> Result<(), String> {
    parse_address(text).map(drop)
}

/// The address in `text`; a host name becomes its first address.
pub(crate) fn parse_address(text: &str) -> Result<SocketAddr, String> {
    const EXPECTED: &str = "ADDRESS:PORT such as 127.0.0.1:9000";
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let mut found = text.to_socket_addrs().map_err(|_| EXPECTED.to_owned())?;
    found.next().ok_or_else(|| EXPECTED.to_owned())
}

fn domain(text: &str) -> Result<(), String> {
    let is_label = |label: &str| {
        let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !label.is_empty() && label.len() <= 63 && label.bytes().all(known)
    };
    match text.len() <= 253 && text.split('.').all(is_label) {
        true => Ok(()),
        false => Err("a domain such as apps.example.org".to_owned()),
    }
}

fn certificate_name(text: &str) -> Result<(), String> {
    let expected = |_| "a name such as example.org or *.example.org".to_owned();
    domain(text.strip_prefix("*.").unwrap_or(text)).map_err(expected)
}

/// How a certificate authority is shown that names are ours.
pub(crate) const PROOFS: [&str; 3] = ["http", "tls", "dns"];

fn proof(text: &str) -> Result<(), String> {
    one_of(text, &PROOFS)
}

fn contact(text: &str) -> Result<(), String> {
    match text.strip_prefix("mailto:").is_some_and(|rest| rest.contains('@')) {
        true => Ok(()),
        false => Err("an address such as mailto:admin@example.org".to_owned()),
    }
}

fn networks(text: &str) -> Result<(), String> {
    text.parse::<spawnery_gateway::Network>().map(drop).map_err(|expected| expected.to_string())
}

fn boolean(text: &str) -> Result<(), String> {
    parse_boolean(text).map(drop)
}

/// Whether `text` says yes.
pub(crate) fn parse_boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" | "yes" => Ok(true),
        "false" | "0" | "no" => Ok(false),
        _ => Err("true or false".to_owned()),
    }
}

fn name(text: &str) -> Result<(), String> {
    let expected = |error| format!("a name such as node-1 ({error})");
    Name::new(text).map(drop).map_err(expected)
}

fn label(text: &str) -> Result<(), String> {
    parse_label(text).map(drop)
}

/// The key and the value of a label.
pub(crate) fn parse_label(text: &str) -> Result<(String, String), String> {
    let Some((key, value)) = text.split_once('=') else {
        return Err("KEY=VALUE such as zone=eu-1".to_owned());
    };
    let checked = spawnery_manifest::check_label(key, value);
    checked.map_err(|error| format!("a label that is valid ({error})"))?;
    Ok((key.to_owned(), value.to_owned()))
}

fn url(text: &str) -> Result<(), String> {
    let made = spawnery_client::Client::new(text, None);
    made.map(drop).map_err(|_| "http://HOST:PORT".to_owned())
}

fn web_address(text: &str) -> Result<(), String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['@', ' '])) {
        true => Ok(()),
        false => {
            Err("a URL such as https://mirror.example.org/path, without a password".to_owned())
        }
    }
}

fn key_source(text: &str) -> Result<(), String> {
    text.parse::<KeySource>().map(drop)
}

/// What commands of builds may reach.
pub(crate) const BUILD_NETWORKS: [&str; 2] = ["private", "host"];

fn build_network(text: &str) -> Result<(), String> {
    one_of(text, &BUILD_NETWORKS)
}

/// The levels of the log, from few to many words.
pub(crate) const LOG_LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

fn log_level(text: &str) -> Result<(), String> {
    one_of(text, &LOG_LEVELS)
}

/// When to colour.
pub(crate) const COLORS: [&str; 3] = ["auto", "always", "never"];

fn color(text: &str) -> Result<(), String> {
    one_of(text, &COLORS)
}

fn network(text: &str) -> Result<(), String> {
    one_of(text, &["none", "private", "host"])
}

fn device(text: &str) -> Result<(), String> {
    match text.starts_with("/dev/") && folder(text).is_ok() {
        true => Ok(()),
        false => Err("a device below /dev such as /dev/kvm".to_owned()),
    }
}

fn folder(text: &str) -> Result<(), String> {
    let expected = "an absolute path without `.`, `..` and double slashes".to_owned();
    let rest = text.strip_prefix('/').ok_or_else(|| expected.clone())?;
    let is_plain = |part: &str| !matches!(part, "" | "." | "..");
    match rest.split('/').all(is_plain) {
        true => Ok(()),
        false => Err(expected),
    }
}

fn one_of(text: &str, words: &[&str]) -> Result<(), String> {
    match words.contains(&text) {
        true => Ok(()),
        false => Err(format!("one of {}", words.join(", "))),
    }
}

fn memory(text: &str) -> Result<(), String> {
    let expected = |_| "an amount such as 512M or 4G".to_owned();
    spawnery_manifest::parse_bytes(text).map(drop).map_err(expected)
}

fn duration(text: &str) -> Result<(), String> {
    let expected = |_| "a time with its unit, such as 60s, 10m or 1h".to_owned();
    spawnery_manifest::parse_duration(text).map(drop).map_err(expected)
}

/// The runtimes that workloads may name.
pub(crate) const RUNTIMES: [&str; 3] = ["process", "oci", "docker"];

fn runtime(text: &str) -> Result<(), String> {
    one_of(text, &RUNTIMES)
}

fn cpu(text: &str) -> Result<(), String> {
    let expected = |_| "a number of cores such as 2 or 0.5".to_owned();
    spawnery_manifest::parse_cores(text).map(drop).map_err(expected)
}

fn pids(text: &str) -> Result<(), String> {
    let parsed = text.parse::<u32>();
    parsed.map(drop).map_err(|_| "a number such as 100".to_owned())
}
