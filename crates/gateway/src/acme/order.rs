//! One order: the names are proved, and the certificate is fetched.

use super::{AcmeError, Proof, Proofs, Settings, store::Store};
use crate::tls::Certificates;
use crate::tls::certificates::proof;
use instant_acme::{
    Account, AuthorizationStatus, ChallengeHandle, ChallengeType, Identifier, NewAccount, NewOrder,
    Order, OrderStatus, RetryPolicy,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use std::path::Path;
use std::time::Duration;
use tokio::process::Command;

/// How long an authority may take to look at the proofs, or to sign.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long a hook may take: some wait until their record is seen by all.
const HOOK_TIME_MAX: Duration = Duration::from_secs(600);

/// Something to be undone after the proof.
enum Shown {
    Http { token: String },
    Tls { name: String },
    Dns { name: String, value: String },
}

/// Orders a certificate and keeps it in the store.
pub(super) async fn order(
    settings: &Settings,
    store: &Store,
    certificates: &Certificates,
    proofs: &Proofs,
) -> Result<(), AcmeError> {
    let account = account(settings, store).await?;
    let names: Vec<Identifier> =
        settings.names.iter().map(|name| Identifier::Dns(name.clone())).collect();
    let mut order = account.new_order(&NewOrder::new(&names)).await?;
    let mut shown = Vec::new();
    let show = Show { settings, certificates, proofs };
    let ordered = fetch(&mut order, &show, &mut shown, store).await;
    for it in shown {
        show.undo(it).await;
    }
    ordered
}

async fn account(settings: &Settings, store: &Store) -> Result<Account, AcmeError> {
    let builder = match &settings.root {
        Some(root) => Account::builder_with_root(root)?,
        None => Account::builder()?,
    };
    if let Some(known) = store.load_account()? {
        return Ok(builder.from_credentials(known).await?);
    }
    let contacts: Vec<&str> = settings.contacts.iter().map(String::as_str).collect();
    let wanted = NewAccount {
        contact: &contacts,
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let (account, credentials) = builder.create(&wanted, settings.directory.clone(), None).await?;
    store.save_account(&credentials)?;
    Ok(account)
}

async fn fetch(
    order: &mut Order,
    show: &Show<'_>,
    shown: &mut Vec<Shown>,
    store: &Store,
) -> Result<(), AcmeError> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let name = authorization.identifier().to_string();
        let kind = match show.settings.proof {
            Proof::Http => ChallengeType::Http01,
            Proof::Tls => ChallengeType::TlsAlpn01,
            Proof::Dns { .. } => ChallengeType::Dns01,
        };
        let challenge = authorization.challenge(kind);
        let mut challenge = challenge.ok_or(AcmeError::NoSuchProof { name })?;
        shown.push(show.show(&challenge).await?);
        challenge.set_ready().await?;
    }
    let policy = RetryPolicy::default().timeout(PATIENCE);
    if order.poll_ready(&policy).await? != OrderStatus::Ready {
        let reason = why_not(order).await;
        return Err(AcmeError::NotProved { reason });
    }
    let key = order.finalize().await?;
    let chain = order.poll_certificate(&policy).await?;
    store.save(&chain, &key)
}

/// What the authority says of the proofs that it did not accept.
async fn why_not(order: &mut Order) -> String {
    let mut authorizations = order.authorizations();
    let mut reasons = Vec::new();
    while let Some(Ok(authorization)) = authorizations.next().await {
        let errors = authorization.challenges.iter().filter_map(|it| it.error.as_ref());
        reasons.extend(errors.map(ToString::to_string));
    }
    if reasons.is_empty() { "it gives no reason".to_owned() } else { reasons.join("; ") }
}

/// Shows proofs, and takes them back.
struct Show<'a> {
    settings: &'a Settings,
    certificates: &'a Certificates,
    proofs: &'a Proofs,
}

impl Show<'_> {
    async fn show(&self, challenge: &ChallengeHandle<'_>) -> Result<Shown, AcmeError> {
        let answer = challenge.key_authorization();
        let name = challenge.identifier().to_string();
        match &self.settings.proof {
            Proof::Http => {
                let token = challenge.token.clone();
                self.proofs.set(&token, Some(answer.as_str().to_owned()));
                Ok(Shown::Http { token })
            }
            Proof::Tls => {
                let mut parameters = rcgen::CertificateParams::new(vec![name.clone()])?;
                let extension =
                    rcgen::CustomExtension::new_acme_identifier(answer.digest().as_ref());
                parameters.custom_extensions = vec![extension];
                let key = rcgen::KeyPair::generate()?;
                let made = parameters.self_signed(&key)?;
                let key = PrivatePkcs8KeyDer::from(key.serialize_der());
                let proof = proof(made.der().clone(), key.into())?;
                self.certificates.set_proof(&name, Some(proof));
                Ok(Shown::Tls { name })
            }
            Proof::Dns { hook } => {
                // A proof for all names below a domain is one for the domain.
                let name = format!("_acme-challenge.{}", name.trim_start_matches("*."));
                let value = answer.dns_value();
                run(hook, ["set", &name, &value]).await?;
                Ok(Shown::Dns { name, value })
            }
        }
    }

    async fn undo(&self, shown: Shown) {
        match (shown, &self.settings.proof) {
            (Shown::Http { token }, _) => self.proofs.set(&token, None),
            (Shown::Tls { name }, _) => self.certificates.set_proof(&name, None),
            (Shown::Dns { name, value }, Proof::Dns { hook }) => {
                if let Err(error) = run(hook, ["remove", &name, &value]).await {
                    tracing::warn!("a proof in DNS was not removed: {error}");
                }
            }
            (Shown::Dns { .. }, _) => unreachable!("only a hook sets records"),
        }
    }
}

async fn run(hook: &Path, arguments: [&str; 3]) -> Result<(), AcmeError> {
    let failed = |reason: String| AcmeError::Hook { hook: hook.display().to_string(), reason };
    let mut command = Command::new(hook);
    command.args(arguments).stdin(std::process::Stdio::null()).kill_on_drop(true);
    let ended = tokio::time::timeout(HOOK_TIME_MAX, command.output()).await;
    let output = ended.map_err(|_| failed("it took too long".to_owned()))?;
    let output = output.map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().chars().take(400).collect::<String>();
    Err(failed(format!("{}: {said}", output.status)))
}
