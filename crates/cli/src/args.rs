//! The command line.

use crate::commands;
use crate::config::{BUILD_NETWORKS, COLORS, LOG_LEVELS, PROOFS, RUNTIMES};
use crate::exit;
use clap::{Args, Parser, Subcommand};

/// Spawns sessions, services and jobs on one machine or on many: isolated, reproducible, in
/// milliseconds, with nothing lost when a machine, a network or the controller fails.
#[derive(Debug, Parser)]
#[command(name = "spawnery", version, max_term_width = 90, after_help = exit::HELP)]
#[command(disable_help_subcommand = true, infer_subcommands = false)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Print data as JSON: one document, or one line each for a stream [env: SPAWNERY_JSON]
    #[arg(long, global = true)]
    json: bool,
    /// Where the server is, as http://HOST:PORT [env: SPAWNERY_URL]
    #[arg(long, global = true, value_name = "URL")]
    url: Option<String>,
    /// The folder of the server's state [env: SPAWNERY_DATA]
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<String>,
    /// The configuration file [env: SPAWNERY_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<String>,
    /// When to colour [env: SPAWNERY_COLOR, NO_COLOR]
    #[arg(long, global = true, value_name = "WHEN", value_parser = word_of(&COLORS))]
    color: Option<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Up(commands::up::Up),
    Server(commands::server::Server),
    Agent(commands::agent::Agent),
    Apply(commands::apply::Apply),
    Check(commands::check::Check),
    Diff(commands::diff::Diff),
    Remove(commands::remove::Remove),
    Run(commands::run::Run),
    Session(commands::session::Session),
    Services(commands::services::Services),
    Jobs(commands::jobs::Jobs),
    Instances(commands::instances::Instances),
    Environment(commands::environment::Environment),
    Secret(commands::secret::Secret),
    Token(commands::token::Token),
    Volume(commands::volume::Volume),
    Nodes(commands::nodes::Nodes),
    Logs(commands::logs::Logs),
    Events(commands::events::Events),
    History(commands::history::History),
    Drain(commands::drain::Drain),
    Doctor(commands::doctor::Doctor),
    Journal(commands::journal::Journal),
    Config(commands::config::Config),
    Completions(commands::completions::Completions),
    Schema(commands::schema::Schema),
}

/// What a server and its node are started with.
#[derive(Debug, Args)]
pub(crate) struct ServerOptions {
    /// Where the API and the gateway listen; port 0 takes a free one. The API is plain HTTP
    /// [default: 127.0.0.1:9000] [env: SPAWNERY_LISTEN]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<String>,
    /// Where agents of other machines are taken in, over TLS; without, none are
    /// [env: SPAWNERY_LINK_LISTEN]
    #[arg(long, value_name = "ADDR:PORT")]
    link_listen: Option<String>,
    /// The secret that tokens are signed with (HS256), 32 bytes or more; better as a variable or in
    /// a file, because everybody on this machine can see options [default: a random one in the data
    /// folder] [env: SPAWNERY_JWT_SECRET]
    #[arg(long, value_name = "SECRET", conflicts_with = "jwt_secret_file")]
    jwt_secret: Option<String>,
    /// The file that holds that secret, readable by its owner only [env: SPAWNERY_JWT_SECRET_FILE]
    #[arg(long, value_name = "FILE")]
    jwt_secret_file: Option<String>,
    /// A file or URL with the public keys (JWKS: EdDSA, ES256, RS256) of others who make tokens for
    /// this server; may be repeated [env: SPAWNERY_JWKS]
    #[arg(long, value_name = "FILE|URL")]
    jwks: Vec<String>,
    /// Who has to have made a token: its claim iss [env: SPAWNERY_JWT_ISSUER]
    #[arg(long, value_name = "ISSUER")]
    jwt_issuer: Option<String>,
    /// For whom a token has to be: its claim aud; without, it must not have one
    /// [env: SPAWNERY_JWT_AUDIENCE]
    #[arg(long, value_name = "AUDIENCE")]
    jwt_audience: Option<String>,
    #[command(flatten)]
    front: FrontOptions,
    #[command(flatten)]
    sessions: SessionOptions,
    #[command(flatten)]
    node: NodeOptions,
}

