//! `spawnery token`: who may call, and what they may do.

use super::Outcome;
use crate::context::Context;
use crate::error::CliError;
use crate::exit::ExitCode;
use crate::table::{Cell, Table};
use crate::words::{age, count, until};
use owo_colors::Style;
use serde_json::{Map, Value};
use spawnery_client::api::{CallerView, RevokeTokensRequest, TokenRequest, TokenView};
use spawnery_model::Name;

/// Make tokens for others, list them without what is secret, and revoke them
#[derive(Debug, clap::Args)]
pub(crate) struct Token {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, clap::Subcommand)]
enum TokenCommand {
    /// Make a token, and print it: it is shown this once
    Create(Box<Create>),
    /// List the tokens that were made here and have not expired, without the tokens themselves
    List,
    /// Revoke a token at once: what is open in its name ends
    Revoke(Revoke),
    /// Show what your own token allows
    Show,
}

/// What a token says.
#[derive(Debug, clap::Args)]
struct Create {
    /// For whom it speaks: a user, a program
    #[arg(short, long, value_name = "SUBJECT")]
    subject: String,
    /// What it may do: admin, operator, user or viewer; may be repeated
    #[arg(short, long = "role", id = "token_roles", value_name = "ROLE", default_value = "user")]
    role: Vec<String>,
    /// A session template that it may use; may be repeated; without, all
    #[arg(short, long = "template", id = "token_templates", value_name = "TEMPLATE")]
    template: Vec<String>,
    /// For how long it can be used, such as 24h or 30d
    #[arg(short, long, value_name = "TIME", default_value = "24h")]
    expires: String,
    /// The most memory of one session, such as 512M
    #[arg(long = "memory", id = "limit_memory", value_name = "AMOUNT")]
    memory: Option<String>,
    /// The most cores of one session, such as 0.5
    #[arg(long = "cpu", id = "limit_cpu", value_name = "CORES")]
    cpu: Option<String>,
    /// The most that one session may write to its own disk
    #[arg(long = "disk", id = "limit_disk", value_name = "AMOUNT")]
    disk: Option<String>,
    /// The most processes of one session
    #[arg(long = "pids", id = "limit_pids", value_name = "COUNT")]
    pids: Option<String>,
    /// The most clients of one session at once
    #[arg(long = "clients", value_name = "COUNT")]
    clients: Option<String>,
    /// The longest that one session may live, such as 6h
    #[arg(long = "duration", value_name = "TIME")]
    duration: Option<String>,
    /// The longest that one session may be idle, such as 10m
    #[arg(long = "idle-timeout", value_name = "TIME")]
    idle_timeout: Option<String>,
    /// The most that one session may send and receive
    #[arg(long = "transfer", value_name = "AMOUNT")]
    transfer: Option<String>,
    /// The most sessions at once
    #[arg(long = "sessions", value_name = "COUNT")]
    sessions: Option<String>,
    /// The most sessions that are created within a minute
    #[arg(long = "creates-per-minute", value_name = "COUNT")]
    creates_per_minute: Option<String>,
}

/// Which tokens.
#[derive(Debug, clap::Args)]
struct Revoke {
    /// The token's id, or its first four characters or more
    #[arg(value_name = "ID", required_unless_present = "subject")]
    id: Option<String>,
    /// All tokens of this subject that have been issued so far, wherever they were made
    #[arg(short, long, value_name = "SUBJECT", conflicts_with = "id")]
    subject: Option<String>,
    /// The id is that of a token which was not made here (its claim jti)
    #[arg(long)]
    foreign: bool,
    /// End the sessions of the subject too
    #[arg(long)]
    end_sessions: bool,
}

impl Token {
    pub(crate) async fn run(self, context: &Context) -> Outcome {
        match self.command {
            TokenCommand::Create(request) => create(context, *request).await,
            TokenCommand::List => list(context).await,
            TokenCommand::Revoke(request) => revoke(context, request).await,
            TokenCommand::Show => show(context).await,
        }
    }
}