/// What sessions are like whose template does not say otherwise.
#[derive(Debug, Args)]
struct SessionOptions {
    /// How long before the end of its longest duration a session is warned [default: 10m]
    /// [env: SPAWNERY_DURATION_WARNING]
    #[arg(long, value_name = "TIME")]
    duration_warning: Option<String>,
    /// How long before it is ended for being idle a session is warned [default: 1m]
    /// [env: SPAWNERY_IDLE_WARNING]
    #[arg(long, value_name = "TIME")]
    idle_warning: Option<String>,
    /// How long an ended session stays listed [default: 1h] [env: SPAWNERY_STALE_PERIOD]
    #[arg(long, value_name = "TIME")]
    stale_period: Option<String>,
    /// The runtime of sessions whose template names none [default: process]
    /// [env: SPAWNERY_DEFAULT_RUNTIME]
    #[arg(long, value_name = "RUNTIME", value_parser = word_of(&RUNTIMES))]
    default_runtime: Option<String>,
}

/// What the front door is started with.
#[derive(Debug, Args)]
struct FrontOptions {
    /// A proxy before this server whose word on its clients is believed; may be repeated
    /// [env: SPAWNERY_TRUSTED_PROXIES]
    #[arg(long = "trusted-proxy", id = "trusted_proxies", value_name = "NETWORK")]
    trusted_proxies: Vec<String>,
    /// Where the API and the gateway listen over TLS, beside --listen; for it, --tls-cert or --acme
    /// is needed [env: SPAWNERY_TLS_LISTEN]
    #[arg(long, value_name = "ADDR:PORT")]
    tls_listen: Option<String>,
    /// Where those who come without TLS are sent to it, and certificate authorities look for
    /// proofs: port 80 of the outside [env: SPAWNERY_REDIRECT_LISTEN]
    #[arg(long, value_name = "ADDR:PORT")]
    redirect_listen: Option<String>,
    /// A certificate chain in PEM form, read again when it changes; may be repeated
    /// [env: SPAWNERY_TLS_CERT]
    #[arg(long, value_name = "FILE")]
    tls_cert: Vec<String>,
    /// The private key of the certificate at the same place in the list
    /// [env: SPAWNERY_TLS_KEY]
    #[arg(long, value_name = "FILE")]
    tls_key: Vec<String>,
    /// A domain below which services and sessions have their names, beside localhost; may be
    /// repeated [env: SPAWNERY_DOMAINS]
    #[arg(long = "domain", id = "domains", value_name = "DOMAIN")]
    domains: Vec<String>,
    /// A name for which a certificate is ordered by ACME, such as example.org or *.example.org;
    /// may be repeated [env: SPAWNERY_ACME]
    #[arg(long, value_name = "NAME")]
    acme: Vec<String>,
    /// How a certificate authority is shown that names are ours: http, tls, or dns by --acme-hook
    /// [default: tls] [env: SPAWNERY_ACME_PROOF]
    #[arg(long, value_name = "PROOF", value_parser = word_of(&PROOFS))]
    acme_proof: Option<String>,
    /// The program that sets DNS records: PROGRAM set|remove NAME VALUE [env: SPAWNERY_ACME_HOOK]
    #[arg(long, value_name = "PROGRAM")]
    acme_hook: Option<String>,
    /// The directory of the certificate authority [default: Let's Encrypt]
    /// [env: SPAWNERY_ACME_DIRECTORY]
    #[arg(long, value_name = "URL")]
    acme_directory: Option<String>,
    /// Whom the certificate authority may write to; may be repeated [env: SPAWNERY_ACME_CONTACTS]
    #[arg(long = "acme-contact", id = "acme_contacts", value_name = "mailto:ADDRESS")]
    acme_contacts: Vec<String>,
    /// A further root, in PEM form, that is trusted for the certificate authority's own server
    /// [env: SPAWNERY_ACME_ROOT]
    #[arg(long, value_name = "FILE")]
    acme_root: Option<String>,
}