async fn create(context: &Context, wanted: Create) -> Outcome {
    let life = spawnery_manifest::parse_duration(&wanted.expires).map_err(|_| {
        let message = format!("--expires: `{}` is not a time", wanted.expires);
        CliError::usage(message).hint("give it as 24h or 30d")
    })?;
    let name = |text: &String| {
        Name::new(text.as_str()).map_err(|error| {
            CliError::usage(format!("--template: `{text}` is not a name: {error}"))
        })
    };
    let templates = wanted.template.iter().map(name).collect::<Result<Vec<Name>, CliError>>()?;
    let request = TokenRequest {
        limits: limits(&wanted),
        subject: wanted.subject,
        roles: wanted.role,
        templates: (!templates.is_empty()).then_some(templates),
        life_ms: Some(life.0),
    };
    let created = context.client()?.create_token(&request).await?;
    if context.output.is_json {
        context.output.json(&created)?;
        return Ok(ExitCode::OK);
    }
    context.output.line(&created.token)?;
    crate::output::note(format!(
        "token {} of {} ({}), good for {}; revoke it with `spawnery token revoke {}`",
        created.id,
        created.subject,
        created.roles.join(", "),
        until(created.expires_at_ms),
        created.id
    ));
    Ok(ExitCode::OK)
}

/// The limits as the server reads them: as they were given.
fn limits(wanted: &Create) -> Option<Value> {
    let given = [
        ("memory", &wanted.memory),
        ("cpu", &wanted.cpu),
        ("disk", &wanted.disk),
        ("pids", &wanted.pids),
        ("clients", &wanted.clients),
        ("duration", &wanted.duration),
        ("idle_timeout", &wanted.idle_timeout),
        ("transfer", &wanted.transfer),
        ("sessions", &wanted.sessions),
        ("creates_per_minute", &wanted.creates_per_minute),
    ];
    let given = given.into_iter().filter_map(|(name, value)| {
        let text = value.as_ref()?;
        Some((name.to_owned(), Value::String(text.clone())))
    });
    let limits: Map<String, Value> = given.collect();
    (!limits.is_empty()).then_some(Value::Object(limits))
}

async fn list(context: &Context) -> Outcome {
    let tokens = context.client()?.tokens().await?;
    let none = "There are no tokens: make one with `spawnery token create --subject NAME`.";
    context.output.data(&tokens, || table(&tokens), none)?;
    Ok(ExitCode::OK)
}

fn table(tokens: &[TokenView]) -> Table {
    let head = ["TOKEN", "SUBJECT", "ROLES", "TEMPLATES", "STATE", "MADE", "EXPIRES IN", "BY"];
    let mut table = Table::new(&head);
    for token in tokens {
        let state = match token.revoked {
            true => Cell::styled("revoked", Style::new().red()),
            false => Cell::styled("good", Style::new().green()),
        };
        table.row([
            token.id.as_str().into(),
            token.subject.as_str().into(),
            token.roles.join(", ").into(),
            names(token.templates.as_deref()).into(),
            state,
            age(token.created_at_ms).into(),
            until(token.expires_at_ms).into(),
            token.by.as_str().into(),
        ]);
    }
    table
}

fn names(templates: Option<&[Name]>) -> String {
    match templates {
        None => "all".to_owned(),
        Some([]) => "none".to_owned(),
        Some(names) => names.iter().map(Name::as_str).collect::<Vec<_>>().join(", "),
    }
}

async fn revoke(context: &Context, wanted: Revoke) -> Outcome {
    let what = match (&wanted.id, &wanted.subject) {
        (_, Some(subject)) => format!("all tokens of {subject}"),
        (id, None) => format!("token {}", id.as_deref().unwrap_or_default()),
    };
    let request = RevokeTokensRequest {
        id: wanted.id,
        subject: wanted.subject,
        foreign: wanted.foreign,
        end_sessions: wanted.end_sessions,
    };
    let reply = context.client()?.revoke_tokens(&request).await?;
    let ending = match (wanted.end_sessions, usize::try_from(reply.sessions_ending)) {
        (true, Ok(sessions)) => format!("; ending {}", count(sessions, "session")),
        _ => String::new(),
    };
    context.output.said(&reply, &format!("revoked {what}{ending}"))?;
    Ok(ExitCode::OK)
}

async fn show(context: &Context) -> Outcome {
    let caller = context.client()?.caller().await?;
    context.output.said(&caller, &described(&caller).join("\n"))?;
    Ok(ExitCode::OK)
}

/// What a token allows, line by line.
fn described(caller: &CallerView) -> Vec<String> {
    let mut lines = vec![
        format!("subject    {}", caller.subject),
        format!("roles      {}", caller.roles.join(", ")),
        format!("templates  {}", names(caller.templates.as_deref())),
    ];
    for (name, value) in caller.limits.as_object().into_iter().flatten() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        lines.push(format!("at most    {name} {text}"));
    }
    lines.extend(caller.id.as_ref().map(|id| format!("token      {id}")));
    lines.extend(caller.expires_at_ms.map(|at| format!("expires    in {}", until(at))));
    lines
}