/// What a node is started with.
#[derive(Debug, Args)]
pub(crate) struct NodeOptions {
    /// What to call this node [default: the machine's name] [env: SPAWNERY_NAME]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// A label of this node, for constraints; may be repeated [env: SPAWNERY_LABELS]
    #[arg(long = "label", id = "labels", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// The memory that instances may reserve together [default: what this machine has]
    /// [env: SPAWNERY_MEMORY_TOTAL]
    #[arg(long, value_name = "AMOUNT")]
    memory_total: Option<String>,
    /// The cores that instances may reserve together [default: what this machine has]
    /// [env: SPAWNERY_CPU_TOTAL]
    #[arg(long, value_name = "CORES")]
    cpu_total: Option<String>,
    /// Let workloads share this machine's network, if they ask for it
    /// [env: SPAWNERY_ALLOW_HOST_NETWORK]
    #[arg(long)]
    allow_host_network: bool,
    /// A device that workloads may use, if they ask for it; may be repeated
    /// [env: SPAWNERY_ALLOW_DEVICES]
    #[arg(long = "allow-device", id = "allow_devices", value_name = "PATH")]
    allow_devices: Vec<String>,
    /// A folder that workloads may mount, exactly as named here; may be repeated
    /// [env: SPAWNERY_ALLOW_MOUNTS]
    #[arg(long = "allow-mount", id = "allow_mounts", value_name = "PATH")]
    allow_mounts: Vec<String>,
    /// The OCI runtime for `runtime: oci`, such as runc or /usr/bin/runsc [default: runc]
    /// [env: SPAWNERY_OCI_RUNTIME]
    #[arg(long, value_name = "COMMAND")]
    oci_runtime: Option<String>,
    /// The socket of the Docker engine for `runtime: docker` [default: /var/run/docker.sock]
    /// [env: SPAWNERY_DOCKER_SOCKET]
    #[arg(long, value_name = "PATH")]
    docker_socket: Option<String>,
    /// What environments may take on disk; beyond it, unused ones go [default: 20G]
    /// [env: SPAWNERY_ENVIRONMENTS_SIZE]
    #[arg(long, value_name = "AMOUNT")]
    environments_size: Option<String>,
    /// What commands of builds reach that may use the network: the internet, or all that this
    /// machine can [default: private] [env: SPAWNERY_BUILD_NETWORK]
    #[arg(long, value_name = "NETWORK", value_parser = word_of(&BUILD_NETWORKS))]
    build_network: Option<String>,
    /// The mirror for Debian packages [default: what this machine uses]
    /// [env: SPAWNERY_DEBIAN_MIRROR]
    #[arg(long, value_name = "URL")]
    debian_mirror: Option<String>,
    /// The index for Python packages of recipes that name none [env: SPAWNERY_PYTHON_INDEX]
    #[arg(long, value_name = "URL")]
    python_index: Option<String>,
    /// The program uv, for Python environments [default: uv] [env: SPAWNERY_UV]
    #[arg(long, value_name = "PATH")]
    uv: Option<String>,
    /// A registry of images that is spoken to without encryption; may be repeated
    /// [env: SPAWNERY_HTTP_REGISTRIES]
    #[arg(long = "http-registry", id = "http_registries", value_name = "HOST:PORT")]
    http_registries: Vec<String>,
    /// A folder with git repositories that recipes may name by file://; may be repeated
    /// [env: SPAWNERY_GIT_FOLDERS]
    #[arg(long = "git-folder", id = "git_folders", value_name = "PATH")]
    git_folders: Vec<String>,
    /// How much to tell on standard error [default: info] [env: SPAWNERY_LOG_LEVEL]
    #[arg(long, value_name = "LEVEL", value_parser = word_of(&LOG_LEVELS))]
    log_level: Option<String>,
}

/// One of `words`, as text.
pub(crate) fn word_of(
    words: &'static [&'static str],
) -> impl clap::builder::TypedValueParser<Value = String> {
    clap::builder::PossibleValuesParser::new(words.iter().copied())
}
